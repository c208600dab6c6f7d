"""Train a recipe on images: it shows itself as it goes, and goes on where it was stopped or killed.

    python book.py train cifar10 [--recipe ddpm] [--set batch=256 network.dropout=0.2 ...]
    torchrun --nproc-per-node 2 tools/train.py cifar10     the same on two GPUs

The data are `cifar10`, downloaded once; `shapes` or `digits`, which come with the book; or where
CIFAR-10's archive or its folder is, a path or a URL. `tiny` is the recipe for the digits.
"""

import argparse
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import distributed
from tqdm.auto import tqdm

from minidiff.errors import require
from minidiff.nn import UNet, parameters
from minidiff.recipes import DDPM, FAST, SMALL, TINY
from minidiff.run import run

RUNS = Path(__file__).resolve().parent.parent / "runs"
RECIPES = {"ddpm": DDPM, "fast": FAST, "small": SMALL, "tiny": TINY}
HELD_OUT = 512  # images at most that tell the loss, of those that are not trained on


def main(arguments):
    """Train; returns what `sys.exit` takes: a status, or a sentence on what went wrong."""
    options = parsed(arguments)
    rank, device = placed(options.device)
    name = options.recipe or ("tiny" if options.data == "digits" else "fast")
    folder = Path(options.folder or RUNS / f"{Path(options.data).name}-{name}")
    try:
        recipe = changed(RECIPES[name], options.set)
        given, held_out = data(options.data, rank)
        if rank == 0:
            with torch.device("meta"):
                count = parameters(UNet(recipe.network))
            print(f"{recipe}\n\n{name} has {count:,} parameters; {len(given[0]):,} images of "
                  f"{options.data}; on {device}; all is in {folder}", flush=True)
        follow(run(recipe, *given, folder, held_out=held_out, device=device, seed=options.seed,
                   look=options.look), recipe, rank)
    except (ValueError, ConnectionError, FloatingPointError, MemoryError) as error:
        return f"\n{error}"
    except KeyboardInterrupt:
        return 130
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    if rank == 0:
        print(f"Done: the last samples are {folder}/samples-{recipe.steps * recipe.batch}.png. "
              f"For more of them:\n\n    from minidiff.trained import load, samples\n"
              f"    network, recipe = load({str(folder)!r})\n"
              f"    images = samples(network, recipe, count=64, seed=1000)")
    return 0


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="cifar10, shapes, digits, or where CIFAR-10 is")
    parser.add_argument("--recipe", choices=RECIPES, help="by default fast; tiny for digits")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="changes of it")
    parser.add_argument("--folder", help="of the run, by default runs/DATA-RECIPE")
    parser.add_argument("--device", help="by default the best there is: cuda, mps or cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--look", type=int, metavar="STEPS",
                        help="between two pictures of samples, by default a twentieth of all")
    return parser.parse_args(arguments)


def placed(device):
    """`(rank, device)` of this process, of which `torchrun` may have started several."""
    device = device or ("cuda" if torch.cuda.is_available() else
                        "mps" if torch.backends.mps.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # sizes stay: find each convolution's best way once
    if "LOCAL_RANK" not in os.environ:
        return 0, device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return distributed.get_rank(), device


def data(name, rank=0):
    """`(images, labels)` to train on, and those held out: all uint8."""
    if rank > 0:
        distributed.barrier()  # the first process fetches what there is to fetch
    if name == "digits":
        from minidiff.data import digits
        images, labels = digits()
        images = ((images[:, None] + 1) * 127.5).round().astype("uint8")
        train, test = (images[:1500], labels[:1500]), (images[1500:], labels[1500:])
    elif name == "shapes":
        from minidiff.data.shapes import shapes
        train, test = shapes("train"), shapes("test", HELD_OUT)
    else:
        from minidiff.data.cifar10 import cifar10
        train, test = (cifar10(split, None if name == "cifar10" else name)
                       for split in ("train", "test"))
    if rank == 0 and distributed.is_initialized():
        distributed.barrier()
    return train, (test[0][:HELD_OUT], test[1][:HELD_OUT])


def changed(recipe, settings):
    """The recipe with settings such as "batch=64" or "network.dropout=0", the values as in JSON.

    Raises `ValueError` for a name that it hasn't, or a value that it can't take.
    """
    parts = {"": {}, "network": {}}
    for setting in settings:
        path, _, text = setting.partition("=")
        part, _, name = path.rpartition(".")
        names = [field.name for field in fields(recipe.network if part else recipe)
                 if field.name != "network"]
        require(part in parts and name in names, setting,
                f"NAME=VALUE, for a NAME of the recipe's: {', '.join(names)}", path)
        try:
            parts[part][name] = json.loads(text)
        except json.JSONDecodeError:
            parts[part][name] = text  # a word
    return replace(recipe, network=replace(recipe.network, **parts["network"]), **parts[""])


def follow(steps, recipe, rank):
    """Show how far the steps are, the loss, and how long the rest will take."""
    bar, mean = None, None
    for now in steps:
        if bar is None:
            bar = tqdm(total=recipe.steps, initial=now.step - 1, unit="step", disable=rank > 0,
                       mininterval=0.5 if sys.stderr.isatty() else 30)
        mean = now.loss if mean is None else 0.98 * mean + 0.02 * now.loss
        bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
        bar.update()
    if bar is not None:
        bar.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
