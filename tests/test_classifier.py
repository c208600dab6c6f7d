"""The classifier whose features judge pictures: its network, its training, its file, its weights.

What is random is seeded; where a bound is on chance, it says how far off that is.
"""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CHAPTERS

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import classifier as tool  # noqa: E402
from minidiff.classifier import (  # noqa: E402
    EPS, PATCH, Classifier, Config, adapt, features, load, predict, signal)
from minidiff.data.shapes import shapes  # noqa: E402
from minidiff.metrics import frechet_moments, kernel_distance, moments  # noqa: E402
from minidiff.nn import MLP, checkpoint, parameters  # noqa: E402

torch.set_num_threads(1)

TINY = Config(widths=(16, 32, 32), features=32)
RECIPE = tool.Recipe(epochs=4, batch=32, lr=0.1, shift=1)
WEIGHTS = CHAPTERS / "weights" / "cifar10-classifier.safetensors"
CARD, REFERENCE = WEIGHTS.with_suffix(".md"), WEIGHTS.with_name("cifar10-reference.safetensors")
LOG = CHAPTERS / "records" / "classifier.jsonl"
IMAGES, LABELS = shapes("train", 1024)
NEW = shapes("test", 300)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def made(seed=1):
    """A network and its optimizer before training, adapted to the shapes."""
    network = Classifier(TINY, seeded(seed))
    adapt(network, IMAGES[:100])
    return network, torch.optim.SGD(network.parameters(), RECIPE.lr, RECIPE.momentum,
                                    nesterov=True, weight_decay=RECIPE.decay)


def trained(parts, images=IMAGES, labels=LABELS, recipe=RECIPE, **options):
    """The losses of all epochs."""
    return [loss for _, loss in tool.train(*parts, torch.as_tensor(images),
                                           torch.as_tensor(labels).long(), recipe, **options)]


@pytest.fixture(scope="module")
def learned():
    parts = made()
    return parts[0], trained(parts)


@pytest.fixture(scope="module")
def lively():
    """Untrained, but its norms are a trained network's: means and variances of what it has seen."""
    network, _ = made()
    network.train()
    with torch.no_grad():
        for i in range(0, 256, 64):
            network(signal(IMAGES[i:i + 64]))
    return network.eval()


# The network.

@pytest.mark.parametrize("config", [TINY, Config(), Config((8, 8), 4, 3)])
def test_shapes(config):
    network = Classifier(config).eval()
    x = torch.zeros(2, 3, 32, 32)
    assert network.features(x).shape == (2, config.features)
    assert network(x).shape == (2, config.classes)


def test_is_small():
    """Three million numbers and six megabytes, no more; the whitening is not learned."""
    network = Classifier()
    assert parameters(network) <= 3e6 and network.config.features == 128
    assert {name for name, _ in network.named_buffers() if "." not in name} == {"mean", "whiten"}


def test_first_weights_are_the_generator_s():
    state = torch.get_rng_state()
    one, two, other = (Classifier(TINY, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from the global state"
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters())]
    assert all(same)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.stages[0].down[0].weight, other.stages[0].down[0].weight)


def test_whitening():
    """Over the very patches that it was made from: mean zero, no correlation, and of variances v
    there is left v / (v + EPS)."""
    network, _ = made()
    x = torch.as_tensor(IMAGES[:100]).double() / 127.5 - 1
    assert torch.allclose(network.mean.flatten().double(), x.mean(dim=(0, 2, 3)), atol=1e-5)
    h = F.conv2d(x - x.mean(dim=(0, 2, 3), keepdim=True), network.whiten.double(), stride=2)
    cov = torch.cov(h.transpose(0, 1).reshape(PATCH, -1))
    pixels = (x - x.mean(dim=(0, 2, 3), keepdim=True)).reshape(100, 3, 16, 2, 16, 2)
    v = torch.linalg.eigvalsh(torch.cov(pixels.permute(1, 3, 5, 0, 2, 4).reshape(PATCH, -1)))
    assert torch.allclose(cov, torch.diag(v / (v + EPS)), atol=1e-3)
    assert v.min() < EPS < v.max() / 10, "both sides of EPS are there"


def test_both_signs_are_handed_on():
    """GELU(h) - GELU(-h) = h."""
    network, _ = made()
    seen = []
    network.stages.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = signal(IMAGES[:4])
    network.eval()(x)
    above, below = seen[0].chunk(2, dim=1)
    torch.testing.assert_close(above - below, F.conv2d(x - network.mean, network.whiten),
                               rtol=1e-4, atol=1e-4)
    assert above.min() > -0.2 and below.min() > -0.2 and above.max() > 1 and below.max() > 1


def test_a_stage_adds():
    """Where its second part says nothing, there is the first."""
    stage, x = Classifier(TINY).stages[1].eval(), torch.randn(2, 16, 9, 9, generator=seeded(0))
    before = stage(x)
    torch.nn.init.zeros_(stage.more[2].weight)
    torch.testing.assert_close(stage(x), stage.down(x))
    assert not torch.allclose(before, stage(x)) and stage(x).shape == (2, 32, 4, 4)


def test_the_mean_is_taken_off():
    """Other colours in the data and in the mean alike: the features stay."""
    network, _ = made()
    network.eval()
    x = signal(IMAGES[:4]) / 2
    before = network.features(x)
    shift = torch.tensor([0.1, -0.2, 0.3]).reshape(3, 1, 1)
    assert not torch.allclose(network.features(x + shift), before, atol=1e-3)
    network.mean += shift
    torch.testing.assert_close(network.features(x + shift), before, rtol=1e-4, atol=1e-4)


# Features and predictions.

def test_alone_and_in_a_batch(lively):
    """To 1e-4 of their scale, whatever the batch; in training mode they would depend on it."""
    lively.train()
    seen = features(lively, IMAGES[:30])
    assert seen.shape == (30, 32) and seen.dtype == np.float32
    for batch in (1, 7):
        np.testing.assert_allclose(features(lively, IMAGES[:30], batch), seen, atol=1e-4)
    np.testing.assert_allclose(features(lively, IMAGES[29:30]), seen[29:], atol=1e-4)
    assert seen.std(axis=0).min() > 1e-2, "pictures differ in every feature"


def test_bytes_and_floats_agree(lively):
    """Every byte's float comes back as the byte, as array and as tensor, in any precision; and what
    is less than half a grey level off is nothing."""
    ramp = np.resize(np.arange(256, dtype=np.uint8), (1, 3, 32, 32))
    for dtype in (np.float32, np.float64):
        floats = ramp.astype(dtype) / dtype(127.5) - 1
        assert torch.equal(signal(floats), signal(ramp))
    rng = np.random.default_rng(0)
    bytes = IMAGES[:8]
    near = bytes / 127.5 - 1 + rng.uniform(-0.49, 0.49, bytes.shape) / 127.5
    seen = features(lively, bytes)
    np.testing.assert_array_equal(features(lively, near.clip(-1, 1)), seen)
    np.testing.assert_array_equal(features(lively, torch.as_tensor(bytes) / 127.5 - 1), seen)
    far = (bytes / 127.5 - 1 + 1.02 / 127.5).clip(-1, 1)
    assert abs(features(lively, far) - seen).max() > 1e-4


def test_predictions_are_the_largest_logits(learned):
    network, _ = learned
    x = torch.as_tensor(NEW[0][:64]).float() / 127.5 - 1
    with torch.no_grad():
        logits, other = network.eval()(x), network(x.flip(-1))
    np.testing.assert_array_equal(predict(network, NEW[0][:64], 10), logits.argmax(1).numpy())
    both = predict(network, NEW[0][:64], 64, mirrored=True)
    np.testing.assert_array_equal(both, (logits + other).argmax(1).numpy())
    turned = np.ascontiguousarray(NEW[0][:64, ..., ::-1])
    np.testing.assert_array_equal(both, predict(network, turned, 64, mirrored=True))
    assert (logits.argmax(1) != other.argmax(1)).any(), "to mirror makes a difference"


BAD = {
    "digits": (np.zeros((2, 1, 8, 8), np.uint8), "images must be of shape"),
    "rows of pixels": (np.zeros((2, 32, 32, 3), np.uint8), "images must be of shape"),
    "one picture": (np.zeros((3, 32, 32), np.uint8), "images must be of shape"),
    "ints": (np.zeros((2, 3, 32, 32), np.int64), "images must be uint8, or floats"),
    "0..255": (np.full((2, 3, 32, 32), 200.0), r"images must be in \[-1, 1\]"),
    "NaN": (np.full((2, 3, 32, 32), np.nan), r"images must be in \[-1, 1\]"),
    "none": (np.zeros((0, 3, 32, 32), np.uint8), "images must be one or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images(lively, case):
    images, words = BAD[case]
    for ask in (features, predict):
        with pytest.raises(ValueError, match=words):
            ask(lively, images)


@pytest.mark.parametrize("batch", [0, -1, 2.5])
def test_bad_batch(lively, batch):
    with pytest.raises(ValueError, match="batch must be"):
        features(lively, IMAGES[:2], batch)


@pytest.mark.parametrize("wrong, name", [
    ({"widths": ()}, "widths"), ({"widths": (8, 8, 8, 8, 8)}, "widths"),
    ({"widths": (8, 0)}, "widths"), ({"features": 0}, "features"), ({"classes": 1.5}, "classes")])
def test_bad_config(wrong, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Config(**wrong)


# Its training.

def test_learns_shapes(learned):
    """Ten classes of drawn shapes, four epochs of 1,024: right on over 60 % of 300 new ones. By
    chance, 10 % would be right, and 20 % with one seed in five million."""
    network, losses = learned
    assert losses == sorted(losses, reverse=True) and losses[0] > np.log(10) * 0.8
    assert tool.accuracy(network, *NEW) > 0.6
    assert tool.accuracy(made()[0], *NEW) < 0.2


def test_a_training_that_goes_on_is_the_same(tmp_path):
    short = replace(RECIPE, epochs=2)
    given = IMAGES[:80], LABELS[:80], short
    whole = made()
    losses = trained(whole, *given)
    half, end = made(), made(seed=2)
    steps = tool.train(*half, torch.as_tensor(given[0]), torch.as_tensor(given[1]).long(), short)
    first = next(steps)[1]
    checkpoint.save(tmp_path / "half", 1, {}, *half)
    checkpoint.load(tmp_path / "half", *end)
    assert [first, *trained(end, *given, start=1)] == losses
    for name, value in whole[0].state_dict().items():
        assert torch.equal(value, end[0].state_dict()[name]), name


def test_every_step_its_own(monkeypatch):
    """Steps 0..9 of five epochs: each has its own shifts, and a rate that rises on a line to the
    peak, which the second reaches, and falls on one that ends at zero, after the last."""
    parts, asked, rates, varied = made(), [], [], tool.varied
    monkeypatch.setattr(tool, "varied", lambda *given: asked.append(given[2:]) or varied(*given))
    parts[1].register_step_pre_hook(lambda *given: rates.append(parts[1].param_groups[0]["lr"]))
    trained(parts, IMAGES[:70], LABELS[:70], replace(RECIPE, epochs=5), seed=4)
    assert asked == [(4, step, step // 2, RECIPE.shift) for step in range(10)]
    falling = [RECIPE.lr * (10 - step) / 8 for step in range(2, 10)]
    assert rates == pytest.approx([RECIPE.lr / 2, RECIPE.lr, *falling])


def test_every_image_once_an_epoch():
    batches = tool.order(103, 10, 0, 0)
    assert [len(batch) for batch in batches] == [10] * 10
    assert len(set(torch.cat(batches).tolist())) == 100
    assert not torch.equal(batches[0], tool.order(103, 10, 0, 1)[0])
    assert not torch.equal(batches[0], tool.order(103, 10, 1, 0)[0])


def test_variations():
    """Each is a shift of the image or its mirror image, by NumPy's padding; in an epoch about half
    are mirrored, and in the next the others. All nine shifts occur: 400 would miss one of
    them with one seed in 10²⁰."""
    images, index = torch.as_tensor(IMAGES[:200]), torch.arange(200).flip(0)
    turns, shifts = [], set()
    for epoch in (0, 1):
        turns.append([])
        for i, one in zip(index, tool.varied(images, index, 5, epoch, epoch, 1)):
            ways = {}
            for turned in (False, True):
                image = IMAGES[i][..., ::-1] if turned else IMAGES[i]
                padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), "reflect")
                ways |= {(turned, y, x): padded[:, y:y + 32, x:x + 32]
                         for y in range(3) for x in range(3)}
            found = [way for way, image in ways.items() if np.array_equal(image, one)]
            assert found, "an image is none of its variations"
            turns[-1].append({way[0] for way in found})
            shifts |= {way[1:] for way in found} if len(found) == 1 else set()
    assert all(a | b == {False, True} for a, b in zip(*turns))
    assert 60 < sum(turn == {True} for turn in turns[0]) < 140
    assert len(shifts) == 9


def test_no_shift_is_none():
    images = torch.as_tensor(IMAGES[:50])
    for epoch in (0, 1):
        for image, one in zip(images, tool.varied(images, torch.arange(50), 0, 3, epoch, 0)):
            assert torch.equal(one, image) or torch.equal(one, image.flip(-1))


def test_too_few_images():
    with pytest.raises(ValueError, match="images must be 32 or more"):
        trained(made(), IMAGES[:31], LABELS[:31])


# Its file.

def test_a_file_and_back(tmp_path, learned):
    """Weights in bf16 lose at most 2⁻⁸ of themselves; their answers hardly change."""
    network, _ = learned
    path = tmp_path / "kept.safetensors"
    tool.keep(path, network, RECIPE, "shapes", accuracy=0.5)
    found = load(path)
    assert not found.training and found.config == TINY
    assert {value.dtype for value in found.parameters()} == {torch.float32}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=2**-8, atol=1e-30)
    assert path.stat().st_size < 2 * sum(v.numel() for v in network.state_dict().values()) + 20_000
    assert (predict(found, NEW[0]) == predict(network, NEW[0])).mean() > 0.95
    assert checkpoint.about(path)[1]["data"] == "shapes"


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match="path must be a classifier's weights"):
        load(tmp_path / "none")
    checkpoint.save(tmp_path / "mlp", 0, {"d": 2}, MLP(2))
    with pytest.raises(ValueError, match="must be of a classifier"):
        load(tmp_path / "mlp")
    (tmp_path / "cut").write_bytes(b"cut")
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        load(tmp_path / "cut")


@pytest.fixture
def small(monkeypatch):
    """The command with a small network, and few data."""
    monkeypatch.setattr(tool, "Config", lambda: TINY)
    monkeypatch.setattr(tool, "KEPT", 20)
    data = (IMAGES[:260], LABELS[:260]), (NEW[0][:50], NEW[1][:50])
    monkeypatch.setattr(tool, "data", lambda name: data)


def test_the_command(tmp_path, small, capsys):
    """It writes all that it says, of one network; a second call changes nothing but the name."""
    words = ["/given/cifar10-jpeg", "--epochs", "2", "--folder", str(tmp_path), "--float32",
             "--device", "cpu"]
    assert tool.main(words) == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["epoch"] for line in log] == [1, 2] and log[0]["seconds"] < log[1]["seconds"]
    network, card = load(tmp_path / "classifier.safetensors"), tmp_path / "classifier.md"
    about = checkpoint.about(tmp_path / "classifier.safetensors")[1]
    assert about["accuracy"] == tool.accuracy(network, NEW[0][:50], NEW[1][:50])
    assert about["data"] == "cifar10-jpeg" and "of cifar10-jpeg\n" in card.read_text("utf-8")
    assert f"{about['accuracy']:.2%}; {about['mirrored']:.2%}" in card.read_text("utf-8")
    found = load_file(tmp_path / "reference.safetensors")
    mean, cov = moments(features(network, IMAGES[:260]))
    np.testing.assert_allclose(found["mean"], mean)
    np.testing.assert_allclose(found["cov"], cov)
    assert found["count"] == 260
    for split, images, labels in (("train", IMAGES, LABELS), ("test", *NEW)):
        assert found[split].dtype == np.float16
        np.testing.assert_allclose(found[split], features(network, images[:20]), rtol=1e-3,
                                   atol=1e-4)
        np.testing.assert_array_equal(found[f"{split}_labels"], labels[:20])
    before = network.state_dict()
    capsys.readouterr()
    assert tool.main([*words, "--name", "Drawn shapes"]) == 0
    assert "epoch" not in capsys.readouterr().out.split("#")[0], "nothing was trained again"
    again = load(tmp_path / "classifier.safetensors").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in before.items())
    assert "# A classifier of Drawn shapes\n" in card.read_text("utf-8")


def test_another_training_s_folder(tmp_path, small):
    words = ["shapes", "--folder", str(tmp_path), "--float32", "--device", "cpu", "--epochs"]
    assert tool.main([*words, "1"]) == 0
    assert "must be new, or of the same training" in tool.main([*words, "2"])


def test_between():
    """Means -1, 1 and variances 4 within two equal classes: one part in five; and all, or none."""
    labels = np.repeat([3, 7], 2)
    assert tool.between(np.array([[-3.0], [1], [-1], [3]]), labels) == pytest.approx(1 / 5)
    assert tool.between(np.array([[1.0, 0], [1, 0], [0, 2], [0, 2]]), labels) == 1
    assert tool.between(np.array([[1.0], [2], [1], [2]]), labels) == 0


def test_flops():
    """By hand: a convolution's outputs, each a product for each of its inputs, and that twice."""
    a, b, c, d = 16, 32, 32, 32
    each = (31**2 * PATCH * PATCH + 31**2 * 24 * a * 9 + 15**2 * (a * a + a * b) * 9
            + 7**2 * (b * b + b * c) * 9 + 3**2 * (c * c + c * d) * 9 + d * 10)
    assert tool.flop(Classifier(TINY)) == 2 * each


# What is shipped.

@pytest.fixture(scope="module")
def shipped():
    return SimpleNamespace(
        network=load(WEIGHTS), about=checkpoint.about(WEIGHTS)[1], card=CARD.read_text("utf-8"),
        reference=load_file(REFERENCE))


def test_shipped_weights(shipped):
    """Small; more than 87 % right; and the card says what the file says."""
    assert WEIGHTS.stat().st_size < 6e6 and REFERENCE.stat().st_size < 1.4e6
    assert 0.87 < shipped.about["accuracy"] <= shipped.about["mirrored"] + 0.005 < 1
    assert shipped.card.startswith(f"# A classifier of {shipped.about['data']}\n")
    assert f"{shipped.about['accuracy']:.2%}; {shipped.about['mirrored']:.2%}" in shipped.card
    assert f"{parameters(shipped.network):,} parameters" in shipped.card
    found = shipped.reference
    shares = [f"{tool.between(found[part], found[part + '_labels']):.0%}"
              for part in ("train", "test")]
    assert re.findall(r"(\d+%) (?:lies|on those)", shipped.card.replace("\n", " ")) == shares
    assert "no FID" in shipped.card and "JPEG q75 copy" in shipped.card


def test_shipped_log(shipped):
    lines = [json.loads(line) for line in LOG.read_text("utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) == shipped.about["recipe"]["epochs"]
    assert lines[-1]["accuracy"] == pytest.approx(shipped.about["accuracy"], abs=0.005)
    minutes = float(re.search(r"([\d.]+) minutes", shipped.card)[1])
    assert lines[-1]["cpu_seconds"] / 60 == pytest.approx(minutes, abs=0.05)


def test_shipped_reference_is_the_network_s(shipped):
    """Made with these weights; the kept features lie about the mean as 2,000 of the same do (each
    of 128 within 5.5 standard errors: one false alarm in 200,000), and the last layer finds their
    classes as often as the card says, to 5."""
    with safe_open(WEIGHTS, "np") as weights, safe_open(REFERENCE, "np") as reference:
        said = reference.metadata()
        assert said["classifier"] == weights.metadata()["sha256"]
        assert said["data"] == shipped.about["data"]
    found = shipped.reference
    assert found["mean"].shape == (128,) and found["cov"].shape == (128, 128)
    assert found["count"] == 50_000
    values = np.linalg.eigvalsh(found["cov"])
    assert (found["cov"] == found["cov"].T).all() and values[0] > 0
    off = found["train"].astype(float).mean(axis=0) - found["mean"]
    assert abs(off / np.sqrt(np.diag(found["cov"]))).max() < 5.5 / np.sqrt(2000)
    head = shipped.network.head
    with torch.no_grad():
        for split, least in (("train", shipped.about["accuracy"]), ("test", 0)):
            right = head(torch.as_tensor(found[split]).float()).argmax(1).numpy()
            share = (right == found[f"{split}_labels"]).mean()
            assert share > least
    accuracy = shipped.about["accuracy"]
    assert abs(share - accuracy) < 5 * np.sqrt(accuracy * (1 - accuracy) / 2000)


def test_shipped_features_judge(shipped):
    """New images of CIFAR-10 lie far nearer to the training set than drawn shapes do, by both
    distances."""
    found = shipped.reference
    new, drawn = found["test"][:1000].astype(float), features(shipped.network, NEW[0])
    data = found["mean"], found["cov"]
    near, far = (frechet_moments(*moments(cloud), *data) for cloud in (new, drawn))
    assert 0 < 10 * near < far
    train = found["train"].astype(float)
    assert 10 * abs(kernel_distance(new, train)) < kernel_distance(drawn, train)
