"""The record of what each switch is worth: fair turns, and the same mathematics in all of them."""

from collections import Counter
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
pytest.importorskip("PIL", reason="files are decoded with Pillow")
import switches  # noqa: E402

from minidiff.data.shapes import shapes  # noqa: E402

CPU = torch.device("cpu")
TINY = replace(switches.SMALL, batch=8, network=replace(
    switches.SMALL.network, base=8, multipliers=(1, 2), attention=(16,), groups=4))
RECORD = switches.RECORDS / "switches-cpu.csv"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Three turns at a tiny size. Nothing is compiled: that takes minutes, and a compiler."""
    out = tmp_path / "records" / "switches.csv"
    monkeypatch.setitem(switches.RECIPES, "small", TINY)
    monkeypatch.setattr(switches, "IMAGES", 32)

    def call(*words):
        switches.main(["--device", "cpu", "--rounds", "3", "--without", "compile",
                       "--out", str(out), *words])
        return switches.read(out)

    return call


def losses(rows):
    """{contender: its loss in every turn}."""
    names = {row.contender for row in rows if row.kind == "step"}
    return {name: [row.loss for row in rows if row.contender == name] for name in names}


def agree(rows, tolerance=0.03):
    """Whether all contenders compute the same, to a relative tolerance."""
    plain = losses(rows)["none on"]
    return all(one == pytest.approx(plain, rel=tolerance) for one in losses(rows).values())


def test_every_contender_has_its_turns_and_the_same_mathematics(run):
    rows = run()
    counts = Counter((row.kind, row.contender) for row in rows)
    assert set(counts.values()) == {3}
    steps = ["as run", "bf16", "channels_last", "fused", "resident", "none on"]
    assert [row.contender for row in rows if (row.kind, row.turn) == ("step", 1)] == steps
    assert {name for kind, name in counts if kind == "part"} == {
        "Adam", "fused Adam", "clip", "average", "batch, resident", "batch, files"}
    assert agree(rows)
    exact = losses(rows)
    assert exact["bf16"] == pytest.approx(exact["none on"], rel=1e-3)  # both in float32
    assert exact["as run"] != exact["bf16"]
    assert len(set(exact["as run"])) == 3  # it trains


def test_other_mathematics_would_be_seen(run, monkeypatch):
    honest = switches.Files.open
    monkeypatch.setattr(switches.Files, "open", lambda self, i: honest(self, i) / 2 + 0.5)
    assert not agree(run())


def test_one_switch_is_turned_over():
    usual = switches.switched(TINY, CPU)
    assert usual == {"bf16": True, "channels_last": True, "compile": False, "fused": False,
                     "resident": True}
    for name, on in switches.contenders(TINY, CPU).items():
        turned = [switch for switch in usual if on[switch] != usual[switch]]
        assert turned == {"as run": [], "none on": ["bf16", "channels_last", "resident"]}.get(
            name, [name])
    assert switches.switched(switches.FAST, torch.device("cuda")) == dict.fromkeys(usual, True)


@pytest.mark.parametrize("workers", [1, 3])
def test_files_are_the_images(workers):
    images, _ = shapes("train", 5)
    files = switches.Files(images, workers)
    index = torch.tensor([4, 0, 0, 3])
    there = torch.from_numpy(images)[index].float() / 127.5 - 1
    assert len(files) == 5 and torch.equal(files.index_select(0, index), there)


def test_the_record_is_fair():
    rows = switches.read(RECORD)
    assert {(row.threads, row.recipe, row.batch) for row in rows} == {(1, "small", 64)}
    assert len({(row.device, row.torch) for row in rows}) == 1
    steps = [row for row in rows if row.kind == "step"]
    assert len(set(Counter(row.contender for row in rows).values())) == 1
    assert {row.contender for row in steps} >= {"as run", "bf16", "channels_last", "none on"}
    assert agree(rows)


@pytest.mark.parametrize("spoil, place", [
    (lambda text: text.replace("seconds", "sekunden"), "switches.csv"),
    (lambda text: text.replace(",0.5,", ",-0.5,", 1), "switches.csv, line 2"),
    (lambda text: text.replace(",step,", ",stop,", 1), "switches.csv, line 2"),
    (lambda text: text + "AMD\n", "switches.csv, line 4"),
])
def test_a_damaged_record_is_refused_by_name(tmp_path, spoil, place):
    path = tmp_path / "switches.csv"
    row = switches.Row("CPU", 1, "2", "small", 64, "step", "as run", "bf16", 0, 0.5, 0.25)
    switches.write(path, [row, row._replace(turn=1)])
    text = path.read_text()
    assert switches.read(path)[1].turn == 1 and spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(ValueError) as error:
        switches.read(path)
    assert place in str(error.value)


def test_a_record_is_named_after_its_device(monkeypatch):
    assert switches.path_for(CPU) == RECORD
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200 (SXM)")
    assert switches.path_for(torch.device("cuda")).name == "switches-nvidia-h200-sxm.csv"
