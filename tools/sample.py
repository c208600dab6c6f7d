"""Draw images with what a run has trained, into a picture or an archive of arrays.

    python book.py sample runs/digits-tiny --count 30 --labels 0 1 2 --w 2
    python book.py sample runs/cifar10-fast --count 50000 --solver heun --out made.npz

Image i is made from the noise of seed + i alone. An archive holds `images`, bytes (N, H, W, C),
`seeds` (N,) and, where there are classes, `labels` (N,).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from minidiff.errors import require
from minidiff.trained import SOLVERS, load, picture, pixels, samples
from train import placed


def main(arguments):
    """Sample; returns what `sys.exit` takes: a status, or a sentence on what went wrong."""
    options = parsed(arguments)
    try:
        network, recipe = load(options.run, available(options.device))
        out = target(options)
        given = options.labels or range(recipe.network.classes) or None
        labels = given and [given[i % len(given)] for i in range(options.count)]
        images = samples(network, recipe, options.count, options.steps, options.seed, labels,
                         options.solver, options.w, options.batch)
        write(out, images, labels, options.seed, given)
    except torch.OutOfMemoryError:
        return f"Too little memory for --batch {options.batch}: try {options.batch // 2 or 1}."
    except (ValueError, OSError) as error:
        return str(error)
    print(f"{out}: {options.count} images by {options.solver}, from seed {options.seed} on")
    return 0


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a training, or its checkpoint")
    parser.add_argument("--count", type=int, default=64, help="of images; by default 64")
    parser.add_argument("--steps", type=int, default=50, help="by default 50")
    parser.add_argument("--solver", default="ddim", help=", ".join(SOLVERS))
    parser.add_argument("--w", type=float, default=1.0, help="guidance; 1, the default, is none")
    parser.add_argument("--labels", type=int, nargs="+", help="in turn; by default every class")
    parser.add_argument("--seed", type=int, default=0, help="of the first image")
    parser.add_argument("--batch", type=int, default=256, help="images at a time, for the memory")
    parser.add_argument("--out", type=Path, help="a .png or .npz file, by default RUN/made.png")
    parser.add_argument("--device", help="by default the best there is: cuda, mps or cpu")
    return parser.parse_args(arguments)


def target(options):
    """Where to write; asked before the work."""
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / "made.png"
    require(out.suffix in (".png", ".npz") and out.parent.is_dir(), "--out",
            "a .png or .npz file in a folder that exists", str(out))
    return out


def available(name):
    """The device, by default the best; raises `ValueError` where there is none of the name."""
    try:
        return torch.empty(0, device=placed(name)[1]).device
    except (RuntimeError, AssertionError) as error:  # it depends on how PyTorch was built
        raise ValueError(f"--device must be one of this machine's; got {name!r}") from error


def write(out, images, labels, seed, given):
    """At any moment `out` is the old file or the new one, and whole."""
    part = out.with_stem(out.stem + ".part")
    try:
        if out.suffix == ".npz":
            named = {} if labels is None else {"labels": np.array(labels)}
            np.savez(part, images=pixels(images), seeds=seed + np.arange(len(images)), **named)
        else:
            columns = min(len(given) if given and 1 < len(given) <= 16 else 8, len(images))
            blank = -images.new_ones(-len(images) % columns, *images.shape[1:])
            picture(torch.cat([images, blank]), part, columns)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
