"""Data: toy clouds with a known density, small images that need no download, and CIFAR-10."""

from minidiff.data.cifar10 import cifar10
from minidiff.data.clouds import eight_gaussians, two_moons
from minidiff.data.images import digits, photo
from minidiff.data.shapes import shapes

__all__ = ["cifar10", "digits", "eight_gaussians", "photo", "shapes", "two_moons"]
