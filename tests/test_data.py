"""The images that need no download."""

import numpy as np
import pytest

from minidiff.data import digits, eight_gaussians, photo, two_moons


def test_digits():
    images, labels = digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32
    assert images.min() == -1 and images.max() == 1
    assert sorted(set(labels.tolist())) == list(range(10))


def test_photo():
    face = photo(64)
    assert face.shape == (64, 64, 3) and face.dtype == np.float32
    assert -1 <= face.min() < -0.9 and 0.9 < face.max() <= 1
    with pytest.raises(ValueError, match="size must be between 8 and 360 pixels; got 4"):
        photo(4)


def test_two_moons_are_scikit_learn_s():
    """Both half circles, end to end: every point of make_moons is half a spacing or less from a mean."""
    from sklearn.datasets import make_moons

    moons, (theirs, label) = two_moons(), make_moons(2000, noise=None)
    scale = np.linalg.norm(moons.means[1] - moons.means[0]) / (2 * np.sin(np.pi / 128))
    theirs = (theirs - [0.5, 0.25]) * scale
    for moon, means in enumerate(np.split(moons.means, 2)):
        far = np.linalg.norm(theirs[label == moon][:, None] - means, axis=-1).min(axis=1)
        assert far.max() < scale * np.pi / 128 * 1.001
    assert np.allclose(moons.covs[0], (0.1 * scale) ** 2 * np.eye(2))


def test_eight_gaussians_stand_on_a_circle():
    g = eight_gaussians(std=0.2)
    np.testing.assert_allclose(np.linalg.norm(g.means, axis=1), np.sqrt(2 * (1 - 0.04)))
    np.testing.assert_allclose(g.means[2], [0, np.sqrt(1.92)], atol=1e-12)
    assert np.allclose(g.covs, 0.04 * np.eye(2))
