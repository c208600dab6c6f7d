"""The same code on another device: networks, training, samples and checkpoints agree with the CPU's.

What needs CUDA or Apple's MPS is skipped where there is none; on the CPU itself all is equal.
"""

import pytest

from minidiff.denoise import denoiser
from minidiff.sampler import ddim, ddpm, last
from minidiff.schedule import cosine

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import EMA, Seeds, UNet, UNetConfig, checkpoint  # noqa: E402
from minidiff.nn.compiled import compiled  # noqa: E402
from minidiff.train import batch, train  # noqa: E402

torch.set_num_threads(1)

CONFIG = UNetConfig(size=8, channels=1, base=8, multipliers=(1, 2), blocks=1, attention=(4,),
                    groups=4, dropout=0.0, classes=10, level_scale=50.0)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(),
                                                 reason="no MPS"))]


def awake(device):
    """A network none of whose weights is zero."""
    network, rng = UNet(CONFIG), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape, generator=rng)
    return network.to(device).eval()


def pictures():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(64, 1, 8, 8, generator=rng), torch.arange(64) % 10


@pytest.fixture(autouse=True)
def whole_digits():
    """Convolutions in float32 and not in TF32, which has ten bits for the digits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_says_the_same(device):
    x, labels = pictures()
    with torch.no_grad():
        here = awake("cpu")(x, 0.5, labels)
        there = awake(device)(x.to(device), 0.5, labels.to(device))
    assert there.device.type == device
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_drawn_is_the_same_bit_for_bit(device):
    images, labels = pictures()
    here = batch(images, labels, 3, 7, 16, 50, flip=True)
    there = batch(images.to(device), labels.to(device), 3, 7, 16, 50, flip=True)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there))
    noise = Seeds(range(4), device).standard_normal((4, 3))
    assert noise.device.type == device
    assert torch.equal(noise.cpu(), Seeds(range(4)).standard_normal((4, 3)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_are_the_same_to_1e_3(device, sampler):
    def made(device):
        table, rng = cosine(10), Seeds(range(8), device)
        denoise, x = denoiser(awake(device), table, "v"), rng.standard_normal((8, 1, 8, 8))
        with torch.no_grad():
            states = ddim(denoise, table, x) if sampler == "ddim" else ddpm(denoise, table, x, rng)
            return last(states).cpu()

    torch.testing.assert_close(made(device), made("cpu"), rtol=1e-3, atol=1e-3)


def losses(device, path=None, stop=None, steps=8, dropout=0.0):
    """Of a training, from the checkpoint at `path` if there is one, to where it is stopped."""
    images, labels = (a.to(device) for a in pictures())
    network = UNet(UNetConfig(**{**CONFIG.__dict__, "dropout": dropout})).to(device)
    adam, ema, start = torch.optim.AdamW(network.parameters()), EMA(network, 100), 0
    if path and path.exists():
        start, _ = checkpoint.load(path, network, adam, ema)
    made = []
    for now in train(network, adam, cosine(50), images, labels, steps=steps, size=16, start=start,
                     drop=0.2, flip=True, warmup=3, saved=path):
        ema.update(16)
        made.append(now.loss)
        if now.step == stop:
            checkpoint.save(path, stop, CONFIG, network, adam, ema)
            break
    return made


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_is_the_same_to_1e_3(device, tmp_path):
    """Also one that began there and goes on here."""
    here = losses("cpu")
    assert losses(device) == pytest.approx(here, rel=1e-3)
    moved = losses(device, tmp_path / "a", 5) + losses("cpu", tmp_path / "a")
    assert moved == pytest.approx(here, rel=1e-3)


@pytest.mark.parametrize("device", DEVICES[:2])
def test_a_resumed_training_with_dropout_is_the_uninterrupted_one(device, tmp_path):
    """To 1e-3: a GPU may add up a sum in another order each time. On the CPU bit for bit."""
    state = torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state()
    whole = losses(device, dropout=0.3)
    parts = losses(device, tmp_path / "a", 5, dropout=0.3) + losses(device, tmp_path / "a", dropout=0.3)
    assert parts == (whole if device == "cpu" else pytest.approx(whole, rel=1e-3))
    assert whole != losses(device)  # there was dropout
    after = torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state()
    assert torch.equal(state, after)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_compiled_network_has_the_slopes_of_the_plain_one():
    """As recipes train: bf16, channels_last. To 5 %: bf16 has eight bits, and each sums its own way."""
    images, labels = (a.to("cuda") for a in pictures())

    def mean(network):
        with torch.autocast("cuda", torch.bfloat16):
            return network(images, 0.5, labels).float().square().mean()

    network = awake("cuda").to(memory_format=torch.channels_last)
    assert compiled(network, mean, tolerance=0.05) is None
