"""Sampling from what a run has trained: every choice is what one would do by hand."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from minidiff import sampler
from minidiff.denoise import clipped, denoiser, guided

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import Seeds, UNet, checkpoint  # noqa: E402
from minidiff.recipes import TINY  # noqa: E402
from minidiff.run import run  # noqa: E402
from minidiff.schedule import linear  # noqa: E402
from minidiff.trained import load, pixels, samples  # noqa: E402

torch.set_num_threads(1)

RECIPE = replace(
    TINY, network=replace(TINY.network, base=8, dropout=0.2, classes=3), schedule="linear", T=20,
    condition="t", kind="v", batch=8, steps=2, lr=0.2, warmup=0, decay=0, half_life=8.0, drop=0.2)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
LABELS = (np.arange(16) % 3).astype(np.uint8)
TABLE = linear(20)


@pytest.fixture(scope="module")
def network():
    """No weight is zero, so that levels and labels matter; its x0 leave [-1, 1]."""
    network = UNet(RECIPE.network)
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two steps that moved every weight."""
    folder = tmp_path_factory.mktemp("run")
    list(run(RECIPE, IMAGES, LABELS, folder))
    return folder


def by_hand(network, solver, rows, seeds, labels, w=1.0):
    """From the table's rows, told as they were in training: the sampler, called once."""
    network.eval()
    rows, table = np.array(rows), TABLE.select(rows)

    def half(*names):
        return denoiser(lambda x, c: network(x, c, *names), table, "v", condition=rows)

    told = half(torch.tensor(labels))
    denoise = clipped(told if w == 1 else guided(told, half(), w), table)
    rng = Seeds(seeds)
    x = TABLE.sigma.item(-1) * rng.standard_normal((len(labels), 1, 8, 8))
    more = {"ddpm": (rng,), "sde": (rng,)}.get(solver, ())
    return sampler.last(getattr(sampler, solver)(denoise, table, x, *more)).clamp(-1, 1)


def differ(a, b, least=0.01):
    """Does every image of a differ from b's, somewhere by more than `least` of the range of 2?"""
    return bool(((a - b).abs().flatten(1).amax(1) > least).all())


@pytest.mark.parametrize("w", [1.0, 2.5])
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun", "dpmpp_2m", "sde"])
def test_each_solver_is_the_sampler_called_by_hand(network, solver, w):
    made = samples(network.train(), RECIPE, 3, 5, 7, [2, 0, 3], solver, w)
    want = by_hand(network, solver, [0, 4, 8, 12, 16, 20], [7, 8, 9], [2, 0, 3], w)
    assert torch.equal(made, want)
    assert made.shape == (3, 1, 8, 8) and made.abs().max() <= 1


def test_solvers_guidance_labels_and_seeds_matter(network):
    """So that the other tests can fail."""
    first = samples(network, RECIPE, 3, steps=5)
    for changed in ({"solver": "ddpm"}, {"solver": "heun"}, {"solver": "dpmpp_2m"},
                    {"solver": "sde"}, {"w": 3.0}, {"labels": [1, 2, 0]}, {"seed": 3},
                    {"steps": 2}):
        made = samples(network, RECIPE, **{"count": 3, "steps": 5} | changed)
        assert differ(made, first), changed


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun", "dpmpp_2m", "sde"])
def test_an_image_depends_on_its_seed_and_label_alone(network, solver):
    """To 1e-4: rounding is 6e-8 a number, and grows from step to step."""
    def made(*args, **options):
        return samples(network, RECIPE, *args, steps=4, solver=solver, w=2.0, **options)

    whole = made(5, seed=5)
    torch.testing.assert_close(made(5, seed=5, batch=2), whole, rtol=0, atol=1e-4)
    for i in (0, 4):
        torch.testing.assert_close(made(1, seed=5 + i, labels=[i % 3]), whole[i:i + 1], rtol=0,
                                   atol=1e-4)


def test_batches_are_as_large_as_asked(network):
    sizes = []
    hook = network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    samples(network, RECIPE, 7, steps=1, batch=3)
    samples(network, RECIPE, 257, steps=1)
    hook.remove()
    assert sizes == [3, 3, 1, 256, 1]


def test_a_network_without_classes_has_no_labels():
    recipe = replace(RECIPE, network=replace(RECIPE.network, classes=0), drop=0.0)
    assert samples(UNet(recipe.network), recipe, 3, steps=2, batch=2).shape == (3, 1, 8, 8)
    with pytest.raises(ValueError, match="labels must be left out: the network has no classes"):
        samples(UNet(recipe.network), recipe, 1, labels=[0])
    with pytest.raises(ValueError, match="w must be 1, as no label was ever dropped"):
        samples(UNet(recipe.network), recipe, 1, w=2.0)


@pytest.mark.parametrize("change, words", [
    ({"count": 0}, "count must be a whole number >= 1; got 0"),
    ({"steps": 0}, "steps must be a whole number >= 1; got 0"),
    ({"batch": 0}, "batch must be a whole number >= 1; got 0"),
    ({"seed": -1}, "seed must be in 0..2³² - 2; got -1"),
    ({"seed": 2**32 - 1}, "seed must be in 0..2³² - 2"),
    ({"solver": "euler"}, "solver must be one of .*'dpmpp_2m'.*; got 'euler'"),
    ({"w": -1.0}, "w must be >= 0; got -1"), ({"w": float("nan")}, "w must be >= 0; got nan"),
    ({"labels": [0]}, r"labels must be 2 in 0..3, where 3 means not told; got \[0\]"),
    ({"labels": [0, 4]}, r"labels must be 2 in 0..3.*; got \[0, 4\]"),
    ({"labels": [0, -1]}, r"labels must be 2 in 0..3.*; got \[0, -1\]"),
])
def test_what_can_t_be_sampled_is_named(network, change, words):
    with pytest.raises(ValueError, match=words):
        samples(network, RECIPE, **{"count": 2} | change)


def test_the_largest_seed(network):
    assert samples(network, RECIPE, 1, steps=1, seed=2**32 - 1).shape == (1, 1, 8, 8)


# From the folder.

def test_a_run_is_found_by_its_folder_or_checkpoint(folder, tmp_path):
    one, other = load(folder), load(folder / "checkpoint.safetensors")
    assert one[1] == other[1] == RECIPE
    assert torch.equal(samples(*one, 2, steps=2), samples(*other, 2, steps=2))
    with pytest.raises(ValueError, match="folder must be a run's, with checkpoint.safetensors in"):
        load(tmp_path)
    for config in (None, {"a": 1}):
        checkpoint.save(tmp_path / "other.safetensors", 1, config, UNet(RECIPE.network))
        with pytest.raises(ValueError, match="other.safetensors must be of a run"):
            load(tmp_path / "other.safetensors")


# The command.

def command(*arguments):
    from sample import main

    return main([*map(str, arguments), "--device", "cpu", "--steps", "3"])


def test_the_archive_holds_images_labels_and_seeds(folder, tmp_path, capsys):
    out = tmp_path / "made.npz"
    assert command(folder, "--count", 5, "--out", out, "--seed", 4, "--labels", 2, 1, "--w", 2,
                   "--solver", "heun", "--batch", 2) == 0
    assert capsys.readouterr().out == f"{out}: 5 images by heun, from seed 4 on\n"
    with np.load(out, allow_pickle=False) as file:
        found = dict(file)
    assert {name: (a.shape, a.dtype.kind) for name, a in found.items()} == {
        "images": ((5, 8, 8, 1), "u"), "labels": ((5,), "i"), "seeds": ((5,), "i")}
    assert found["images"].dtype == np.uint8
    assert found["labels"].tolist() == [2, 1, 2, 1, 2]
    assert found["seeds"].tolist() == [4, 5, 6, 7, 8]
    network, recipe = load(folder)
    for seed, label, image in zip(found["seeds"], found["labels"], found["images"], strict=True):
        alone = samples(network, recipe, 1, 3, int(seed), [label], "heun", 2.0)
        assert abs(((alone[0, 0] + 1) * 127.5).numpy() - image[..., 0]).max() < 0.51  # 0.5: rounded
    assert list(tmp_path.iterdir()) == [out]


def test_by_default_labels_go_in_turn_and_none_are_told_without_classes(folder, tmp_path):
    assert command(folder, "--count", 4, "--out", tmp_path / "a.npz") == 0
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["labels"].tolist() == [0, 1, 2, 0] and file["seeds"].tolist() == [0, 1, 2, 3]
    recipe = replace(RECIPE, network=replace(RECIPE.network, classes=0), drop=0.0)
    list(run(recipe, IMAGES, None, tmp_path / "plain"))
    assert command(tmp_path / "plain", "--count", 2, "--out", tmp_path / "b.npz") == 0
    with np.load(tmp_path / "b.npz", allow_pickle=False) as file:
        assert sorted(file) == ["images", "seeds"]


@pytest.mark.parametrize("options, size", [
    (["--count", 7], (24, 24)), (["--count", 9, "--labels", 1], (64, 16)),
    (["--count", 2], (16, 8)), (["--count", 17, "--labels", *[0, 1] * 8], (128, 16)),
    (["--count", 17, "--labels", *[0] * 17], (64, 24))])
def test_a_picture_has_a_column_for_each_label(folder, options, size):
    """Seven images of three classes are three rows of three, the last two black."""
    from PIL import Image

    assert command(folder, *options) == 0
    with Image.open(folder / "made.png") as image:
        assert image.size == size
        grid = np.asarray(image)
    if options == ["--count", 7]:
        images = pixels(samples(*load(folder), 7, steps=3))[..., 0]
        for i in range(9):
            tile = grid[i // 3 * 8:i // 3 * 8 + 8, i % 3 * 8:i % 3 * 8 + 8]
            assert np.array_equal(tile, images[i] if i < 7 else np.zeros((8, 8)))
    (folder / "made.png").unlink()


def test_the_picture_lies_beside_the_checkpoint(folder):
    assert command(folder / "checkpoint.safetensors", "--count", 1) == 0
    (folder / "made.png").unlink()


@pytest.mark.parametrize("options, words", [
    (["--out", "made.jpg"], "--out must be a .png or .npz file in a folder that exists"),
    (["--out", "nowhere/made.png"], "--out must be a .png or .npz file in a folder that exists"),
    (["--labels", 0, 7], "labels must be 64 in 0..3"), (["--w", -1], "w must be >= 0"),
    (["--count", 0], "count must be"), (["--solver", "euler"], "solver must be one of"),
    (["--device", "abacus"], "--device must be one of this machine's; got 'abacus'")])
def test_bad_input_is_one_sentence(folder, options, words):
    from sample import main

    before = sorted(folder.iterdir())
    said = main([str(folder), "--device", "cpu", *map(str, options)])
    assert said.startswith(words) and "\n" not in said
    assert sorted(folder.iterdir()) == before
    assert main([str(folder / "none"), "--device", "cpu"]).startswith("folder must be a run's")


def test_a_failed_write_leaves_the_old_file(folder, tmp_path, monkeypatch):
    import sample

    def full(part, **arrays):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "made.npz").write_bytes(b"old")
    monkeypatch.setattr(sample.np, "savez", full)
    assert "No space left" in command(folder, "--count", 1, "--out", tmp_path / "made.npz")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_too_little_memory_comes_with_advice(folder, monkeypatch):
    import sample

    def greedy(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sample, "samples", greedy)
    assert command(folder) == "Too little memory for --batch 256: try 128."


def test_the_launcher_knows_it(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from book import COMMANDS

    command, extras = COMMANDS["sample"]
    assert command(["RUN", "--w", "2"]) == ["tools/sample.py", "RUN", "--w", "2"]
    assert "torch" in extras


def test_the_script_ends_with_a_status(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "sample.py", tmp_path], text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr == (f"folder must be a run's, with checkpoint.safetensors in it; "
                           f"got {str(tmp_path)!r}\n")
