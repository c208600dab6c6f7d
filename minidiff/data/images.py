"""Small real images that come with the libraries, so no chapter needs a download. Range [-1, 1]."""

import numpy as np

from minidiff.errors import require


def digits():
    """scikit-learn's handwritten digits: images (1797, 8, 8) float32 and labels (1797,) int."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images / 8 - 1).astype(np.float32), data.target


def photo(size=96):
    """A colour portrait of Grace Hopper, shape (size, size, 3) float32; it ships with matplotlib."""
    require(8 <= size <= 360, "size", "between 8 and 360 pixels", size)
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        face = image.convert("RGB").crop((76, 20, 436, 380)).resize((size, size), Image.LANCZOS)
    return np.asarray(face, dtype=np.float32) / 127.5 - 1
