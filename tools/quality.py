"""What evaluations buy, and what guidance does: samples of a network, scored at a few points.

usage: python tools/quality.py WEIGHTS DATA [--n N] [--device DEVICE] [--out FILE]

At every point the same noises and labels make n samples. Their features, by the book's classifier,
are scored against the training images of DATA, which is where CIFAR-10 is, or `shapes`. Beside them
stand several draws of n test images, the floor; and test images with noise or blur, the yardsticks.
Points that the record holds are kept, so that a run which was stopped goes on. With 500 samples all
of them take about 25 minutes on one core.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import rowfile
from minidiff import classifier
from minidiff.errors import require
from minidiff.evaluate import BLUR, NOISE, measured, scores, yardsticks
from minidiff.nn import checkpoint
from minidiff.trained import load, pixels, samples
from evaluate import CLASSIFIER, data

OUT = Path(__file__).resolve().parent.parent / "chapters" / "records" / "quality.csv"
PLAN = ([("ddim", steps, 1.0) for steps in (8, 16, 32)]
        + [("dpmpp_2m", steps, 1.0) for steps in (8, 16, 32)]
        + [("heun", steps, 1.0) for steps in (4, 8, 16)]
        + [("ddpm", steps, 1.0) for steps in (8, 16, 32)]
        + [("dpmpp_2m", 16, w) for w in (1.5, 2.0, 4.0)])
DRAWS = 8  # of test images, for the floor
REAL = ("test", *(f"noise {level:g}" for level in NOISE), *(f"blur {width:g}" for width in BLUR))


class Row(NamedTuple):
    """A line of the record: what made the images, its price, and their scores."""

    what: str       # a solver, or one of REAL
    steps: int
    nfe: int        # evaluations of the network for an image, both of a guided pair counted
    w: float
    draw: int       # of test images
    data: str       # which they are
    images: int     # that the network was trained on
    n: int
    frechet: float
    precision: float
    recall: float
    agreement: float  # the share in which the classifier sees the label


def price(solver, steps, w):
    return (2 * steps - 1 if solver == "heun" else steps) * (1 if w == 1 else 2)


def judged(judge, reference, made, labels, **where):
    """The row of these images, (n, 3, 32, 32) uint8."""
    score = scores(classifier.features(judge, made), reference)
    told = np.asarray(classifier.predict(judge, made)) == labels
    score |= {"agreement": told.mean()}
    return Row(**where, data=reference.name, n=len(made),
               **{name: float(f"{score[name]:.4g}") for name in Row._fields[-4:]})


def real(judge, reference, test, n, seen):
    """The floor's rows and the yardsticks'; none of them looks at the network."""
    images, labels = test
    for draw in range(min(DRAWS, len(images) // n)):
        part = slice(draw * n, (draw + 1) * n)
        spoilt = yardsticks(images[part]) if draw == 0 else {}
        for what, made in {"test": images[part], **spoilt}.items():
            yield judged(judge, reference, made, labels[part], what=what, steps=0, nfe=0, w=0.0,
                         draw=draw, images=seen)


def point(judge, reference, network, recipe, n, seen, solver, steps, w):
    labels = np.arange(n) % recipe.network.classes
    made = samples(network, recipe, n, steps, labels=labels.tolist(), solver=solver, w=w, batch=50)
    return judged(judge, reference, pixels(made).transpose(0, 3, 1, 2), labels, what=solver,
                  steps=steps, nfe=price(solver, steps, w), w=w, draw=0, images=seen)


def fits(row):
    """Is it one of this record's?"""
    return ((row.what in REAL or (row.what, row.steps, row.w) in PLAN) and row.frechet >= 0
            and all(0 <= share <= 1 for share in row[-3:]))


read, write = rowfile.of(Row, fits)


def parsed(words, about=__doc__, out=OUT):
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("data")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER)
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args(words)


def main(words=None):
    asked = parsed(words)
    torch.set_num_threads(1)
    network, recipe = load(asked.weights, asked.device)
    seen = checkpoint.about(asked.weights)[1].get("images")
    require(seen, "weights", "a file weights-<images>.safetensors of a run", str(asked.weights))
    rows = [row for row in read(asked.out)
            if (row.data, row.images, row.n) == (Path(asked.data).name, seen, asked.n)]
    done = {(row.what, row.steps, row.w) for row in rows}
    judge = classifier.load(asked.classifier, asked.device)
    (train, _), test = data(asked.data)
    reference = measured(Path(asked.data).name, classifier.features(judge, train),
                         classifier.features(judge, test[0]))
    if all(row.what not in REAL for row in rows):
        rows += real(judge, reference, test, asked.n, seen)
    for solver, steps, w in PLAN:
        if (solver, steps, w) not in done:
            rows.append(point(judge, reference, network, recipe, asked.n, seen, solver, steps, w))
            write(asked.out, rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
