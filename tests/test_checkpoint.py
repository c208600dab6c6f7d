"""Checkpoints: all comes back bit for bit, or is refused by name; a kill leaves a whole file."""

import json
import os
import random
import signal
import struct
import sys
import time

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
pytest.importorskip("safetensors", reason="the torch extra is not installed")
from safetensors.torch import save_file  # noqa: E402

from minidiff.nn import EMA, MLP, UNet, UNetConfig, checkpoint  # noqa: E402

torch.set_num_threads(1)

CONFIG = UNetConfig(size=4, channels=1, base=4, multipliers=(1,), blocks=1, attention=(), groups=2)


def training(seed=0, steps=3, make=lambda g: UNet(CONFIG, g), kind=torch.optim.AdamW, **options):
    """A network, an optimizer and an average, after so many steps."""
    network = make(torch.Generator().manual_seed(seed))
    optimizer = kind(network.parameters(), lr=0.1, **options)
    ema = EMA(network, 100)
    for step in range(steps):
        optimizer.zero_grad()
        sum((p - step - 1).square().sum() for p in network.parameters()).backward()
        optimizer.step()
        ema.update(8)
    return network, optimizer, ema


def flat(tree):
    """Every leaf of a state, by its path, in which the order of a dict's keys is none."""
    if isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {(type(tree).__name__, key, *path): leaf
                for key, value in items for path, leaf in flat(value).items()}
    return {(): tree}


def same(a, b):
    """Two states, equal bit for bit and of equal types."""
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for path, left in a.items():
        right = b[path]
        assert type(left) is type(right), path
        if torch.is_tensor(left):
            assert left.dtype == right.dtype and left.shape == right.shape, path
            bits, others = (value.reshape(-1).view(torch.uint8) for value in (left, right))
            assert torch.equal(bits, others), path
        else:
            assert left == right, path


def state(network, optimizer, ema):
    return [dict(network.state_dict()), optimizer.state_dict(), dict(ema.network.state_dict()),
            ema.seen]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.safetensors"
    network, optimizer, ema = training()
    checkpoint.save(path, 3, {"lr": 0.1}, network, optimizer, ema)
    return path


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("kind, options", [
    (torch.optim.AdamW, dict(betas=(0.8, 0.95), weight_decay=0.02)),
    (torch.optim.Adam, dict(amsgrad=True)),
    (torch.optim.SGD, {}), (torch.optim.SGD, dict(momentum=0.9))])
def test_all_comes_back_bit_for_bit(tmp_path, steps, kind, options):
    there, path = training(steps=steps, kind=kind, **options), tmp_path / "a.safetensors"
    network, optimizer, ema = there
    with torch.no_grad():  # bits that a detour by way of decimals would lose
        next(network.parameters()).view(-1)[:3] = torch.tensor([float("nan"), -0.0, 1e-45])
    checkpoint.save(path, 1234, CONFIG, *there)
    back = training(seed=1, steps=2, kind=kind)
    assert checkpoint.load(path, *back) == (1234, json.loads(json.dumps(CONFIG.__dict__)))
    same(state(*there), state(*back))
    assert UNetConfig(**checkpoint.about(path)[1]) == CONFIG


def test_a_loaded_training_goes_on_as_if_nothing_had_been(saved):
    def go_on(network, optimizer, ema):
        for _ in range(2):
            optimizer.zero_grad()
            sum(p.square().sum() for p in network.parameters()).backward()
            optimizer.step()
            ema.update(8)
        return state(network, optimizer, ema)

    back = training(seed=1, steps=1)
    checkpoint.load(saved, *back)
    saved.unlink()  # what was loaded does not lean on the file
    same(go_on(*training()), go_on(*back))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_come_back(tmp_path, dtype):
    a, b = MLP(2, (3,)).to(dtype), MLP(2, (3,), torch.Generator().manual_seed(1)).to(dtype)
    checkpoint.save(tmp_path / "a", 0, None, a)
    assert checkpoint.load(tmp_path / "a", b) == (0, None)
    same(a.state_dict(), b.state_dict())


def test_memory_s_order_is_no_matter(tmp_path):
    network = UNet(CONFIG).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "a", 0, {}, network)
    other = UNet(CONFIG, torch.Generator().manual_seed(1))
    checkpoint.load(tmp_path / "a", other)
    same(network.state_dict(), other.state_dict())


def test_the_network_alone_comes_out_of_a_whole_file(saved):
    network = UNet(CONFIG)
    assert checkpoint.load(saved, network) == (3, {"lr": 0.1}) == checkpoint.about(saved)
    same(network.state_dict(), training()[0].state_dict())


def test_nothing_but_tensors_and_json_is_in_the_file(saved):
    raw = saved.read_bytes()
    header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
    about = json.loads(header.pop("__metadata__")["about"])
    assert about["step"] == 3 and about["ema"] == {"seen": 24}
    assert {name.split("/")[0] for name in header} == {"network", "optimizer", "ema"}


def refused(path, words, given=None):
    """Loading says so, by the file's name, and leaves everything as it was."""
    given = given or training(seed=1, steps=1)
    before = [{key: value.clone() if torch.is_tensor(value) else value
               for key, value in flat(part).items()} for part in state(*given)]
    with pytest.raises(ValueError, match=words) as caught:
        checkpoint.load(path, *given)
    assert f"checkpoint {path} must be" in str(caught.value)
    same([*before], [flat(part) for part in state(*given)])


def flips(path, places, network):
    """Load with one bit of each of these bytes flipped; each time it must be noticed."""
    raw, generator = path.read_bytes(), random.Random(0)
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="whole safetensors|as it was saved|checkpoint.save"):
            checkpoint.load(path, network)


def test_every_flipped_byte_is_noticed(tmp_path):
    """Those of the header, the metadata and the tensors: all."""
    path, network = tmp_path / "a", MLP(1, (1,))
    checkpoint.save(path, 3, {"lr": 0.1}, network)
    size = path.stat().st_size
    assert 500 < size < 1500
    flips(path, range(size), network)


def test_flipped_bytes_of_moments_and_averages_are_noticed(saved):
    size = saved.stat().st_size
    flips(saved, range(0, size, size // 60), UNet(CONFIG))
    refused(saved, "as it was saved")


def test_a_cut_off_file_is_noticed(saved):
    raw = saved.read_bytes()
    header = 8 + struct.unpack("<Q", raw[:8])[0]
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1,
                   len(raw) // 2, len(raw) - 1):
        saved.write_bytes(raw[:length])
        refused(saved, r"a whole safetensors file \(take an earlier checkpoint\)")
    saved.write_bytes(raw + b"\0")
    refused(saved, "a whole safetensors file")


def test_other_files_are_noticed(saved):
    saved.write_bytes(b"PK\x03\x04" + bytes(500))
    refused(saved, "a whole safetensors file")
    for metadata in (None, {"format": "pt"}, {"format": "minidiff checkpoint 2", "about": "{}"},
                     {"format": "minidiff checkpoint 1"}):
        save_file({"network/w": torch.zeros(2)}, saved, metadata)
        refused(saved, r"a file of minidiff's checkpoint.save, 'minidiff checkpoint 1'; got")
    with pytest.raises(FileNotFoundError):
        checkpoint.load(saved.parent / "none", MLP())


@pytest.mark.parametrize("make, words", [
    (lambda g: UNet(UNetConfig(**{**CONFIG.__dict__, "base": 8}), g),
     "base: 4 in the file, 8 here"),
    (lambda g: UNet(UNetConfig(**{**CONFIG.__dict__, "dropout": 0.2}), g),
     "dropout: 0.1 in the file"),
    (lambda g: MLP(2, (3,), g), "a config in the file, none here"),
])
def test_another_network_is_noticed(saved, make, words):
    refused(saved, f"a network like the one given .*{words}", training(1, 1, make))


def test_other_tensors_are_noticed(tmp_path):
    path = tmp_path / "a"
    checkpoint.save(path, 3, {}, *training(make=lambda g: MLP(2, (3,), g)))
    for hidden, words in [((4,), r"layers.0.weight: \[3, 19\] in the file, \[4, 19\] here"),
                          ((3, 3), r"layers.1.weight: \[2, 3\] in the file, \[3, 3\] here")]:
        refused(path, "tensors like those of the network given.*" + words,
                training(1, 1, lambda g: MLP(2, hidden, g)))
    network, optimizer, ema = training(1, 1, lambda g: MLP(2, (3,), g))
    refused(path, "tensors like those of the ema given",
            (network, optimizer, EMA(MLP(2, (4,)), 10)))


def test_another_optimizer_is_noticed(saved):
    refused(saved, "an optimizer like the one given; got .*AdamW in the file, SGD here",
            training(1, 1, kind=torch.optim.SGD))
    network, _, ema = training(1, 1)
    half = torch.optim.AdamW(list(network.parameters())[:2])
    refused(saved, "an optimizer like the one given; got .*params", (network, half, ema))


def test_moments_of_other_shapes_are_noticed(tmp_path):
    """torch itself would take them, and fail at the next step."""
    network, optimizer, ema = training()
    optimizer.state[next(network.parameters())]["exp_avg"] = torch.zeros(7)
    checkpoint.save(tmp_path / "a", 3, {}, network, optimizer, ema)
    refused(tmp_path / "a", "moments of the parameters' shapes")


def test_what_is_not_in_the_file_is_not_read_from_it(saved):
    network, optimizer, ema = training()
    checkpoint.save(saved, 3, {}, network, ema=ema)
    refused(saved, r"saved with an optimizer \(leave it out, or take another file\); got")
    checkpoint.save(saved, 3, {}, network, optimizer)
    refused(saved, "saved with an ema")


def test_an_error_half_way_leaves_the_old_file(saved, monkeypatch):
    old, (network, optimizer, ema) = saved.read_bytes(), training(seed=2)

    def fail(*args):
        raise OSError("no space left on device")

    for owner, name in ((checkpoint, "to_bytes"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match="no space left"):
                checkpoint.save(saved, 4, {}, network, optimizer, ema)
        assert saved.read_bytes() == old and os.listdir(saved.parent) == [saved.name]
    with pytest.raises(TypeError):
        checkpoint.save(saved, 4, {"function": len}, network, optimizer, ema)
    assert saved.read_bytes() == old


def test_the_file_is_on_the_disk_before_it_takes_the_old_one_s_place(saved, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append("fsync"), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.save(saved, 4, {}, *training())
    assert calls == ["fsync", "replace"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
def test_a_killed_process_leaves_a_whole_file(tmp_path):
    """kill -9 at 20 moments, while a child saves step after step without a pause."""
    path, generator = tmp_path / "run.safetensors", random.Random(0)
    network, optimizer, ema = training(make=lambda g: MLP(2, (256, 256), g))
    checkpoint.save(path, 0, {}, network, optimizer, ema)
    steps, parts = [], 0
    for _ in range(20):
        child = os.fork()
        if not child:
            try:
                for step in range(checkpoint.about(path)[0] + 1, 10**6):
                    network.load_state_dict({name: torch.full_like(value, step)
                                             for name, value in network.state_dict().items()})
                    checkpoint.save(path, step, {}, network, optimizer, ema)
            finally:
                os._exit(1)
        time.sleep(generator.uniform(0.01, 0.15))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        parts += os.path.exists(f"{path}.part")
        step, _ = checkpoint.load(path, network, optimizer, ema)
        assert step == 0 or all((p == step).all() for p in network.parameters())
        steps.append(step)
    assert steps == sorted(steps) and steps[-1] > 0 and parts > 0
    checkpoint.save(path, -1, {}, network, optimizer, ema)  # over what a killed one left
    assert os.listdir(tmp_path) == [path.name]
