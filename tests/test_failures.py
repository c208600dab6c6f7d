"""The records behind chapter 9's failures and its best Gaussian: complete, resumed, and refused
when damaged."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
Image = pytest.importorskip("PIL.Image", reason="Pillow writes the samples")
import failures  # noqa: E402
import spectrum  # noqa: E402
from conftest import CHAPTERS  # noqa: E402


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Two steps of each arm from one seed, judged in passing."""
    out = tmp_path / "records" / "failures.csv"
    monkeypatch.setattr(failures, "JUDGED", 4)

    def call(*words):
        failures.main(["--steps", "2", "--seeds", "1", "--out", str(out), *words])
        return out

    return call


def test_a_row_for_each_look_and_a_picture_for_each_network(run):
    out = run()
    rows = failures.read(out)
    kinds = [(arm, "ema") for arm in failures.ARMS] + [("right", "last")]
    assert sorted((row.arm, row.weights, row.step) for row in rows) == sorted(
        (*kind, step) for kind in kinds for step in (1, 2))
    names = {"right", "right-last", "rate", "scaling", "few", "few-dropout"}
    assert {path.name for path in out.with_suffix("").iterdir()} == {f"{n}.png" for n in names}
    for path in out.with_suffix("").iterdir():
        assert Image.open(path).size == (80, 16)


def test_the_first_loss_is_that_of_saying_nothing(run):
    """At first the network says 0, so step 1 has the loss alpha² + sigma²·E x0², averaged over 64
    rows and images. Its standard deviation is below 0.03 (measured by 200 draws: 0.022)."""
    images = failures.split()[0]
    alpha, sigma = (part[1:] for part in (failures.RIGHT.table.alpha, failures.RIGHT.table.sigma))
    first = {row.arm: row.train for row in failures.read(run("--arms", "right", "scaling"))
             if row.step == 1 and row.weights == "ema"}
    for arm, numbers in {"right": images, "scaling": (images + 1) / 2}.items():
        silent = (alpha**2 + sigma**2 * (numbers**2).mean().item()).mean()
        assert abs(first[arm] - silent) < 0.1
    assert first["scaling"] < first["right"] - 0.1


def test_few_images_are_all_that_the_arm_sees(monkeypatch):
    """What comes after them isn't even a number, and `diffuse` refuses those."""
    monkeypatch.setattr(failures, "JUDGED", 4)
    images, labels, *new = failures.split()
    images[failures.FEW:] = float("nan")
    rows, _ = failures.trained("few", 0, 3, (images, labels, *new))
    assert np.isfinite([row.train for row in rows]).all() and len(rows) == 3
    with pytest.raises(ValueError, match="NaN"):
        failures.trained("right", 0, 3, (images, labels, *new))


def test_it_goes_on_where_it_stopped(run, monkeypatch):
    out = run("--arms", "right", "few")
    before, asked = failures.read(out), []
    monkeypatch.setattr(failures, "trained",
                        lambda arm, *rest: asked.append(arm) or (before[-1:], {}))
    run("--arms", "right", "few", "rate")
    assert asked == ["rate"] and failures.read(out)[:-1] == before
    assert not out.with_name("failures.csv.part").exists()


def test_the_same_again(run):
    first = run("--arms", "few, dropout").read_text()
    run("--arms", "few, dropout").unlink()
    assert run("--arms", "few, dropout").read_text() == first


@pytest.mark.parametrize("spoil, place", [
    (lambda text: text.replace("weights", "wights"), "failures.csv"),
    (lambda text: text[:-12], "failures.csv, line 3"),
    (lambda text: text.replace("right", "ripe", 1), "failures.csv, line 2"),
    (lambda text: text.replace(",1,", ",9,", 1), "failures.csv, line 2"),
    (lambda text: text + "right\n", "failures.csv, line 4"),
])
def test_a_damaged_record_is_refused_by_name(tmp_path, spoil, place):
    path = tmp_path / "failures.csv"
    failures.write(path, [failures.Row("right", 0, weights, 2, 1, 0.5, 0.25, 0.5, 0.75)
                          for weights in ("ema", "last")])
    text = path.read_text()
    assert len(failures.read(path)) == 2 and spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(ValueError) as error:
        failures.read(path)
    assert place in str(error.value)


def test_the_record_in_the_book_is_complete():
    rows = failures.read(CHAPTERS / "records" / "failures.csv")
    steps = failures.RIGHT.steps
    for arm in failures.ARMS:
        own = [row for row in rows if row.arm == arm and row.weights == "ema"]
        assert {row.seed for row in own} >= {0} and {row.steps for row in own} == {steps}
        assert max(row.step for row in own) == steps


def test_the_spectrum_is_of_the_images_and_their_mirror_images(monkeypatch):
    """In parts or at once, to rounding: no chance is in it."""
    images, held_out = (np.random.default_rng(seed).integers(0, 256, (n, 3, 2, 4), np.uint8)
                        for seed, n in ((0, 50), (1, 7)))
    both = np.concatenate([images, images[..., ::-1]]).reshape(100, -1) / 127.5 - 1
    covariance = np.cov(both, rowvar=False, bias=True)
    monkeypatch.setattr(spectrum, "AT_ONCE", 6)
    variance, along = spectrum.spectrum(images, held_out)
    assert np.allclose(variance, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9, atol=1e-12)
    apart = held_out.reshape(7, -1) / 127.5 - 1 - both.mean(axis=0)
    assert np.isclose(along.sum(), np.square(apart).sum(axis=1).mean(), rtol=1e-12)
    again, same = spectrum.spectrum(images, np.concatenate([images, images[..., ::-1]]))
    assert np.allclose(again, same, rtol=1e-9, atol=1e-12)


def test_its_file_says_whose_it_is(tmp_path, monkeypatch):
    images = np.random.default_rng(2).integers(0, 256, (20, 3, 2, 2), np.uint8)
    monkeypatch.setattr(spectrum, "data", lambda name: ((images, None), (images[:5], None)))
    out = tmp_path / "some" / "spectrum.csv"
    spectrum.main(["where/it/is", "--out", str(out)])
    head, names, *rows = out.read_text("utf-8").splitlines()
    assert head == "# is: 20 training images and their mirror images, 5 held out"
    assert names == "variance,held_out" and len(rows) == 12
    assert np.allclose(np.loadtxt(out, delimiter=",", skiprows=2).T,
                       spectrum.spectrum(images, images[:5]), rtol=1e-5)
    assert not out.with_name("spectrum.csv.part").exists()


def test_the_spectrum_in_the_book():
    """Of 3,072 numbers an image, each within [-1, 1] and so of a variance of at most one."""
    path = CHAPTERS / "records" / "cifar10-spectrum.csv"
    variance, held_out = np.loadtxt(path, delimiter=",", skiprows=2).T
    assert len(variance) == 3 * 32 * 32 and (np.diff(variance) <= 0).all()
    assert variance.min() >= 0 and variance.mean() < 1
    assert abs(held_out.mean() / variance.mean() - 1) < 0.1
