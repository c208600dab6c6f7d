"""A run: killed, stopped, and on several processes it ends where the uninterrupted one does."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from minidiff.schedule import linear

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
import minidiff.run  # noqa: E402
from minidiff.nn import EMA, Seeds, UNet, checkpoint  # noqa: E402
from minidiff.recipes import TINY, Recipe  # noqa: E402
from minidiff.run import run  # noqa: E402
from minidiff.train import train  # noqa: E402
from minidiff.trained import load, picture, samples, validate  # noqa: E402

torch.set_num_threads(1)

RECIPE = replace(
    TINY, network=replace(TINY.network, base=8, dropout=0.2, classes=3), T=20,
    batch=8, steps=12, lr=3e-3, warmup=3, decay=6, flip=True, half_life=60.0, drop=0.2)
EVERY = {"log": 4, "look": 6}  # so lines at 4, 6, 8, 12 and 12
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
LABELS = (np.arange(40) % 3).astype(np.uint8)
DATA, HELD_OUT = (IMAGES[:30], LABELS[:30]), (IMAGES[30:], LABELS[30:])


def go(folder, recipe=RECIPE, **options):
    return run(recipe, *DATA, folder, **{"held_out": HELD_OUT, **EVERY, **options})


def log(folder):
    """The log without what no two runs have alike."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items()
             if name not in ("seconds", "images_a_second")} for line in lines]


def tensors(folder, name="checkpoint.safetensors"):
    """Network, average and moments as they are in the file."""
    from safetensors.torch import load_file

    return load_file(folder / name)


def alike(one, other):
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert log(one) == log(other)
    for path in one.glob("*.png"):
        assert path.read_bytes() == (other / path.name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder, and its steps."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, list(go(folder))


def test_what_a_run_leaves(whole):
    folder, steps = whole
    losses = [now.loss for now in steps]
    lines = log(folder)
    assert [now.step for now in steps] == list(range(1, 13))
    assert [line["step"] for line in lines] == [4, 6, 8, 12, 12]
    assert all(line["images"] == 8 * line["step"] for line in lines)
    for line, end in ((lines[0], 4), (lines[2], 8), (lines[3], 12)):
        assert line["loss"] == pytest.approx(np.mean(losses[end - 4:end]))
        assert (line["lr"], line["norm"]) == (steps[end - 1].lr, steps[end - 1].norm)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors", "log.jsonl", "samples-48.png", "samples-96.png",
        "weights-48.safetensors", "weights-96.safetensors"}
    network, recipe = load(folder)
    assert recipe == RECIPE and network.config == RECIPE.network and not network.training
    ema = tensors(folder)
    assert all(torch.equal(p, ema[f"ema/{name}"]) for name, p in network.named_parameters())
    held_out = torch.from_numpy(HELD_OUT[0]), torch.from_numpy(HELD_OUT[1]).long()
    levels = validate(network, recipe, *held_out)
    assert lines[4]["levels"] == {str(row): value for row, value in levels.items()}
    assert lines[4]["valid"] == pytest.approx(np.mean(list(levels.values())))
    assert list(go(folder)) == []  # it is done
    assert log(folder) == lines


def test_the_weights_of_every_look_are_kept_in_two_bytes_each(whole):
    """The averaged ones, to bf16's eight bits, and what is needed to sample from them."""
    folder = whole[0]
    path, (best, recipe) = folder / "weights-96.safetensors", load(folder)
    step, state = checkpoint.about(path)
    assert (step, state["images"], state["run"]["seed"]) == (12, 96, 0) and state["seconds"] > 0
    assert all(value.dtype == torch.bfloat16 for value in tensors(folder, path.name).values())
    network, same = load(path)
    assert same == recipe and not network.training
    for ours, halves in zip(best.parameters(), network.parameters(), strict=True):
        assert halves.dtype == torch.float32 and torch.equal(halves, ours.bfloat16().float())
    earlier = load(folder / "weights-48.safetensors")[0]
    assert not torch.equal(earlier.first.weight, network.first.weight)


def test_steps_are_those_of_train_by_the_recipe(whole, tmp_path):
    """Spelled out: the recipe's every number goes where it belongs."""
    images, labels = torch.from_numpy(DATA[0]), torch.from_numpy(DATA[1]).long()
    network = UNet(RECIPE.network, minidiff.run.stream(0, 0, "weights"))
    ema, adam = EMA(network, 60.0), torch.optim.Adam(network.parameters())
    snr = RECIPE.table.snr[1:]
    steps = train(network, adam, RECIPE.table, images, labels, steps=12, size=8, seed=0, kind="v",
                  lr=3e-3, warmup=3, clip=1.0, drop=0.2, flip=True, decay=6,
                  weight=np.append(0, RECIPE.table.sigma[1:] ** 2 * np.minimum(snr, 5)))
    for ours, now in zip(whole[1], steps, strict=True):
        assert now == pytest.approx(ours, rel=1e-4)
        ema.update(8)
    theirs = load(whole[0])[0]
    for a, b in zip(ema.network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert next(go(tmp_path, seed=1)).loss != whole[1][0].loss
    first, other = (minidiff.run._made(RECIPE, seed, torch.device("cpu"))[0] for seed in (0, 1))
    assert not torch.equal(first.first.weight, other.first.weight)


# Killed and stopped.

CHILD = """if True:
    import os, signal, sys, test_run
    from pathlib import Path
    save = test_run.checkpoint.save

    def deadly(path, step, *rest):  # written after step 5, and then not until it dies in step 10
        if step == 5:
            save(path, step, *rest)
        if step == 10:
            Path(f"{path}.part").write_bytes(path.read_bytes()[:1000])
            os.kill(os.getpid(), signal.SIGKILL)

    test_run.checkpoint.save = deadly
    for now in test_run.go(Path(sys.argv[1]), save=0.0):
        pass"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_killed_in_the_middle_of_a_checkpoint_it_goes_on_bit_for_bit(whole, tmp_path):
    """The log had lines of steps that were lost, and one cut off; they are the same in the end."""
    done = subprocess.run([sys.executable, "-c", CHILD, tmp_path], cwd=ROOT / "tests",
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert [line["step"] for line in log(tmp_path)] == [4, 6, 8]
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 9, "im')
    assert [now.step for now in go(tmp_path)] == list(range(6, 13))
    assert checkpoint.about(tmp_path / "checkpoint.safetensors")[0] == 12
    alike(whole[0], tmp_path)


class Ended(BaseException):
    pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_has_its_way(number, whole, tmp_path, capsys):
    def usual(number, frame):
        raise Ended

    before = signal.signal(number, usual)
    try:
        made = []
        with pytest.raises(Ended):
            for now in go(tmp_path, save=1e9):
                made.append(now.step)
                if now.step == 5:
                    signal.raise_signal(number)
        assert signal.getsignal(number) is usual
        with pytest.raises(Ended):  # a second one doesn't wait for the step's end
            for now in go(tmp_path, save=1e9):
                signal.raise_signal(number)
                signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert made == [1, 2, 3, 4, 5, 6]
    assert f"Stopped after step 6 of 12, which is saved in {tmp_path}. " in capsys.readouterr().out
    assert [now.step for now in go(tmp_path)] == list(range(7, 13))
    alike(whole[0], tmp_path)


def test_checkpoints_are_as_often_as_asked(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda path, step, *rest:
                        path.name == "checkpoint.safetensors" and saved.append(step))
    for seconds in (0.0, 1e9):
        list(go(tmp_path / str(seconds), replace(RECIPE, steps=6), save=seconds))
    assert saved == [1, 2, 3, 4, 5, 6, 6]
    clock = [0.0]
    monkeypatch.setattr(minidiff.run.time, "monotonic", lambda: clock[0])
    for _ in go(tmp_path / "two", replace(RECIPE, steps=6), save=2.0):
        clock[0] += 1  # a second a step
    assert saved[7:] == [3, 5, 6]


def test_signals_do_what_they_did_when_the_run_is_over(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for _ in go(tmp_path, replace(RECIPE, steps=5, decay=0)):
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert (tmp_path / "samples-40.png").exists()  # at the end, whatever `look` says
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_seconds_add_up_over_all_sessions(tmp_path, monkeypatch):
    """A clock that says 10 s more each time it is asked: so the second session begins later."""
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(minidiff.run.time, "monotonic", lambda: float(next(clock)))
    for now in go(tmp_path, save=0.0):
        if now.step == 7:
            break
    middle = checkpoint.about(tmp_path / "checkpoint.safetensors")[1]["seconds"]
    list(go(tmp_path, save=0.0))
    seconds = [json.loads(line)["seconds"] for line in (tmp_path / "log.jsonl").open()]
    end = checkpoint.about(tmp_path / "checkpoint.safetensors")[1]["seconds"]
    assert seconds == sorted(seconds) and end > seconds[-1]
    assert seconds[1] < middle < seconds[2] < middle + 100


@pytest.mark.parametrize("change, words", [
    (dict(recipe=replace(RECIPE, batch=4)), "of the same run; .*batch: 8 there, 4 here"),
    (dict(seed=1), "seed: 0 there, 1 here")])
def test_the_folder_of_another_run_is_left_alone(whole, change, words):
    before = tensors(whole[0])
    with pytest.raises(ValueError, match=words):
        next(go(whole[0], **change))
    assert all(torch.equal(before[name], value) for name, value in tensors(whole[0]).items())


def test_other_data_is_another_run(whole):
    for data in ((IMAGES[10:], DATA[1]), (DATA[0], LABELS[1:31])):
        with pytest.raises(ValueError, match="data: 30 images, CRC"):
            next(run(RECIPE, *data, whole[0]))


@pytest.mark.parametrize("images, labels, words", [
    (IMAGES[:, :, :4], LABELS, r"images must be N of shape \(1, 8, 8\).*; got \(40, 1, 4, 8\)"),
    (IMAGES, LABELS[1:], "labels must be 40 in 0..2, one an image"),
    (IMAGES, LABELS + 1, "labels must be 40 in 0..2")])
def test_data_that_does_not_fit_is_refused(images, labels, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        next(run(RECIPE, images, labels, tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_too_little_memory_is_told_with_advice(tmp_path, monkeypatch):
    def train(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(minidiff.run, "train", train)
    with pytest.raises(MemoryError, match="batch = 8: try half, batch = 4, .* lr = 0.0015"):
        next(go(tmp_path))


@pytest.mark.parametrize("factor, words", [
    (1.0, ""), (0.0, "Not compiled: the slope of last.2.weight would be 100% off.\n")])
def test_who_compiles_wrong_is_told_and_not_compiled(factor, words, tmp_path, monkeypatch, capsys):
    """By a compiler that multiplies a slope; what is compiled right is the same run."""
    had = []

    def compile(network):
        had.append(network)
        network.last[2].weight.register_hook(lambda slope: factor * slope)

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    recipe = replace(RECIPE, precision="float32")
    plain = list(go(tmp_path / "a", recipe))
    assert not had and list(go(tmp_path / "b", replace(recipe, compile=True))) == plain
    assert len(had) == (2 if factor else 1) and capsys.readouterr().out == words


def test_a_check_that_takes_too_much_memory_has_advice(tmp_path, monkeypatch):
    def compiled(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(minidiff.run, "compiled", compiled)
    with pytest.raises(MemoryError, match="try half, batch = 4"):
        next(go(tmp_path, replace(RECIPE, compile=True)))


def test_a_loss_that_is_not_finite_names_the_checkpoint(tmp_path, monkeypatch):
    recipe = replace(RECIPE, lr=1e30, clip=1e30, warmup=0)
    with pytest.raises(FloatingPointError, match=f"go on from {tmp_path}.*, which is of step 1"):
        list(go(tmp_path, recipe, save=0.0))


def test_bf16_and_channels_last_keep_the_weights_and_go_on(tmp_path):
    """The moments come back laid out in memory as the weights are, as a fused step asks for."""
    recipe = replace(RECIPE, precision="bf16", channels_last=True)
    first = [now for now in go(tmp_path / "a", recipe)]
    assert not np.array_equal(first, list(go(tmp_path / "b")))
    for now in go(tmp_path / "c", recipe, save=0.0):
        if now.step == 5:
            break
    rest = list(go(tmp_path / "c", replace(recipe, channels_last=False)))
    assert [now.loss for now in rest] == pytest.approx([now.loss for now in first[5:]], rel=0.05)
    assert all(value.dtype == torch.float32 for value in tensors(tmp_path / "a").values())

    network, adam, ema = parts = minidiff.run._made(recipe, 0, torch.device("cpu"))
    checkpoint.load(tmp_path / "a" / "checkpoint.safetensors", *parts)
    before = {p: dict(slot) for p, slot in adam.state.items()}
    minidiff.run._resume(tmp_path / "a", {}, parts, 0)
    for p, slot in adam.state.items():
        assert slot["exp_avg"].stride() == slot["exp_avg_sq"].stride() == p.stride()
        assert all(torch.equal(slot[name], before[p][name]) for name in slot)
    minidiff.run._settle(adam, fused=True)
    assert adam.param_groups[0]["fused"]
    assert any(not p.is_contiguous() for p in adam.state)


# What it has made.

def test_the_loss_of_each_level_is_right_and_fixed(whole):
    """Recomputed image by image at T = 20: rows 1, 3, ..., 19, the noise of image i of seed i."""
    network, recipe = load(whole[0])
    images, labels = torch.from_numpy(HELD_OUT[0]), torch.from_numpy(HELD_OUT[1]).long()
    state = torch.get_rng_state()
    levels = validate(network.train(), recipe, images, labels)
    assert torch.equal(state, torch.get_rng_state())
    assert list(levels) == list(range(1, 21, 2))
    for row in (1, 11, 19):
        a, s = recipe.table.alpha[row], recipe.table.sigma[row]
        want = []
        for i, image in enumerate(images):
            x0 = image.double() * 2 / 255 - 1
            eps = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(i)).double()
            with torch.no_grad():
                y = network((a * x0 + s * eps)[None].float(), 2 * math.log(a / s), labels[i:i + 1])
            want.append(((y[0] - (a * eps - s * x0)) ** 2).mean().item())
        assert levels[row] == pytest.approx(np.mean(want), rel=1e-4)
    again = validate(network, replace(recipe, batch=3), images, labels)
    assert list(again.values()) == pytest.approx(list(levels.values()), rel=1e-4)


def test_on_a_cpu_what_bf16_has_trained_is_asked_in_float32(whole):
    """Few CPUs do bf16 well, and none need wait for it: the same numbers, bit for bit."""
    network, recipe = load(whole[0])
    halves = replace(recipe, precision="bf16")
    held_out = torch.from_numpy(HELD_OUT[0]), torch.from_numpy(HELD_OUT[1]).long()
    assert validate(network, halves, *held_out) == validate(network, recipe, *held_out)
    assert torch.equal(samples(network, halves, 3, 4), samples(network, recipe, 3, 4))


@pytest.mark.parametrize("T, rows", [(1000, list(range(50, 1000, 100))), (3, [1, 2])])
def test_levels_are_the_middles_of_ten_bands(T, rows):
    images, labels = torch.from_numpy(IMAGES[:2]), torch.tensor([0, 1])
    assert list(validate(UNet(RECIPE.network), replace(RECIPE, T=T), images, labels)) == rows


def test_samples_are_told_their_rows_and_classes():
    """By DDIM on the rows 0, 5, ..., 20 of the table, each row's t told as trained."""
    config = replace(RECIPE.network, dropout=0.9)
    recipe = Recipe(config, T=20, precision="float32")
    heard, network = [], UNet(config)
    network.register_forward_pre_hook(lambda module, args: heard.append(args))
    images = samples(network, recipe, 6, steps=4)
    assert images.shape == (6, 1, 8, 8) and images.abs().max() <= 1
    assert [float(c) for _, c, _ in heard] == [20, 15, 10, 5]
    assert all(names.tolist() == [0, 1, 2, 0, 1, 2] for _, _, names in heard)
    noise = Seeds(range(6)).standard_normal((6, 1, 8, 8)) * linear(20).sigma.item(-1)
    assert torch.equal(heard[0][0], noise)
    samples(network, recipe, 2, steps=1, seed=4, labels=[2, 2])
    assert heard[-1][2].tolist() == [2, 2] and torch.equal(heard[-1][0], noise[4:])
    recipe = Recipe(replace(config, classes=0), T=3)
    assert samples(UNet(recipe.network), recipe, count=2).shape == (2, 1, 8, 8)


def test_a_picture_is_its_images_side_by_side(tmp_path):
    from PIL import Image

    images = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 3, 2, 5)
    picture(images, tmp_path / "a.png", columns=3)
    grid = np.asarray(Image.open(tmp_path / "a.png"))
    assert grid.shape == (4, 15, 3)
    assert grid[::2, ::5, 0].tolist() == [[0, 51, 102], [153, 204, 255]]
    picture(images[:, :1], tmp_path / "b.png", columns=2)
    assert np.asarray(Image.open(tmp_path / "b.png")).shape == (6, 10)
    with pytest.raises(ValueError, match="images must be rows of 4"):
        picture(images, tmp_path / "c.png", columns=4)


# Several processes.

STILL = replace(RECIPE, network=replace(RECIPE.network, dropout=0.0), clip=1e9)


def gradients(rank, world):
    """Of one step, averaged over the processes; no weight is zero."""
    network = UNet(STILL.network)
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    wrapped = network if world == 1 else torch.nn.parallel.DistributedDataParallel(network)
    images, labels = torch.from_numpy(DATA[0]), torch.from_numpy(DATA[1]).long()
    now = next(train(wrapped, torch.optim.SGD(network.parameters()), STILL.table, images, labels,
                     steps=1, size=8, clip=math.inf, drop=0.2, flip=True, part=(rank, world)))
    return {"loss": now.loss, **{name: p.grad for name, p in network.named_parameters()}}


def process(rank, folder):
    """One of two: a step's gradients, then a run that is left after step 5."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank,
                                         world_size=2)
    torch.save(gradients(rank, 2), folder / f"gradients-{rank}")
    for now in go(folder / "run", STILL, save=0.0):
        if now.step == 5:
            break
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
def test_two_processes_are_one(tmp_path):
    """Gradients to 1e-6, of which the largest is about 1; after 12 Adam steps of 3e-3, weights to
    1e-3. What two processes began, one goes on with."""
    torch.multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    one = gradients(0, 1)
    for rank in (0, 1):
        two = torch.load(tmp_path / f"gradients-{rank}", weights_only=True)
        assert two.pop("loss") == pytest.approx(one["loss"], rel=1e-6)
        for name, value in two.items():
            torch.testing.assert_close(value, one[name], rtol=1e-5, atol=1e-6)
    assert [now.step for now in go(tmp_path / "run", STILL)] == list(range(6, 13))
    list(go(tmp_path / "alone", STILL))
    ours, theirs = tensors(tmp_path / "alone"), tensors(tmp_path / "run")
    for name in ours:
        if name.startswith(("network", "ema")):
            torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-3)
    for a, b in zip(log(tmp_path / "alone"), log(tmp_path / "run"), strict=True):
        assert (a["step"], a["images"]) == (b["step"], b["images"])
        assert a.get("loss", 0) == pytest.approx(b.get("loss", 0), rel=1e-3)


# The command.

SMALL = ["network.base=8", "T=20", "batch=8", "steps=2", "decay=0"]


def test_the_command_trains_on_digits(tmp_path, capsys):
    from train import main

    arguments = ["digits", "--device", "cpu", "--folder", str(tmp_path), "--look", "2", "--set",
                 *SMALL]
    assert main(arguments) == 0
    assert not (tmp_path / "samples-8.png").exists()  # as a look at every step would leave
    said = capsys.readouterr()
    assert "base=8" in said.out and "batch         8" in said.out and "1,500 images" in said.out
    assert str(tmp_path / "samples-16.png") in said.out and (tmp_path / "samples-16.png").exists()
    assert "2/2" in said.err and "loss=" in said.err
    assert "batch: 8 there, 4 here" in main([*arguments, "batch=4"])


def test_the_command_takes_settings_and_refuses_others():
    from train import changed

    ours = changed(TINY, ["lr=1e-4", "decay=5", "steps=9", "kind=x0", "network.attention=[]",
                          "network.dropout=0.3", "flip=true"])
    assert ours == replace(TINY, lr=1e-4, decay=5, steps=9, kind="x0", flip=True,
                           network=replace(TINY.network, attention=(), dropout=0.3))
    assert changed(TINY, []) == TINY
    for setting, words in (("lines=3", "lines=3 must be NAME=VALUE, for a NAME of .*; got 'lines'"),
                           ("network.lr=3", "network.lr=3 must be NAME=VALUE"),
                           ("lr=0", "lr must be a number > 0; got 0"),
                           ("network=3", "network=3 must be NAME=VALUE"), ("lr", "lr must be"),
                           ("x.base=3", "x.base=3 must be NAME=VALUE")):
        with pytest.raises(ValueError, match=words):
            changed(TINY, [setting])


def test_the_command_finds_the_data(monkeypatch):
    """By stand-ins that say how they were called; what they can't give, it says and ends."""
    import train

    def cifar10(split, source=None):
        if source == "nowhere":
            raise ConnectionError("It did not come.")
        return [f"cifar10 {split} {source}"] * 2000, [3] * 2000

    stand_in = SimpleNamespace(cifar10=cifar10, shapes=lambda split, n=None: ([split, n], [split]))
    for name in ("cifar10", "shapes"):
        monkeypatch.setitem(sys.modules, f"minidiff.data.{name}", stand_in)
    (images, _), (held_out, labels) = train.data("cifar10")
    assert images[0] == "cifar10 train None" and len(images) == 2000
    assert held_out[0] == "cifar10 test None" and len(held_out) == len(labels) == 512
    assert train.data("a/folder")[0][0][0] == "cifar10 train a/folder"
    assert train.data("shapes")[0][0] == ["train", None]
    assert train.data("shapes")[1][0] == ["test", 512]
    assert train.main(["nowhere", "--device", "cpu"]) == "\nIt did not come."


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
def test_the_command_dies_of_sigterm_after_saving(tmp_path):
    child = subprocess.Popen(
        [sys.executable, ROOT / "tools" / "train.py", "digits", "--device", "cpu", "--folder",
         tmp_path, "--set", "network.base=8", "T=20", "batch=4", "steps=99999"], text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun = time.monotonic()
    while not (tmp_path / "log.jsonl").exists() and time.monotonic() < begun + 60:
        time.sleep(0.1)
    child.terminate()
    out, _ = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGTERM and "Stopped after step" in out
    assert checkpoint.about(Path(tmp_path, "checkpoint.safetensors"))[0] >= 100
