"""Scores of made images and of real ones: against their definitions, and as the command tells them.

The judge is a classifier that was never trained: its weights are drawn from a seed, so its features
are random but fixed functions of an image, continuous in every pixel, as any judge's are.
"""

import json
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

import minidiff.evaluate
from minidiff import metrics
from minidiff.evaluate import Judge, beside, floor, judged, measured, scores, yardsticks

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
import evaluate  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

from minidiff import classifier  # noqa: E402
from minidiff.data.shapes import SIZES, shapes  # noqa: E402
from minidiff.nn import checkpoint  # noqa: E402
from minidiff.recipes import TINY  # noqa: E402
from minidiff.run import run  # noqa: E402
from minidiff.trained import load, pixels, samples  # noqa: E402

torch.set_num_threads(1)

D, TRAIN, TEST, N = 8, 200, 90, 40
RECIPE = replace(
    TINY, network=replace(TINY.network, size=32, channels=3, base=4, attention=(), groups=2),
    schedule="linear", T=4, batch=8, steps=2, lr=0.05, warmup=0, decay=0, half_life=1000.0)


def gaussians(n, seed=0, scale=1.0, d=5):
    return scale * np.random.default_rng(seed).standard_normal((n, d))


@pytest.fixture(scope="module")
def network():
    config = classifier.Config(widths=(8, 8, 8), features=D)
    return classifier.Classifier(config, torch.Generator().manual_seed(0)).eval()


@pytest.fixture(scope="module")
def judge(network):
    return Judge("made up", lambda images: classifier.features(network, images),
                 lambda images: classifier.predict(network, images))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    """A run of two steps on the drawn shapes, with a look after each; and a judge's weights."""
    folder = tmp_path_factory.mktemp("run")
    list(run(RECIPE, *shapes("train", 32), folder, look=1))
    about = {"classifier": asdict(network.config)}
    checkpoint.save(folder / "judge.safetensors", 0, about, network)
    return folder


@pytest.fixture
def main(folder, monkeypatch, capsys):
    """The command on few shapes: `(what it returned, what it printed)`."""
    for split, n in (("train", TRAIN), ("test", TEST)):
        monkeypatch.setitem(SIZES, split, n)
    (folder / "scores.jsonl").unlink(missing_ok=True)

    def call(*arguments, run=folder, data="shapes"):
        words = [run, "--data", data, "--n", N, "--steps", 2, "--device", "cpu", "--classifier",
                 folder / "judge.safetensors", *arguments]
        return evaluate.main([str(word) for word in words]), capsys.readouterr().out

    return call


def lines(folder):
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


# The scores.

def test_each_score_is_the_metric_of_that_name(monkeypatch):
    """The Frechet distance of all to all; the others of the first 30 to the first 30."""
    monkeypatch.setattr(minidiff.evaluate, "PAIRS", 30)
    train, made = gaussians(200), gaussians(70, 1, 0.5) + 0.3
    found = scores(made, measured("a", train, gaussians(9)))
    x, y = train[:30], made[:30]
    precision, recall = metrics.precision_recall(x, y)
    density, coverage = metrics.density_coverage(x, y)
    assert precision > recall + 0.1 and density != coverage  # so that they can't be confused
    accuracy, luck = metrics.two_sample(x, y, np.random.default_rng(0))
    want = dict(frechet=metrics.frechet(train, made), kernel=metrics.kernel_distance(x, y),
                energy=metrics.energy_distance(x, y), precision=precision, recall=recall,
                density=density, coverage=coverage, two_sample=accuracy, luck=luck)
    assert found == pytest.approx(want, rel=1e-9)


def test_few_samples_meet_as_few_training_images():
    """10 of 200, as density and coverage depend on both numbers."""
    train, made = gaussians(200), gaussians(10, 1)
    found = scores(made, measured("a", train, gaussians(9)))
    assert (found["density"], found["coverage"]) == metrics.density_coverage(train[:10], made)


def test_other_features_are_refused():
    with pytest.raises(ValueError, match=r"made must be of shape \(n, 5\), as the reference.*4\)"):
        scores(gaussians(20, d=4), measured("a", gaussians(50), gaussians(9)))


def test_the_floor_is_what_honest_samples_score():
    """One Gaussian, d = 5, n = 400, N = 20,000, 8 draws: `frechet`'s mean is known, 0.032; a draw's
    deviation is 0.009, so half of the mean is 5 standard errors, which one run in two million
    misses. The two-sample accuracy is 1/2 to 5·0.5/sqrt(400·8)."""
    n, N, d = 400, 20_000, 5
    means, deviations, m, draws = floor(measured("a", gaussians(N), gaussians(8 * n, 1)), n)
    assert (m, draws) == (n, 8)
    assert means["frechet"] == pytest.approx((1 / n + 1 / N) * d * (d + 5) / 4, rel=0.5)
    assert means["two_sample"] == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(n * 8))
    assert 0.1 < deviations["frechet"] / means["frechet"] < 1


def test_the_floor_s_draws_are_apart():
    """Each third of the test images, in turn."""
    test = gaussians(65, 2)
    reference = measured("a", gaussians(100), test)
    means, deviations, m, draws = floor(reference, 20)
    each = [scores(test[i:i + 20], reference)["frechet"] for i in (0, 20, 40)]
    assert (m, draws) == (20, 3)
    assert means["frechet"] == pytest.approx(np.mean(each), rel=1e-9)
    assert deviations["frechet"] == pytest.approx(np.std(each) * np.sqrt(3 / 2), rel=1e-9)
    means, deviations, m, draws = floor(reference, 500)
    assert (m, draws) == (65, 1) and set(deviations.values()) == {None}
    assert means == pytest.approx(scores(test, reference), rel=1e-9)
    assert floor(reference, 7)[3] == 8  # no more, though there are images for nine


def test_training_images_as_samples_are_at_the_floor_or_below(judge):
    """All 200 against themselves are alike: a Frechet distance of rounding, precision 1."""
    images, labels = shapes("train", TRAIN)
    features = judge.features(images)
    found = judged(judge, measured("shapes", features, features), images, labels)
    assert found["frechet"] < 1e-9 and found["precision"] == found["recall"] == 1
    means = floor(measured("shapes", features, judge.features(shapes("test", TRAIN)[0])), TRAIN)[0]
    assert means["frechet"] > 1000 * found["frechet"]


def test_noise_and_blur_are_as_strong_as_they_say():
    """Noise on 24,000 mid-greys: its deviation is known to 0.5 %, and rounding adds 1/12 to the
    variance; 5 standard errors. A dot's blur falls by exp(-1/(2·width²)) to the next pixel."""
    grey = np.full((8, 3, 32, 32), 128, np.uint8)
    found = yardsticks(grey)
    assert list(found) == ["noise 2", "noise 4", "noise 8", "blur 0.5", "blur 1"]
    for level in (2, 4, 8):
        noise = found[f"noise {level}"].astype(float) - 128
        assert noise.std() == pytest.approx(np.sqrt(level**2 + 1 / 12), rel=5 * 0.0046)
        assert abs(noise.mean()) < 5 * level / np.sqrt(noise.size)
    assert all((found[f"blur {width}"] == 128).all() for width in ("0.5", "1"))
    dots = np.zeros((2, 3, 32, 32), np.uint8)
    dots[0, 1, 16, 16] = 255
    for width in (0.5, 1.0):
        spot = yardsticks(dots)[f"blur {width:g}"].astype(float)
        for at in ((0, 1, 16, 17), (0, 1, 15, 16)):
            assert spot[at] == pytest.approx(spot[0, 1, 16, 16] * np.exp(-0.5 / width**2), abs=1)
        assert not spot[1].any() and not spot[0, [0, 2]].any()  # no other image, no other colour
    assert grey.max() == 128 and dots.sum() == 255  # what is given is left as it was


def test_noise_stays_within_bytes():
    for value in (0, 255):
        spoilt = yardsticks(np.full((2, 1, 8, 8), value, np.uint8))["noise 8"]
        assert abs(spoilt.astype(int) - value).max() < 8 * 5  # 0 - 3 isn't 253


def test_more_noise_and_more_blur_are_farther(judge):
    """For random features, too: the same noise, stronger, moves each the same way and farther. All
    is seeded, so it never fails by chance."""
    train, test = shapes("train", 600), shapes("test", 200)
    reference = measured("shapes", judge.features(train[0]), judge.features(test[0]))
    found = beside(judge, reference, 200, test)
    far = {how: score["frechet"] for how, score in found["yardsticks"].items()}
    far["floor"] = found["floor"]["frechet"]
    assert far["floor"] < far["noise 4"] < far["noise 8"] and far["noise 2"] < far["noise 4"]
    assert far["floor"] < far["blur 0.5"] < far["blur 1"]


def test_agreement_is_the_share_of_labels_seen():
    images = np.zeros((20, 1, 2, 2), np.uint8)
    reference = measured("a", gaussians(50), gaussians(40))
    sees = Judge("j", lambda images: gaussians(len(images)),
                 lambda images: np.arange(len(images)) % 4)
    labels = np.arange(20) % 2
    assert judged(sees, reference, images, labels)["agreement"] == 0.5
    assert judged(sees, reference, images)["agreement"] is None
    assert judged(sees._replace(predict=None), reference, images, labels)["agreement"] is None
    half = np.where(np.arange(40) < 20, np.arange(40) % 4, 9)  # all right, then all wrong
    found = beside(sees, reference, 20, (np.zeros((40, 1, 2, 2), np.uint8), half))
    assert found["floor"]["agreement"] == 0.5 and found["floor"]["draws"] == 2
    assert found["yardsticks"]["noise 2"]["agreement"] == 1
    assert beside(sees, reference, 20)["yardsticks"] == {}


# The command.

def test_every_look_gets_its_line(main, folder, network):
    """Recomputed for the first: n = 40 by DPM-Solver from seeds 0..39, each in turn of a class."""
    status, said = main("--all")
    assert status == 0
    found = lines(folder)
    assert [line["images"] for line in found] == [8, 16]
    first = found[0]
    images = samples(*load(folder / "weights-8.safetensors"), N, 2, labels=np.arange(N) % 10,
                     solver="dpmpp_2m")
    made = classifier.features(network, pixels(images).transpose(0, 3, 1, 2))
    train, test = (classifier.features(network, shapes(split, n)[0])
                   for split, n in (("train", TRAIN), ("test", TEST)))
    reference = measured("shapes", train, test)
    want = scores(made, reference)
    assert {name: first[name] for name in want} == pytest.approx(want, rel=1e-4)
    seen = classifier.predict(network, pixels(images).transpose(0, 3, 1, 2))
    assert first["agreement"] == pytest.approx((seen == np.arange(N) % 10).mean())
    means, deviations, m, draws = floor(reference, N)
    assert {name: first["floor"][name] for name in means} == pytest.approx(means, rel=1e-4)
    assert first["spread"] == pytest.approx(deviations, rel=1e-3)
    assert (first["floor"]["n"], first["floor"]["draws"]) == (m, draws) == (N, 2)
    assert list(first["yardsticks"]) == ["noise 2", "noise 4", "noise 8", "blur 0.5", "blur 1"]
    state = checkpoint.about(folder / "weights-8.safetensors")[1]
    assert first["minutes"] == pytest.approx(state["seconds"] / 60, abs=0.006)
    assert first["n"] == N and first["evaluations"] == 2 and first["half_life"] == 0.4
    assert found[1]["half_life"] == 0.8 and found[1]["frechet"] != first["frechet"]


def test_the_table_says_what_each_number_is_of(main, folder):
    status, said = main("--all", "--seed", 7)
    for words in ("n = 40, seeds 7..46, labels in turn; by dpmpp_2m, 2 steps, 2 evaluations",
                  "w = 1", "EMA of half-life 1 images: a decay of 0.000977 a step of 8",
                  "judge.safetensors, SHA-256 ", "no score here is an FID",
                  "shapes (train), n = 200, CRC ", "to 40 of it from 40 samples",
                  "floor       test images in the samples' place, n = 40, draws: 2",
                  "test images, noise in grey levels, blur in pixels"):
        assert words in said, words
    head, *rows = said.strip().splitlines()[-10:]
    assert head.split() == list(evaluate.COLUMNS)
    names = ["8 images", "16 images", "floor", "  its spread", "noise 2", "noise 4", "noise 8",
             "blur 0.5", "blur 1"]
    assert [row.startswith(name) for row, name in zip(rows, names, strict=True)] == [True] * 9
    last = lines(folder)[-1]
    assert rows[1].split()[4:] == [f"{last[name]:.4g}" for name in evaluate.COLUMNS]
    assert rows[2].split()[1:] == [f"{last['floor'][name]:.4g}" for name in evaluate.COLUMNS]
    assert rows[3].split()[2] == f"{last['spread']['frechet']:.4g}" and rows[3].split()[-1] == "-"


def test_what_is_scored_is_not_scored_again(main, folder, monkeypatch):
    """A line cut off is made again, the whole one beside it and another protocol's are kept."""
    drawn, made = evaluate.drawn, []
    monkeypatch.setattr(evaluate, "drawn", lambda network, *rest: made.append(1) or drawn(
        network, *rest))
    main("--all")
    main("--all", "--seed", 1)
    whole = (folder / "scores.jsonl").read_text()
    assert len(made) == len(lines(folder)) == 4
    assert main("--all", "--seed", 1)[0] == 0 and len(made) == 4
    assert (folder / "scores.jsonl").read_text() == whole
    (folder / "scores.jsonl").write_text(whole[:-20])
    assert main("--all", "--seed", 1)[0] == 0 and len(made) == 5
    assert (folder / "scores.jsonl").read_text() == whole
    first, *rest = whole.splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(['{"images":\n', *rest]))
    status, _ = main("--all")
    assert "scores.jsonl, line 1 must be a line of scores" in status
    (folder / "scores.jsonl").write_text(whole)
    main("--all", "--w", 2)
    told = {"data", "digest", "features", "n", "seed", "solver", "steps", "w"}
    assert len(lines(folder)) == 6 and told <= set(lines(folder)[-1]["protocol"])


def test_one_file_or_a_folder_s_checkpoint(main, folder):
    """They are the same weights but for bf16; no record is written."""
    one, other = main(run=folder / "weights-16.safetensors"), main()
    assert one[0] == other[0] == 0 and not (folder / "scores.jsonl").exists()
    assert "\n16 images" in one[1] and "\n16 images" in other[1] and "\n8 images" not in one[1]


@pytest.mark.parametrize("solver, w, count", [("heun", 1, 5), ("ddim", 1, 3), ("dpmpp_2m", 2, 6)])
def test_evaluations_are_counted_not_believed(folder, solver, w, count):
    options = SimpleNamespace(n=10, batch=4, steps=3, seed=0, solver=solver, w=w)
    assert evaluate.drawn(*load(folder), options)[2] == count


def test_batches_make_the_same_images(folder):
    """Labels and seeds go on from batch to batch; rounding moves a byte by one at most."""
    def made(batch, seed=0):
        options = SimpleNamespace(n=13, batch=batch, steps=2, seed=seed, solver="ddim", w=1.0)
        return evaluate.drawn(*load(folder), options)

    whole, labels, _ = made(13)
    parts = made(5)
    assert parts[0].dtype == np.uint8 and whole.shape == (13, 3, 32, 32)
    assert labels.tolist() == parts[1].tolist() == [*range(10), 0, 1, 2]
    assert abs(whole.astype(int) - parts[0]).max() <= 1
    assert abs(whole[1:11].astype(int) - made(13, 1)[0][:10]).max() > 1  # the labels are others


def test_a_network_without_classes_has_no_agreement(main, tmp_path):
    recipe = replace(RECIPE, network=replace(RECIPE.network, classes=0), drop=0.0)
    list(run(recipe, *shapes("train", 32), tmp_path))
    status, said = main(run=tmp_path)
    row = next(line for line in said.splitlines() if line.startswith("16 images"))
    assert status == 0 and row.split()[-1] == "-" and "39, no labels; by" in said


# Without the data.

@pytest.fixture
def reference(tmp_path, network, folder):
    train, test = (classifier.features(network, shapes(split, n)[0])
                   for split, n in (("train", TRAIN), ("test", TEST)))
    mean, cov = metrics.moments(train)
    path = tmp_path / "reference.safetensors"
    with safe_open(folder / "judge.safetensors", "np") as file:
        tied = {"data": "shapes that were", "classifier": file.metadata()["sha256"]}
    save_file({"mean": mean, "cov": cov, "count": np.array([TRAIN]),
               "train": train.astype(np.float16), "test": test.astype(np.float16)}, path, tied)
    return path


def test_the_reference_file_stands_in(main, folder, reference, monkeypatch):
    """Its scores are those of the data, to float16's 1/2048 of a feature."""
    def offline(name):
        raise ConnectionError("It did not come.")

    main("--all")
    with_data = lines(folder)
    monkeypatch.setattr(evaluate, "data", offline)
    monkeypatch.setattr(evaluate, "REFERENCE", reference)
    status, said = main("--all", data="cifar10")
    assert status == 0 and "It did not come.\nSo" in said and str(reference) in said
    assert "shapes that were, n = 200, SHA-256" in said and "none, as there are no images" in said
    line = lines(folder)[-1]
    assert line["frechet"] == pytest.approx(with_data[-1]["frechet"], rel=1e-4)
    for name in ("frechet", "precision", "coverage", "energy"):
        assert line["floor"][name] == pytest.approx(with_data[-1]["floor"][name], rel=0.02), name
    assert line["protocol"]["data"] == "shapes that were" and line["yardsticks"] == {}
    assert "It did not come" not in main("--all", data=reference)[1]
    assert len(lines(folder)) == 4
    assert main(data="elsewhere")[0] == "It did not come."
    monkeypatch.setattr(evaluate, "REFERENCE", reference.with_name("none"))
    assert main(data="cifar10")[0] == "It did not come."


# FID.

class Port(SimpleNamespace):
    """Stands for pytorch_fid.inception; `asked` is what it was shown."""


@pytest.fixture
def port(monkeypatch, tmp_path):
    asked = []

    class InceptionV3(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 6)
            self.load_state_dict(port.load_state_dict_from_url("https://a.pickle", progress=True))

        def forward(self, x):
            asked.append(x)
            return [super().forward(x.mean(dim=(2, 3)))[:, :, None, None]]

    def download(*_, **__):
        raise AssertionError("a pickle was asked for")

    port = Port(InceptionV3=InceptionV3, load_state_dict_from_url=download, asked=asked)
    monkeypatch.setitem(sys.modules, "pytorch_fid", SimpleNamespace(inception=port))
    monkeypatch.setitem(sys.modules, "pytorch_fid.inception", port)
    port.path = tmp_path / "inception.safetensors"
    port.weights = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    save_file({"weight": port.weights, "bias": np.zeros(6, np.float32)}, port.path)
    return port


def test_inception_sees_bytes_from_zero_to_one(main, port, monkeypatch):
    """Of the weights that were given, and called FID where its n is the published one alone."""
    options = SimpleNamespace(inception=port.path, batch=4)
    images = shapes("test", 10)[0]
    judge = evaluate.inception(options, torch.device("cpu"))
    want = images.mean(axis=(2, 3), dtype=np.float64) / 255 @ port.weights.T.astype(np.float64)
    assert judge.features(images) == pytest.approx(want, abs=1e-5)
    assert [len(x) for x in port.asked] == [4, 4, 2] and judge.predict is None
    status, said = main("--inception", port.path)
    assert status == 0 and "frechet" in said and "no score here is an FID" in said
    assert "Inception, inception.safetensors, SHA-256 " in said
    monkeypatch.setattr(evaluate, "PUBLISHED", TRAIN)
    assert " FID" not in main("--inception", port.path)[1].replace("an FID as", "")
    said = main("--inception", port.path, "--n", TRAIN)[1]
    assert " FID " in said and "no score here" not in said


def test_what_inception_needs_is_said(main, port, monkeypatch, tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        status = main("--inception", path)[0]
        for words in ("published FIDs use; got", evaluate.PTH, "weights_only=True", "pytorch-fid"):
            assert words in status
    wrong = tmp_path / "wrong.safetensors"
    save_file({"bias": np.zeros(6, np.float32)}, wrong)
    assert "wrong.safetensors, in which: " in main("--inception", wrong)[0]
    wrong.write_bytes(b"no safetensors")
    assert "wrong.safetensors, in which: " in main("--inception", wrong)[0]
    monkeypatch.setitem(sys.modules, "pytorch_fid", None)
    assert "pip install -c pins.txt pytorch-fid==0.3.0" in main("--inception", port.path)[0]
    pickle = tmp_path / "weights.pth"
    pickle.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "must be the .safetensors file" in main("--inception", pickle)[0]


@pytest.mark.parametrize("arguments, words", [
    (["--n", 9], "--n must be >= 10; got 9"),
    (["--seed", -1], "--seed must be in 0..2³² - 40; got -1"),
    (["--seed", 2**32 - 39], "--seed must be in 0..2³² - 40"),
    (["--steps", 0], "steps must be a whole number >= 1"),
    (["--batch", 0], "batch must be a whole number >= 1"), (["--w", -1], "w must be >= 0"),
    (["--device", "abacus"], "--device must be one of this machine's; got 'abacus'"),
    (["--classifier", "none"], "--classifier must be the file of a classifier's weights; got"),
    (["--data", "none.safetensors"], "--data must be a reference file that is there; got 'none"),
    (["--data", "nowhere"], "source must be a URL, or the path of"),
])
def test_what_can_t_be_done_is_said(main, arguments, words):
    assert words in main(*arguments)[0]


def test_what_isn_t_a_run_or_a_reference_is_said(main, folder, reference, tmp_path):
    assert "folder must be a run's, with checkpoint.safetensors in it" in main(run=tmp_path)[0]
    assert "run must be a folder with weights-<images>" in main("--all", run=tmp_path)[0]
    weights = folder / "weights-8.safetensors"
    assert "--data must be a classifier's reference; got" in main(data=weights)[0]
    other = tmp_path / "judge.safetensors"
    network = classifier.load(folder / "judge.safetensors")
    network.mean += 0.1
    checkpoint.save(other, 0, {"classifier": asdict(network.config)}, network)
    status = main("--classifier", other, data=reference)[0]
    assert "reference.safetensors must be of the features of judge.safetensors, SHA-256" in status
