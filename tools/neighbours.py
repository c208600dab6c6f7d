"""Has it memorised? The training images that are nearest to samples, in pixels and in features.

usage: python tools/neighbours.py WEIGHTS DATA [--n N] [--device DEVICE] [--out FOLDER]

Four crowds are asked how far their nearest training images are: `samples`; `test` images, which are
the yardstick; and two kinds of planted copies, training images with noise of eight grey levels
(`noisy`) and training images moved by two pixels (`moved`). DATA is where CIFAR-10 is, or `shapes`.
Distances are root mean squares, over pixels in grey levels and over features; mirror images count
as training images. `ratio` is the nearest distance over the mean of the fifty nearest, which is low
for a copy (after Carlini et al. 2023). The picture has a row for each class: a sample, its three
nearest in pixels, and its three nearest in features. With 500 samples it takes a few minutes on one
core.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import quality
import rowfile
from minidiff import classifier
from minidiff.data.cifar10 import NAMES
from minidiff.data.shapes import SHAPES
from minidiff.trained import load, pixels, samples
from evaluate import data

OUT = Path(__file__).resolve().parent.parent / "chapters" / "records"
NAME = "neighbours"
CROWDS, SPACES = ("samples", "test", "noisy", "moved"), ("pixels", "features")
NEAR, SHOWN = 50, 3  # neighbours for the ratio, and in the picture
GAP = 4              # pixels between the parts of the picture
COLOURS = 128        # of the picture, so that its file is small
AT_ONCE = 5000       # training images that are compared at a time
STEPS = 18           # of dpmpp_2m


class Row(NamedTuple):
    """A line of the record: an image's distance to its nearest training image, in both spaces."""

    crowd: str
    pixels: float
    pixels_ratio: float
    features: float
    features_ratio: float


def nearest(asked, known, k):
    """`(distances, numbers)`, both (n, k), of the k in known (m, d) nearest to each asked (n, d).

    A distance is the root of the mean square, over d.
    """
    middle = known[:AT_ONCE].mean(axis=0)  # near zero fewer digits cancel
    asked = (asked - middle).astype(np.float32)
    best, places = np.zeros((len(asked), 0), np.float32), np.zeros((len(asked), 0), int)
    for start in range(0, len(known), AT_ONCE):
        block = (known[start:start + AT_ONCE] - middle).astype(np.float32)
        square = (asked**2).sum(1)[:, None] + (block**2).sum(1) - 2 * asked @ block.T
        best = np.concatenate([best, square], axis=1)
        places = np.concatenate([places, np.broadcast_to(
            np.arange(start, start + len(block)), square.shape)], axis=1)
        kept = np.argpartition(best, k - 1, axis=1)[:, :k]
        best, places = (np.take_along_axis(part, kept, axis=1) for part in (best, places))
    order = np.argsort(best, axis=1)
    best, places = (np.take_along_axis(part, order, axis=1) for part in (best, places))
    return np.sqrt(np.maximum(best, 0) / known.shape[1]), places


def either_way(images, known, seen, k):
    """`nearest`, where each image is asked for, and its mirror image: a number from m on is of a
    mirrored training image. None comes twice. `seen` turns images into rows.
    """
    (far, at), (far_m, at_m) = (nearest(seen(x), known, k) for x in (images, images[..., ::-1]))
    far, at = np.hstack([far, far_m]), np.hstack([at, at_m + len(known)])
    order = np.argsort(far, axis=1, kind="stable")
    far, at = (np.take_along_axis(part, order, axis=1) for part in (far, at))
    once = np.stack([np.sort(np.unique(row % len(known), return_index=True)[1])[:k] for row in at])
    return np.take_along_axis(far, once, axis=1), np.take_along_axis(at, once, axis=1)


def crowds(network, recipe, train, test, n):
    """{crowd: images (n, 3, 32, 32) uint8}; the classes of samples come in turn."""
    rng = np.random.default_rng(0)
    noisy, moved = (train[np.sort(rng.choice(len(train), n, replace=False))] for _ in range(2))
    noisy = (noisy + 8 * rng.standard_normal(noisy.shape)).round().clip(0, 255).astype(np.uint8)
    moved = np.pad(moved, ((0, 0), (0, 0), (0, 0), (2, 0)), mode="edge")[..., :-2]
    made = samples(network, recipe, n, STEPS, solver="dpmpp_2m", batch=50)
    test = test[np.sort(rng.choice(len(test), n, replace=False))]
    return dict(zip(CROWDS, (pixels(made).transpose(0, 3, 1, 2), test, noisy, moved), strict=True))


def flat(images):
    return np.ascontiguousarray(images).reshape(len(images), -1).astype(np.float32)


def measure(images, known, judge):
    """{space: (distances, numbers)} of the NEAR nearest training images."""
    seen = {"pixels": flat, "features": lambda x: classifier.features(
        judge, np.ascontiguousarray(x))}
    return {space: either_way(images, known[space], seen[space], NEAR) for space in SPACES}


def rows(crowd, found):
    """The rows of one crowd."""
    columns = []
    for far, _ in found.values():
        columns += [far[:, 0], far[:, 0] / far.mean(axis=1)]
    return [Row(crowd, *(round(float(value), 4) for value in line)) for line in zip(*columns)]


def sheet(made, train, found, count=10, gap=GAP):
    """Bytes (H, W, 3) of `count` samples, each with SHOWN neighbours in both spaces."""
    def fetch(number):
        image = train[number % len(train)]
        return image[..., ::-1] if number >= len(train) else image

    lines = []
    for i in range(count):
        parts = [made[i:i + 1], *(np.stack([fetch(j) for j in at[i, :SHOWN]])
                                  for _, at in found.values())]
        strips = [np.concatenate(list(part), axis=2) for part in parts]
        between = np.full((3, strips[0].shape[1], gap), 255, np.uint8)
        lines.append(np.concatenate([strips[0], between, strips[1], between, strips[2]], axis=2))
    return np.concatenate(lines, axis=1).transpose(1, 2, 0)


def labelled(sheet, names):
    """The sheet at twice its size, with words beside and above it, in few colours."""
    H, W, _ = sheet.shape
    left, top = 90, 24
    picture = Image.new("RGB", (left + 2 * W, top + 2 * H), "white")
    picture.paste(Image.fromarray(sheet).resize((2 * W, 2 * H), Image.NEAREST), (left, top))
    pen, font, wide = ImageDraw.Draw(picture), ImageFont.load_default(14), 32 * SHOWN
    for x, word in ((16, "sample"), (32 + GAP + wide / 2, "nearest in pixels"),
                    (32 + 2 * GAP + wide * 1.5, "nearest in features")):
        pen.text((left + 2 * x, top - 6), word, "black", font, anchor="ms")
    for place, name in enumerate(names):
        pen.text((left - 6, top + 64 * place + 32), name, "black", font, anchor="rm")
    return picture.quantize(COLOURS, dither=0)


def fits(row):
    """Is it one of this record's?"""
    return row.crowd in CROWDS and min(row[1:]) >= 0


read, write = rowfile.of(Row, fits)


def parsed(words):
    return quality.parsed(words, __doc__, OUT)


def main(words=None):
    asked = parsed(words)
    torch.set_num_threads(1)
    network, recipe = load(asked.weights, asked.device)
    judge = classifier.load(asked.classifier, asked.device)
    (train, _), (test, _) = data(asked.data)
    names = SHAPES if asked.data == "shapes" else NAMES
    known, lines = {"pixels": train.reshape(len(train), -1),
                    "features": classifier.features(judge, train)}, []
    for crowd, images in crowds(network, recipe, train, test, asked.n).items():
        found = measure(images, known, judge)
        lines += rows(crowd, found)
        if crowd == "samples":
            picture = labelled(sheet(images, train, found), names)
        print(f"{crowd}: median distances {np.median([line[1] for line in lines[-asked.n:]]):.1f} "
              f"in pixels, {np.median([line[3] for line in lines[-asked.n:]]):.3f} in features",
              flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    part = asked.out / f"{NAME}.png.part"
    picture.save(part, "png", optimize=True)
    os.replace(part, asked.out / f"{NAME}.png")
    write(asked.out / f"{NAME}.csv", lines)


if __name__ == "__main__":
    main()
