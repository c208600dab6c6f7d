"""The images that need no download."""

import numpy as np
import pytest

from minidiff.data import digits, photo


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
