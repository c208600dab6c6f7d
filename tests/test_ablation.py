"""The record of what each part is worth: complete, resumed, and refused when damaged."""

import pytest

pytest.importorskip("torch", reason="the torch extra is not installed")
pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
import ablation  # noqa: E402


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Two steps of each arm from one seed, judged in passing."""
    out = tmp_path / "records" / "ablation.csv"
    monkeypatch.setattr(ablation, "SAMPLES", 10)
    monkeypatch.setattr(ablation, "LEVELS", (500,))

    def call(*words):
        ablation.main(["--steps", "2", "--seeds", "1", "--out", str(out), *words])
        return out

    return call


def test_a_row_for_each_arm_and_kind_of_weights(run):
    rows = ablation.read(run())
    assert {(row.arm, row.weights) for row in rows} == {
        (arm, weights) for arm in ablation.ARMS for weights in ("ema", "last")}
    assert len(rows) == 2 * len(ablation.ARMS) and {row.steps for row in rows} == {2}
    losses = {row.arm: row.loss for row in rows if row.weights == "last"}
    assert losses["no zero start"] > losses["full"]  # which begins by saying nothing
    assert len(set(losses.values())) > 3


def test_it_goes_on_where_it_stopped(run, monkeypatch):
    out = run("--arms", "full", "no skips")
    before, asked = ablation.read(out), []
    monkeypatch.setattr(ablation, "trained", lambda arm, *rest: asked.append(arm) or [])
    run("--arms", "full", "no skips", "no attention")
    assert asked == ["no attention"] and ablation.read(out) == before
    assert not out.with_name("ablation.csv.part").exists()


def test_the_same_again(run):
    first = run("--arms", "full").read_text()
    run("--arms", "full").unlink()
    assert run("--arms", "full").read_text() == first


@pytest.mark.parametrize("spoil, place", [
    (lambda text: text.replace("weights", "wights"), "ablation.csv: "),
    (lambda text: text[:-6], "ablation.csv, line 3"),
    (lambda text: text.replace("full", "fool", 1), "ablation.csv, line 2"),
    (lambda text: text.replace(",ema,", ",ema,-", 1), "ablation.csv, line 2"),
    (lambda text: text + "full\n", "ablation.csv, line 4"),
])
def test_a_damaged_record_is_refused_by_name(tmp_path, spoil, place):
    path = tmp_path / "ablation.csv"
    ablation.write(path, [ablation.Row("full", 2, 0, weights, 0.5, 0.25)
                          for weights in ("ema", "last")])
    text = path.read_text()
    assert len(ablation.read(path)) == 2 and spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(ValueError) as error:
        ablation.read(path)
    assert place.rstrip(": ") in str(error.value)
