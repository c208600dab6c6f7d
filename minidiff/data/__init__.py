"""Data: toy clouds with a known density, and small real images that need no download."""

from minidiff.data.clouds import eight_gaussians, two_moons
from minidiff.data.images import digits, photo

__all__ = ["digits", "eight_gaussians", "photo", "two_moons"]
