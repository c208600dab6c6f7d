"""Training: literal losses, batches by (seed, step) alone, a resumed run bit for bit."""

import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff.data import digits
from minidiff.denoise import denoiser
from minidiff.sampler import ddim, ddpm, last
from minidiff.schedule import cosine, flow, karras

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import EMA, MLP, Seeds, UNet, UNetConfig, checkpoint  # noqa: E402
from minidiff.nn.seeds import stream  # noqa: E402
from minidiff.train import _dropout, batch, in_precision, loss, train  # noqa: E402

torch.set_num_threads(1)

CONFIG = UNetConfig(size=8, channels=1, base=8, multipliers=(1, 2), blocks=1, attention=(4,),
                    groups=4, dropout=0.2, classes=10, level_scale=50.0)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pictures(n=64):
    images, labels = digits()
    return torch.from_numpy(images[:n])[:, None], torch.from_numpy(labels[:n])


# The loss.

@pytest.mark.parametrize("kind, schedule, literal", [
    ("eps", cosine(20), lambda x0, eps, a, s: eps),
    ("x0", cosine(20), lambda x0, eps, a, s: x0),
    ("v", cosine(20), lambda x0, eps, a, s: a * eps - s * x0),
    ("flow", flow(20), lambda x0, eps, a, s: eps - x0),
    ("edm", karras(20), lambda x0, eps, a, s: (x0 - 0.25 / (0.25 + s**2) * (x0 + s * eps))
     / (0.5 * s / math.sqrt(0.25 + s**2)))])
def test_the_loss_image_by_image(kind, schedule, literal):
    """For edm the literal formula is D = c_skip·x + c_out·y of Karras et al., table 1, at 0.5."""
    x0, eps = (random(5, 1, 2, 3, seed=seed).double() for seed in (0, 1))
    t = torch.tensor([1, 2, 7, 13, 20])
    said = []

    def network(x, c):
        said.append(c)
        return 0.3 * x + 0.1 * c.clamp(-9, 9)

    ours = loss(network, schedule, x0, t, eps, kind, data_scale=0.5)
    assert ours.shape == (5,) and said[0].shape == (5, 1, 1, 1)
    for i, row in enumerate(t.tolist()):
        a, s = schedule.alpha[row], schedule.sigma[row]
        level = max(-9.0, min(9.0, math.log(a * a / (s * s)) if a else -math.inf))
        y = 0.3 * (a * x0[i] + s * eps[i]) + 0.1 * level
        want = ((y - literal(x0[i], eps[i], a, s)) ** 2).sum() / 6
        assert ours[i].item() == pytest.approx(want.item(), rel=1e-12), row


def test_the_network_is_told_the_condition_and_the_label():
    def network(x, c, labels=None):
        seen.append((c.flatten().tolist(), labels))
        return 0 * x

    seen, x0, t, labels = [], random(2, 1, 2, 2), torch.tensor([3, 5]), torch.tensor([8, 9])
    loss(network, cosine(5), x0, t, x0, labels=labels, condition=np.arange(6))
    loss(network, cosine(5), x0, t, x0)
    assert seen[0][0] == [3, 5] and seen[0][1] is labels and seen[1][1] is None
    np.testing.assert_allclose(seen[1][0], cosine(5).log_snr[[3, 5]], rtol=1e-6)


# Batches.

def test_a_batch_is_a_function_of_seed_and_step():
    images, labels = pictures()
    before = torch.get_rng_state()
    a = batch(images, labels, 3, 5, 16, 100, flip=True)
    batch(images, labels, 4, 9, 16, 100)
    again = batch(images, labels, 3, 5, 16, 100, flip=True)
    assert all(torch.equal(x, y) for x, y in zip(a, again))
    for seed, step in ((3, 6), (4, 5)):
        other = batch(images, labels, seed, step, 16, 100, flip=True)
        assert not any(torch.equal(x, y) for x, y in zip(a, other))
    assert torch.equal(torch.get_rng_state(), before)
    assert batch(images, None, 3, 5, 16, 100)[3] is None


@pytest.mark.parametrize("n, size", [(12, 4), (12, 5), (9, 20), (9, 9)])
def test_each_epoch_is_a_permutation(n, size):
    images = torch.arange(n, dtype=torch.float32).reshape(n, 1)
    steps = -(-5 * n // size)
    drawn = [batch(images, 10 * torch.arange(n), 0, step, size, 9) for step in range(steps)]
    order = torch.cat([x0[:, 0] for x0, *_ in drawn])[:5 * n].reshape(5, n)
    assert torch.equal(order.sort(dim=1).values, images[:, 0].expand(5, n))
    assert len({tuple(row.tolist()) for row in order}) == 5
    assert all(torch.equal(10 * x0[:, 0], labels) for x0, _, _, labels in drawn)


def test_rows_and_noise_are_spread_as_they_should():
    """n = 40,000; each bound is 5 standard errors."""
    n, T = 40_000, 8
    images = torch.zeros(n, 1)
    _, t, eps, _ = batch(images, None, 0, 0, n, T)
    counts = torch.bincount(t, minlength=T + 1)
    assert counts[0] == 0 and len(counts) == T + 1
    assert (counts[1:] - n / T).abs().max() < 5 * (n / T * (1 - 1 / T)) ** 0.5
    assert abs(eps.mean()) < 5 / n**0.5 and abs(eps.var() - 1) < 5 * (2 / n) ** 0.5
    later = batch(images, None, 0, 1, n, T)[2]
    assert abs((eps * later).mean()) < 5 / n**0.5
    assert abs((eps[:, 0] * t).mean() - eps.mean() * t.float().mean()) < 5 * 3 / n**0.5


def test_flips_are_flips():
    """n = 10,000: half, to 5 standard errors; noise and rows are as they are without."""
    images = random(10_000, 1, 3, 4)
    plain, flipped = (batch(images, None, 0, 0, 10_000, 9, flip=flip) for flip in (False, True))
    mirrored = (plain[0].flip(-1) == flipped[0]).flatten(1).all(dim=1)
    assert ((plain[0] == flipped[0]).flatten(1).all(dim=1) == ~mirrored).all()
    assert abs(mirrored.sum() - 5000) < 5 * 50
    assert torch.equal(plain[1], flipped[1]) and torch.equal(plain[2], flipped[2])


def test_streams_are_apart():
    """By seed, index and purpose; the CPU's generator looks at 32 bits of its seed only."""
    first = [stream(seed, index, purpose).initial_seed()
             for seed in range(9) for index in range(500) for purpose in ("batch", "order")]
    assert len(set(first)) == len(first) and max(first) < 2**32
    assert len({stream(0, index, "batch").initial_seed() for index in range(20_000)}) == 20_000


def test_bytes_are_scaled_to_plus_minus_one():
    """0 is -1, 255 is 1; what is drawn is what is drawn for numbers."""
    images = torch.arange(256, dtype=torch.uint8).reshape(256, 1)
    x0, t, eps, _ = batch(images, None, 0, 0, 256, 9)
    other = batch(images.float(), None, 0, 0, 256, 9)
    assert x0.dtype == eps.dtype == torch.float32
    assert (x0 - (other[0] - 127.5) / 127.5).abs().max() < 1e-6
    assert x0.min() == -1 and x0.max() == 1
    assert torch.equal(t, other[1]) and torch.equal(eps, other[2])


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_a_batch_are_its_rows(world):
    images, labels = pictures()
    whole = batch(images, labels, 3, 5, 16, 100, flip=True)
    for rank in range(world):
        part = batch(images, labels, 3, 5, 16, 100, flip=True, part=(rank, world))
        assert all(torch.equal(a, b[rank::world]) for a, b in zip(part, whole))


# The run.

def run(path=None, stop=None, steps=12, **options):
    """A training to step `stop`, or on from a checkpoint: the losses from there, and the state."""
    images, labels = pictures()
    network = UNet(CONFIG)
    optimizer, ema = torch.optim.AdamW(network.parameters()), EMA(network, 500)
    start = checkpoint.load(path, network, optimizer, ema)[0] if path and path.exists() else 0
    losses = []
    options = {"lr": 3e-3, "warmup": 8, "clip": 0.5, "drop": 0.3, "flip": True, **options}
    for now in train(network, optimizer, cosine(100), images, labels, steps=steps, size=16,
                     start=start, seed=5, **options):
        ema.update(16)
        losses.append(now)
        if now.step == stop:
            checkpoint.save(path, now.step, CONFIG, network, optimizer, ema)
            break
    moments = [v for slot in optimizer.state.values() for _, v in sorted(slot.items())]
    return losses, [*network.parameters(), *ema.network.parameters(), *moments]


@pytest.mark.parametrize("stop", [1, 6])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, stop):
    """With dropout, label dropout, flips, warm-up, clip and average, in another global state."""
    whole, state = run()
    first, _ = run(tmp_path / "a", stop)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(99)
        rest, resumed = run(tmp_path / "a")
    assert [now.step for now in first + rest] == list(range(1, 13))
    assert first + rest == whole
    assert len(state) == len(resumed) and all(torch.equal(a, b) for a, b in zip(state, resumed))


def test_dropout_differs_from_step_to_step_and_leaves_the_global_state(tmp_path):
    drops, images = [], torch.zeros(4, 1, 8, 8)
    network = UNet(CONFIG)
    network.down[0].residual.dropout.register_forward_hook(lambda *a: drops.append(a[2] == 0))
    before = torch.get_rng_state()
    optimizer = torch.optim.SGD(network.parameters())
    steps = train(network, optimizer, cosine(9), images, steps=3, size=4)
    for _ in steps:
        network.eval()  # to draw a picture, say: the next step is in training mode all the same
        torch.rand(7)
    assert len(drops) == 3
    assert not torch.equal(drops[0], drops[1]) and not torch.equal(drops[1], drops[2])
    assert 0.1 < drops[1].float().mean() < 0.3
    now = torch.get_rng_state()
    torch.set_rng_state(before)
    for _ in range(3):
        torch.rand(7)
    assert torch.equal(now, torch.get_rng_state())  # only our own draws have moved it


def test_dropout_is_another_in_each_process():
    """In the first it is what it is without others."""
    draws = []
    for rank in (0, 1):
        with _dropout(5, 3, torch.device("cpu"), rank):
            draws.append(torch.rand(9))
    assert torch.equal(draws[0], torch.rand(9, generator=stream(5, 3, "dropout")))
    assert not torch.equal(*draws)


def straight(value=1.0):
    """A network with one weight w that says y = w·x."""
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(value)
    layer.forward = lambda x, c, labels=None: layer.weight * x
    return layer


def test_a_step_is_its_formula():
    """w - lr·gradient of the batch's mean square error, clipped; lr rises over 4 steps."""
    images, table, clip = random(20, 1), cosine(50), 0.7
    network, w = straight(2.0), 2.0
    steps = train(network, torch.optim.SGD(network.parameters(), lr=99.0), table, images, steps=6,
                  size=8, kind="eps", lr=0.4, warmup=4, clip=clip)
    clipped = set()
    for k, now in enumerate(steps):
        x0, t, eps, _ = batch(images, None, 0, k, 8, 50)
        x0, eps = x0.double(), eps.double()
        x = torch.tensor(table.alpha)[t, None] * x0 + torch.tensor(table.sigma)[t, None] * eps
        gradient = (2 * x * (w * x - eps)).mean().item()
        lr = 0.4 * min(1, (k + 1) / 4)
        assert now.step == k + 1 and now.lr == pytest.approx(lr)
        assert now.loss == pytest.approx(((w * x - eps) ** 2).mean().item(), rel=1e-4)
        assert now.norm == pytest.approx(abs(gradient), rel=1e-4)
        clipped.add(abs(gradient) > clip)
        w -= lr * gradient * min(1, clip / abs(gradient))
        assert network.weight.item() == pytest.approx(w, rel=1e-4, abs=1e-5)
    assert clipped == {True, False}


def test_lr_falls_to_zero_over_the_last_steps():
    """Up over 4 steps, down over the last 5, by hand; where they meet, the lower of both."""
    def rates(**options):
        network = straight()
        return [now.lr for now in train(network, torch.optim.SGD(network.parameters()), cosine(9),
                                        random(8, 1), size=4, lr=0.2, **options)]

    up, down = [0.05, 0.1, 0.15], [0.2, 0.16, 0.12, 0.08, 0.04]
    assert rates(steps=9, warmup=4, decay=5) == pytest.approx([*up, 0.2, *down])
    assert rates(steps=4, warmup=4, decay=4) == pytest.approx([0.05, 0.1, 0.1, 0.05])
    assert rates(steps=9, decay=5, start=6) == pytest.approx(down[2:])


def test_rows_count_as_they_weigh():
    """The loss of a network that says 0, for eps: the mean of weight[t]·eps², literally."""
    images, weight = random(20, 1), np.linspace(5, 0, 10)
    said = next(train(straight(0.0), torch.optim.SGD([torch.ones(1)]), cosine(9), images, steps=1,
                      size=16, kind="eps", weight=weight))
    _, t, eps, _ = batch(images, None, 0, 0, 16, 9)
    want = np.mean([weight[row] * value**2 for row, value in zip(t.tolist(), eps[:, 0].tolist())])
    assert said.loss == pytest.approx(want, rel=1e-5)


def test_autocast_is_around_the_network_alone():
    """Inside, a matrix product is in bfloat16; what the loss sees, and all weights, in float32."""
    inside, network = [], torch.nn.Linear(4, 4)

    def forward(x, c):
        inside.append((x.dtype, torch.nn.functional.linear(x, network.weight).dtype))
        return torch.nn.functional.linear(x, network.weight)

    network.forward = forward
    x = random(2, 4)
    assert in_precision(network) is network
    assert in_precision(network, torch.bfloat16)(x, 0).dtype == torch.float32
    list(train(network, torch.optim.SGD(network.parameters()), cosine(9), x, steps=1, size=2,
               autocast=torch.bfloat16))
    assert inside == [(torch.float32, torch.bfloat16)] * 2
    assert network.weight.dtype == network.weight.grad.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_labels_are_forgotten_as_often_as_asked():
    """n = 4,000: 5 standard errors. Those that are not are the right ones."""
    heard = []

    def network(x, c, labels):
        heard.append((x, labels))
        return weight * x

    weight = torch.nn.Parameter(torch.ones(()))
    network.parameters, network.train = (lambda: iter([weight])), (lambda: None)
    network.config = SimpleNamespace(classes=10)
    images, labels = random(100, 1), torch.arange(100) % 10
    list(train(network, torch.optim.SGD([weight], lr=0.0), cosine(9), images, labels, steps=1,
               size=4000, drop=0.3))
    told, (_, _, _, true) = heard[0][1], batch(images, labels, 0, 0, 4000, 9)
    gone = told == 10
    assert abs(gone.sum() - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5
    assert torch.equal(told[~gone], true[~gone])


def test_training_on_digits_lowers_the_loss():
    """y = 0 has a loss of 1 or so, v being of unit variance; after 150 steps it is below 0.5."""
    images, labels = pictures()
    network = UNet(UNetConfig(**{**CONFIG.__dict__, "dropout": 0.0, "base": 16}))
    steps = train(network, torch.optim.Adam(network.parameters()), cosine(100), images, labels,
                  steps=150, size=16, lr=3e-3, drop=0.1)
    losses = [now.loss for now in steps]
    assert 0.7 < losses[0] < 1.4
    assert np.mean(losses[-30:]) < 0.5


def test_an_mlp_trains_too():
    points = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    network = MLP(2, (32, 32))
    losses = [now.loss for now in train(network, torch.optim.Adam(network.parameters()), cosine(50),
                                        points, steps=200, size=64, lr=5e-3)]
    assert np.mean(losses[-20:]) < 0.75 * losses[0]


def test_a_step_that_fails_is_named():
    images = random(8, 1)
    network = straight()
    steps = train(network, torch.optim.SGD(network.parameters()), cosine(9), images, steps=9,
                  size=4, lr=0.25)
    next(steps), next(steps)
    with torch.no_grad():
        network.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 3, at lr 0.25: the loss is nan.*begin again,"):
        next(steps)
    with pytest.raises(FloatingPointError, match="step 1, .*the loss is inf"):
        next(train(straight(1e30), torch.optim.SGD([torch.ones(1)]), cosine(9), images, steps=1,
                   size=4))


def test_a_step_that_fails_names_the_last_good_checkpoint(tmp_path):
    path, network = tmp_path / "run.safetensors", straight()
    steps = train(network, torch.optim.SGD(network.parameters()), cosine(9), random(8, 1), steps=9,
                  size=4, saved=path)
    for now in steps:
        if now.step == 2:
            checkpoint.save(path, now.step, None, network)
        if now.step == 4:
            break
    with torch.no_grad():
        network.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=f"step 5, .*go on from {path}, which is of step 2,"):
        next(steps)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))),
                    reason="torch.compile needs a C++ compiler")
def test_a_resumed_run_under_compile_is_the_uninterrupted_one_to_1e_4(tmp_path):
    """So is the run that isn't compiled: the same sums, added up in another order."""
    points, path = random(64, 2), tmp_path / "a"

    def losses(stop=None, compiled=True):
        network = MLP(hidden=(8,))
        if compiled:
            network.compile()
        adam, start = torch.optim.Adam(network.parameters()), 0
        if path.exists():
            start, _ = checkpoint.load(path, network, adam)
        made = []
        for now in train(network, adam, cosine(50), points, steps=12, size=16, start=start, lr=0.01):
            made.append(now.loss)
            if now.step == stop:
                checkpoint.save(path, stop, None, network, adam)
                break
        return made

    eager, whole, parts = losses(compiled=False), losses(), losses(5) + losses()
    assert len(eager) == len(whole) == len(parts) == 12
    assert parts == pytest.approx(whole, rel=1e-4) and eager == pytest.approx(whole, rel=1e-4)


def test_after_the_last_step_there_is_none():
    steps = train(straight(), torch.optim.SGD([torch.ones(1)]), cosine(9), random(8, 1), steps=3,
                  size=4, start=3)
    assert list(steps) == []


@pytest.mark.parametrize("options, words", [
    (dict(images=torch.zeros(8, 1, dtype=torch.int64)), "images must be of floating-point"),
    (dict(labels=torch.zeros(7, dtype=int)), "labels must be 8, one an image; got 7"),
    (dict(steps=0), "steps must be a whole number >= 1; got 0"),
    (dict(size=0), "size must be a whole number >= 1; got 0"),
    (dict(start=-1), "start must be a whole number >= 0; got -1"),
    (dict(warmup=-1), "warmup must be a whole number >= 0; got -1"),
    (dict(decay=-1), "decay must be a whole number >= 0; got -1"),
    (dict(weight=np.ones(9)), "weight must be 10 finite numbers >= 0"),
    (dict(weight=-np.ones(10)), "weight must be 10 finite numbers >= 0"),
    (dict(part=(2, 2)), r"part must be \(rank, world\) with .*; got \(2, 2\)"),
    (dict(part=(0, 3)), "size must be divisible among 3 processes; got 4"),
    (dict(lr=0), "lr must be > 0; got 0"), (dict(clip=0), "clip must be > 0; got 0"),
    (dict(drop=1.5), r"drop must be in \[0, 1\]; got 1.5"),
    (dict(drop=0.1), "drop must be 0 where there are no labels to forget; got 0.1"),
    (dict(kind="noise"), "kind must be one of"),
    (dict(schedule=flow(9), kind="eps"), "kind must be one that"),
    (dict(data_scale=0), "data_scale must be > 0"),
])
def test_training_refuses(options, words):
    options = {"images": torch.zeros(8, 1), "schedule": cosine(9), "steps": 3, "size": 4, **options}
    network = straight()
    with pytest.raises(ValueError, match=words):
        train(network, torch.optim.SGD(network.parameters()), **options)


# A seed for each sample.

def test_a_sample_s_noise_is_the_same_alone_and_in_a_batch():
    many, one = Seeds(range(64)), Seeds([7])
    for shape in ((3, 8, 8), (2,), (3, 8, 8)):
        a, b = many.standard_normal((64, *shape)), one.standard_normal((1, *shape))
        assert a.shape == (64, *shape) and a.dtype == torch.float32 and torch.equal(a[7:8], b)
    assert len({row.flatten()[0].item() for row in a}) == 64
    assert many.standard_normal((64, 2), dtype=torch.float64).dtype == torch.float64
    before = torch.get_rng_state()
    assert torch.equal(Seeds([3, 7]).standard_normal((2, 5)), Seeds([3, 7]).standard_normal((2, 5)))
    assert torch.equal(torch.get_rng_state(), before)
    noise = Seeds(range(50)).standard_normal((50, 2000))  # n = 100,000: 5 standard errors
    assert abs(noise.mean()) < 5 / 1e5**0.5 and abs(noise.var() - 1) < 5 * 2e-5**0.5


@pytest.mark.parametrize("sampler", [lambda *a: ddim(*a[:3]),
                                     lambda *a: ddim(*a[:3], 0.5, a[3]), ddpm])
def test_an_image_is_the_same_alone_and_in_a_batch(sampler):
    """To 1e-4 in float32: convolutions of another batch size add up in another order."""
    network, table = UNet(CONFIG).eval(), cosine(10)
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.add_(0.02 * random(*p.shape, seed=i))

    def draw(seeds):
        rng = Seeds(seeds)
        x = rng.standard_normal((len(seeds), 1, 8, 8))
        with torch.no_grad():
            return last(sampler(denoiser(network, table, "v"), table, x, rng))

    many = draw(range(12))
    assert (many[1] - many[0]).abs().max() > 0.1
    assert torch.allclose(draw([7]), many[7:8], rtol=0, atol=1e-4)


@pytest.mark.parametrize("call, words", [
    (lambda: Seeds([]), "seeds must be one or more"),
    (lambda: Seeds([-1]), "seeds must be one or more"),
    (lambda: Seeds([2**32]), r"whole numbers in \[0, 2³²\); got \[4294967296\]"),
    (lambda: Seeds([1, 2]).standard_normal((3, 4)),
     r"shape must be \(2, ...\): one sample a seed; got"),
])
def test_seeds_refuse(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_network_s_answer_of_another_shape_is_refused():
    """It would broadcast, and train on nonsense."""
    x = torch.zeros(8, 1)
    with pytest.raises(ValueError, match=r"network\(x, c\) must be of x's shape \(8, 1\); got \(8,\)"):
        loss(lambda x, c: x[:, 0], cosine(5), x, torch.ones(8, dtype=torch.int64), x)
