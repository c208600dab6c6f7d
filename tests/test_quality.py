"""What the records of the samples say: of quality against price, and of the nearest neighbours."""

from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
import neighbours  # noqa: E402
import quality  # noqa: E402

from minidiff.classifier import Classifier, Config, features  # noqa: E402
from minidiff.data.shapes import shapes  # noqa: E402
from minidiff.evaluate import measured, scores  # noqa: E402
from minidiff.nn import EMA, UNet, checkpoint  # noqa: E402
from minidiff.recipes import SMALL  # noqa: E402
from minidiff.trained import keep_weights, load, pixels, samples  # noqa: E402

torch.set_num_threads(1)

TRAIN, TEST, N = 400, 60, 20
RECIPE = replace(SMALL, network=replace(SMALL.network, base=8, multipliers=(1, 1), attention=(),
                                        groups=4))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`(weights, classifier's weights)` of networks that nobody has trained."""
    folder = tmp_path_factory.mktemp("weights")
    network = UNet(RECIPE.network)
    with torch.no_grad():  # no weight is zero, so that labels matter
        for i, p in enumerate(network.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    keep_weights(folder / "weights-640.safetensors", 10, {"run": asdict(RECIPE)},
                 seen(EMA(network, 100.0), 640))
    judge = Classifier(Config(widths=(8, 8, 8), features=6))
    checkpoint.save(folder / "judge.safetensors", 0, {"classifier": asdict(judge.config)}, judge)
    return folder / "weights-640.safetensors", folder / "judge.safetensors"


def seen(ema, images):
    ema.seen = images
    return ema


@pytest.fixture(scope="module")
def judge(files):
    return quality.classifier.load(files[1])


@pytest.fixture(scope="module")
def drawn():
    return [shapes("train", TRAIN), shapes("test", TEST)]


@pytest.fixture
def run(files, drawn, tmp_path, monkeypatch):
    """One of the two tools on few images and few points."""
    for tool in (quality, neighbours):
        monkeypatch.setattr(tool, "data", lambda name: drawn)
    monkeypatch.setattr(quality, "PLAN", [("ddim", 2, 1.0), ("heun", 2, 1.0), ("ddim", 2, 3.0)])
    monkeypatch.setattr(neighbours, "STEPS", 2)

    def call(tool, **paths):
        out = paths.get("out", tmp_path / ("quality.csv" if tool is quality else ""))
        tool.main([str(files[0]), "here/shapes", "--n", str(N), "--classifier", str(files[1]),
                   "--out", str(out)])
        return out

    return call


# Quality against price.

def test_a_row_for_each_point_and_each_yardstick(run):
    rows = quality.read(run(quality))
    floor = [row for row in rows if row.what == "test"]
    assert [row.draw for row in floor] == [0, 1, 2]  # 60 test images make three draws of 20
    assert {row.what for row in rows if row.what not in quality.PLAN} >= set(quality.REAL)
    assert [(row.what, row.steps, row.w) for row in rows[-3:]] == quality.PLAN
    assert [row.nfe for row in rows[-3:]] == [2, 3, 4]
    assert {(row.data, row.images, row.n) for row in rows} == {("shapes", 640, N)}
    assert len({row.frechet for row in rows}) == len(rows)


def test_scores_are_evaluate_s(run, files, judge, drawn):
    rows = quality.read(run(quality))
    (train, _), (test, labels) = drawn
    reference = measured("", features(judge, train), features(judge, test))
    network, recipe = load(files[0])
    made = samples(network, recipe, N, 2, w=3.0)
    for row, images in ((rows[-1], pixels(made).transpose(0, 3, 1, 2)), (rows[0], test[:N])):
        score = scores(features(judge, images), reference)
        assert row.frechet == pytest.approx(score["frechet"], rel=1e-3)
        assert (row.precision, row.recall) == (score["precision"], score["recall"])
    agree = (quality.classifier.predict(judge, test[:N]) == labels[:N]).mean()
    assert rows[0].what == "test" and rows[0].agreement == pytest.approx(agree)


def test_each_image_agrees_with_its_own_label(judge, drawn, monkeypatch):
    (train, _), (test, _) = drawn
    reference = measured("shapes", features(judge, train), features(judge, test))
    labels = np.arange(N) % 10
    monkeypatch.setattr(quality.classifier, "predict", lambda *_: np.minimum(labels, 4))
    row = quality.judged(judge, reference, test[:N], labels, what="test", steps=0, nfe=0, w=0.0,
                         draw=0, images=640)
    assert row.agreement == 0.5


@pytest.mark.parametrize("point, nfe", [
    (("ddim", 8, 1), 8), (("dpmpp_2m", 16, 1), 16), (("ddpm", 32, 1), 32), (("heun", 8, 1), 15),
    (("dpmpp_2m", 16, 2), 32), (("heun", 4, 1.5), 14)])
def test_the_price_is_what_the_network_is_asked(point, nfe, files):
    assert quality.price(*point) == nfe
    solver, steps, w = point
    network, recipe = load(files[0])
    asked = []
    network.register_forward_hook(lambda *_: asked.append(1))
    samples(network, recipe, 1, steps, solver=solver, w=w)
    assert len(asked) == nfe


def test_it_goes_on_where_it_stopped(run, monkeypatch):
    out = run(quality)
    text, lines = out.read_text(), out.read_text().splitlines(keepends=True)
    asked, point = [], quality.point
    out.write_text("".join(lines[:-2] + lines[-1:]))
    monkeypatch.setattr(quality, "point", lambda *rest: asked.append(rest[-3:]) or point(*rest))
    assert sorted(run(quality).read_text().splitlines()) == sorted(text.splitlines())
    assert asked == [("heun", 2, 1.0)] and not out.with_name("quality.csv.part").exists()


def test_another_network_s_rows_are_not_kept(run):
    out = run(quality)
    text = out.read_text()
    out.write_text(text.replace(",640,", ",320,"))
    assert run(quality).read_text() == text


@pytest.mark.parametrize("spoil, place", [
    (lambda text: text.replace("recall", "recoil"), "quality.csv"),
    (lambda text: text[:-8], "quality.csv, line 2"),
    (lambda text: text.replace("ddim", "dimm"), "quality.csv, line 2"),
    (lambda text: text.replace("0.25", "1.25"), "quality.csv, line 2"),
    (lambda text: text + "ddim\n", "quality.csv, line 3"),
])
def test_a_damaged_record_is_refused_by_name(tmp_path, spoil, place):
    path = tmp_path / "quality.csv"
    row = quality.Row("ddim", 8, 8, 1.0, 0, "shapes", 640, 20, 3.5, 0.5, 0.25, 0.75)
    quality.write(path, [row])
    text = path.read_text()
    assert len(quality.read(path)) == 1 and spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(ValueError) as error:
        quality.read(path)
    assert str(error.value).startswith(str(tmp_path / place))


def test_the_committed_record():
    rows = quality.read(quality.OUT)
    assert [(row.what, row.steps, row.w) for row in rows if row.steps] == quality.PLAN
    assert {row.what for row in rows} >= set(quality.REAL)
    assert len({(row.data, row.images, row.n) for row in rows}) == 1


# Nearest neighbours.

def test_nearest_by_brute_force(monkeypatch):
    monkeypatch.setattr(neighbours, "AT_ONCE", 7)
    rng = np.random.default_rng(0)
    asked, known = rng.standard_normal((5, 3)), rng.standard_normal((40, 3)) + 100
    far, at = neighbours.nearest(asked, known, 4)
    true = np.sqrt(((asked[:, None] - known) ** 2).mean(-1))
    assert (at == true.argsort(1)[:, :4]).all()
    assert np.allclose(far, np.sort(true, axis=1)[:, :4], rtol=1e-4)


def test_copies_are_found_in_the_mirror_too(judge, drawn):
    (train, _), _ = drawn
    known = {"pixels": train.reshape(TRAIN, -1), "features": features(judge, train)}
    asked = np.stack([train[7], train[300], train[11, ..., ::-1]])
    for far, at in neighbours.measure(asked, known, judge).values():
        assert at.shape == (3, neighbours.NEAR)
        assert all(len(np.unique(row % TRAIN)) == neighbours.NEAR for row in at)  # none twice
        assert at[:, 0].tolist() == [7, 300, TRAIN + 11]
        # float32 leaves 1e-7 of the squares, so 3e-4 of the distances themselves
        assert (far[:, 0] < 2e-3 * far[:, -1]).all() and (np.diff(far) >= 0).all()


def test_the_records(run, drawn):
    from PIL import Image

    folder = run(neighbours)
    rows = neighbours.read(folder / "neighbours.csv")
    assert [row.crowd for row in rows] == [crowd for crowd in neighbours.CROWDS for _ in range(N)]
    by_crowd = {crowd: np.array([row[1:] for row in rows if row.crowd == crowd])
                for crowd in neighbours.CROWDS}
    # noise of 8 grey levels, rounded and cut off at 0 and 255, is not stronger; only one of the
    # 800 images is so near
    assert (by_crowd["noisy"][:, 0] < 8.3).all() and (by_crowd["noisy"][:, 1] < 0.6).all()
    assert np.median(by_crowd["test"][:, 0]) > 15 and np.median(by_crowd["moved"][:, 0]) > 8.3
    assert all((part[:, 1::2] <= 1.0001).all() for part in by_crowd.values())
    picture = np.asarray(Image.open(folder / "neighbours.png").convert("RGB"))
    assert picture.shape == (24 + 640, 90 + 2 * (7 * 32 + 2 * 4), 3)
    assert (picture[:24] < 128).any() and (picture[24:, :90] < 128).any()  # words
    assert sorted(path.name for path in folder.iterdir()) == ["neighbours.csv", "neighbours.png"]


def test_the_sheet_shows_who_was_found(drawn):
    (train, _), (test, _) = drawn
    at = np.array([[3, TRAIN + 5, 6], [0, 1, TRAIN + 2]])
    picture = neighbours.sheet(test[:2], train, {"pixels": (None, at), "features": (None, at + 1)},
                               count=2)
    assert picture.shape == (64, 7 * 32 + 8, 3)
    assert (picture[:32, :32] == test[0].transpose(1, 2, 0)).all()
    assert (picture[:32, 36 + 32:36 + 64] == train[5].transpose(1, 2, 0)[:, ::-1]).all()
    assert (picture[32:, 36 + 96 + 4:][:, :32] == train[1].transpose(1, 2, 0)).all()


def test_a_damaged_record_of_distances_is_refused(tmp_path):
    path = tmp_path / "neighbours.csv"
    neighbours.write(path, [neighbours.Row("test", 20.0, 0.9, 0.5, 0.8)])
    assert len(neighbours.read(path)) == 1
    text = path.read_text()
    for spoilt in (text.replace("test", "toast"), text.replace("0.9", "-0.9"), text[:-6] + "\n"):
        path.write_text(spoilt)
        with pytest.raises(ValueError, match="line 2"):
            neighbours.read(path)


def test_the_committed_distances():
    rows = neighbours.read(neighbours.OUT / "neighbours.csv")
    assert {row.crowd for row in rows} == set(neighbours.CROWDS)
    assert (neighbours.OUT / "neighbours.png").stat().st_size <= 90_000
