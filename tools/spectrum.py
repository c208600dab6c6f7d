"""The spectrum of an image data set: what the best linear denoiser needs to know of it, and no more.

usage: python tools/spectrum.py DATA [--out FILE]

DATA is as for `python book.py train`: cifar10, shapes, or where CIFAR-10 is. The record has a row
for each eigenvector of the covariance of the training images and their mirror images, in [-1, 1],
largest first: the `variance` along it, and `held_out`, the mean square along it of the held-out
images that a run judges itself by, measured from the training images' mean. A comment at its top
names the data. A Gaussian's loss is a sum over the rows. About a minute on one core.
"""

import argparse
from pathlib import Path

import numpy as np

from files import write_whole
from train import data  # the command's neighbour, so that both hold out the same images

OUT = Path(__file__).resolve().parent.parent / "chapters" / "records" / "cifar10-spectrum.csv"
AT_ONCE = 5000  # so many images at a time are numbers in [-1, 1]


def spectrum(images, held_out):
    """`(variance, mean square of held_out)` along each eigenvector, from uint8 (N, C, H, W)."""
    mean, square = np.zeros(images[0].size), 0.0
    for part in _parts(images):
        mean += part.sum(axis=0) / len(images)
        square = square + part.T @ part / len(images)
    shape = images.shape[1:]
    mirror = np.arange(mean.size).reshape(shape)[..., ::-1].ravel()
    mean = (mean + mean[mirror]) / 2
    square = (square + square[np.ix_(mirror, mirror)]) / 2  # both an image and its mirror image
    variance, vectors = np.linalg.eigh(square - np.outer(mean, mean))
    along = np.zeros(mean.size)
    for part in _parts(held_out):
        along += np.square((part - mean) @ vectors).sum(axis=0) / len(held_out)
    return variance[::-1].clip(0), along[::-1]


def _parts(images):
    """The images as numbers in [-1, 1], (n, C·H·W), a part at a time."""
    for start in range(0, len(images), AT_ONCE):
        part = images[start:start + AT_ONCE]
        yield part.reshape(len(part), -1) / 127.5 - 1


def record(name, counts, columns):
    """The record's text."""
    head = (f"# {name}: {counts[0]} training images and their mirror images, {counts[1]} held out\n"
            "variance,held_out\n")
    return head + "".join(f"{a:.6g},{b:.6g}\n" for a, b in zip(*columns))


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--name", help="what the record calls the data, by default DATA")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(words)
    (images, _), (held_out, _) = data(asked.data)
    images, held_out = np.asarray(images), np.asarray(held_out)
    write_whole(asked.out, record(asked.name or Path(asked.data).name, (len(images), len(held_out)),
                                  spectrum(images, held_out)))


if __name__ == "__main__":
    main()
