"""How far made images are from real ones, and how far other real ones are: scores on features.

Features (n, d) are what a network has to say of n images; which network it was decides what a score
means. The Frechet distance is the FID on Inception's alone. Nothing here knows the network.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minidiff.errors import require
from minidiff.metrics import (
    density_coverage,
    energy_distance,
    frechet_moments,
    kernel_distance,
    moments,
    precision_recall,
    two_sample,
)

PAIRS = 2000  # images of either side that are compared pair by pair: it takes their product's time
DRAWS = 8     # real draws at most that tell the floor
NOISE = (2, 4, 8)  # standard deviations in grey levels, of 255
BLUR = (0.5, 1.0)  # of Gaussians, in pixels


class Reference(NamedTuple):
    """What real images are like: all that a score asks of them, in 2 MB where d = 128."""

    name: str          # of the data
    n: int             # training images that the moments are of
    mean: np.ndarray   # (d,)
    cov: np.ndarray    # (d, d)
    train: np.ndarray  # (m, d): training images, for the scores of pairs
    test: np.ndarray   # (k, d): images that no one trained on, for the floor


class Judge(NamedTuple):
    """A network that looks at images (n, C, H, W) uint8."""

    name: str
    features: Callable               # -> (n, d)
    predict: Callable | None = None  # -> labels (n,), where it knows classes


def measured(name, train, test):
    """The `Reference` of all training and test images' features, (n, d) and (k, d)."""
    return Reference(name, len(train), *moments(train), train[:PAIRS], test)


def scores(made, reference):
    """{name: score} of features made (n, d).

    `frechet` is of all n against the moments; it falls with n, so compare it at one n only. The
    others are of the first m = min(n, PAIRS) against as many training images. `two_sample` is the
    accuracy of who must tell the two apart, 0.5 where one can't, and `luck` its p. Raises
    `ValueError` as `metrics` does, and for other features than the reference's.
    """
    d = len(reference.mean)
    require(made.ndim == 2 and made.shape[1] == d, "made", f"of shape (n, {d}), as the reference",
            made.shape)
    m = min(len(made), len(reference.train), PAIRS)
    real, pairs = reference.train[:m], made[:m]
    precision, recall = precision_recall(real, pairs)
    density, coverage = density_coverage(real, pairs)
    accuracy, luck = two_sample(real, pairs, np.random.default_rng(0))
    return {"frechet": frechet_moments(*moments(made), reference.mean, reference.cov),
            "kernel": kernel_distance(real, pairs), "energy": energy_distance(real, pairs),
            "precision": precision, "recall": recall, "density": density, "coverage": coverage,
            "two_sample": accuracy, "luck": luck}


def floor(reference, n):
    """`(means, deviations, m, draws)`: the scores of test images, as if they were made.

    They are drawn apart, up to `DRAWS` times m = n images, or once all where there are fewer. Of
    one draw the deviations are None. A network whose features were learned from the training
    images knows them better than test images; the floor has that in it, as any samples have.
    """
    m = min(n, len(reference.test))
    draws = min(len(reference.test) // m, DRAWS)
    each = [scores(reference.test[i * m:(i + 1) * m], reference) for i in range(draws)]
    values = {name: [draw[name] for draw in each] for name in each[0]}
    return ({name: float(np.mean(value)) for name, value in values.items()},
            {name: float(np.std(value, ddof=1)) if draws > 1 else None
             for name, value in values.items()}, m, draws)


def yardsticks(images):
    """{what was done: images (n, C, H, W) uint8}: noise and blur whose harm one can see, to be
    scored as if they were made. The noise is the same each time.
    """
    from scipy.ndimage import gaussian_filter

    clean = images.astype(np.float32)
    eps = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    spoilt = {f"noise {level:g}": clean + level * eps for level in NOISE}
    spoilt |= {f"blur {width:g}": gaussian_filter(clean, width, axes=(2, 3)) for width in BLUR}
    return {name: values.round().clip(0, 255).astype(np.uint8) for name, values in spoilt.items()}


def judged(judge, reference, images, labels=None):
    """The `scores` of images (n, C, H, W) uint8, and `agreement`: the share in which the judge sees
    the label, None where there are none."""
    agreement = None
    if judge.predict and labels is not None:
        agreement = float((judge.predict(images) == labels).mean())
    return {**scores(judge.features(images), reference), "agreement": agreement}


def beside(judge, reference, n, test=None):
    """What stands beside the scores of n samples: {floor: means, with m and draws, spread:
    deviations, yardsticks: {what was done: scores}}, the last where test images and labels are.
    """
    means, deviations, m, draws = floor(reference, n)
    found = {"floor": {"n": m, "draws": draws, **means}, "spread": deviations, "yardsticks": {}}
    if test is not None:
        images, labels = test
        found["yardsticks"] = {how: judged(judge, reference, spoilt, labels[:m])
                                for how, spoilt in yardsticks(images[:m]).items()}
        if judge.predict:
            found["floor"]["agreement"] = float((judge.predict(images) == labels).mean())
    return found
