"""How far apart two clouds of points are, and how far honest samples of one thing would be."""

import numpy as np

from minidiff.errors import require

ROWS = 64  # so many points at a time are compared with all the others


def energy_distance(x, y):
    """2·E|x - y| - E|x - x'| - E|y - y'| of samples (n, d), (m, d): zero for equal distributions.

    Unbiased, since no point is compared with itself; so for equal distributions its mean is zero
    and it may be negative (Szekely and Rizzo 2013, section 2). Raises `ValueError` for fewer than
    two points, other shapes, or what isn't finite.
    """
    def distance(x, y):
        apart = _squares(x, y)
        return np.sqrt(apart, out=apart)

    return -_unlikeness(distance, *_near_zero(*_clouds(x=x, y=y)))


def kernel_distance(x, y):
    """KID: E k(x, x') + E k(y, y') - 2·E k(x, y), k(a, b) = (a·b/d + 1)³, of (n, d), (m, d).

    That is the squared MMD, zero where the first three moments agree; unbiased, over all pairs, so
    it may be negative (Binkowski et al. 2018, section 4). Raises `ValueError` as `energy_distance`.
    """
    def cubic(x, y):
        k = x @ y.T / x.shape[1] + 1
        return k * k * k

    return _unlikeness(cubic, *_clouds(x=x, y=y))


def frechet(x, y):
    """The squared Frechet distance of Gaussians fitted to (n, d), (m, d): on Inception's features
    the FID (Heusel et al. 2017, eq. 6).

    Biased upwards, so compare at equal n, m only (Chong and Forsyth 2020): for one Gaussian of d
    unit variances its mean nears (1/n + 1/m)·d(d + 5)/4. Raises `ValueError` as `energy_distance`.
    """
    a, b = (moments(cloud) for cloud in _clouds(x=x, y=y))
    return frechet_moments(*a, *b)


def moments(x):
    """Mean (d,) and covariance (d, d) of x (n, d), over n - 1 as the FID's usual code has it."""
    x, = _clouds(x=x)
    mean = x.mean(axis=0)
    x = x - mean
    return mean, x.T @ x / (len(x) - 1)


def frechet_moments(mean_a, cov_a, mean_b, cov_b):
    """|a - b|² + tr(A + B - 2·(A^½ B A^½)^½) of means a, b (d,) and covariances A, B (d, d).

    Two Gaussians' squared 2-Wasserstein distance (Dowson and Landau 1982), for covariances of any
    rank. Raises `ValueError` for other shapes, or what is no covariance.
    """
    d = np.size(mean_a)
    for name, value, shape in (("mean_a", mean_a, (d,)), ("cov_a", cov_a, (d, d)),
                               ("mean_b", mean_b, (d,)), ("cov_b", cov_b, (d, d))):
        require(np.shape(value) == shape, name, f"of shape {shape}", np.shape(value))
        require(np.isfinite(value).all(), name, "finite", "an infinite number or NaN")
    apart = np.subtract(mean_a, mean_b, dtype=np.float64)
    a, b = _root("cov_a", cov_a), _root("cov_b", cov_b)
    trace = np.linalg.svd(a.T @ b, compute_uv=False).sum()  # roots would lose half the digits
    return max(float(apart @ apart + (a**2).sum() + (b**2).sum() - 2 * trace), 0.0)


def precision_recall(real, made, k=3):
    """The share of `made` (m, d) that lies among `real` (n, d), and of `real` among `made`.

    Among points: no farther from one of them than its own k-th neighbour there (Kynkäänniemi et al.
    2019, eqs. 1 and 2). Raises `ValueError` unless 1 <= k < n, m, and as `energy_distance`.
    """
    real, made = _near_zero(*_clouds(real=real, made=made))

    def share(x, others):
        return sum(int(near.any(axis=1).sum()) for near in _among(x, others, k)) / len(x)

    return share(made, real), share(real, made)


def density_coverage(real, made, k=5):
    """In how many balls around `real` (n, d) a point of `made` (m, d) lies, over k; and the share
    of balls with any. Less moved by an outlier than precision and recall (Naeem et al. 2020).

    A ball reaches to the k-th neighbour. For equal distributions, whatever they are, the means are
    1 and 1 - (n-1)···(n-k)/((n+m-1)···(n+m-k)). Raises `ValueError` as `precision_recall`.
    """
    real, made = _near_zero(*_clouds(real=real, made=made))
    held = sum(near.sum(axis=0) for near in _among(made, real, k))
    return float(held.sum()) / (k * len(made)), float((held > 0).mean())


def two_sample(x, y, rng, classifier=None):
    """`(accuracy, p)` of a classifier that learns from half of x and y (n, d) and tells the rest.

    By default the nearest neighbours vote, as many as the root of the points learned from
    (Lopez-Paz and Oquab 2017); or give what has scikit-learn's `fit` and `predict`. p, the chance
    to do as well by luck, is exact for all: if x and y are alike, the held-out points called y are
    a blind draw (Fisher's test). Raises `ValueError` as `energy_distance`, and for other shapes.
    """
    from scipy.stats import hypergeom
    from sklearn.neighbors import KNeighborsClassifier

    x, y = (rng.permutation(cloud) for cloud in _clouds(x=x, y=y))
    require(x.shape == y.shape, "y", f"of x's shape {x.shape}", y.shape)
    half, held = len(x) // 2, (len(x) + 1) // 2
    if classifier is None:
        classifier = KNeighborsClassifier(int(np.sqrt(2 * half)))
    classifier.fit(np.concatenate([x[:half], y[:half]]), np.repeat([0, 1], half))
    wrong, right = (int((classifier.predict(cloud[half:]) == 1).sum()) for cloud in (x, y))
    luck = hypergeom.sf(right - 1, 2 * held, held, right + wrong)
    return (1 + (right - wrong) / held) / 2, float(luck)


def energy_floor(sample, n, rng, repeats=20):
    """Standard deviation of the energy distance between two honest samples, whose mean is zero.

    `sample(n, rng)` draws n points (n, d); the estimate itself is known to 1/sqrt(2·repeats).
    """
    require(repeats >= 2, "repeats", ">= 2", repeats)
    draws = [energy_distance(sample(n, rng), sample(n, rng)) for _ in range(repeats)]
    return float(np.sqrt(np.mean(np.square(draws))))


def floor(score, sample, n, rng, repeats=20):
    """Mean and standard deviation of score(x, y) between two honest samples of n points.

    Both are halves of `sample(2n, rng)`, (2n, d) in no order: so from a finite data set it should
    draw without replacement. A score of two numbers has two means and deviations.
    """
    require(repeats >= 2, "repeats", ">= 2", repeats)
    draws = [score(*np.split(sample(2 * n, rng), 2)) for _ in range(repeats)]
    return np.mean(draws, axis=0), np.std(draws, axis=0, ddof=1)


def _clouds(**clouds):
    """The clouds in float64, once they are seen fit to be compared."""
    d = next(iter(clouds.values())).shape[1:]
    for name, cloud in clouds.items():
        require(cloud.ndim == 2 and len(cloud) >= 2, name, "of shape (2 or more, d)", cloud.shape)
        require(np.isfinite(cloud).all(), name, "finite", "an infinite number or NaN")
        require(cloud.shape[1:] == d, name, f"of shape (m, {d[0]})", cloud.shape)
    return [np.asarray(cloud, np.float64) for cloud in clouds.values()]


def _near_zero(x, y):
    """Both moved alike, so that in their squared distances fewer digits cancel."""
    middle = y.mean(axis=0)
    return x - middle, y - middle


def _squares(x, y):
    """All squared distances from a point of x to one of y, (n, m)."""
    apart = (-2 * x) @ y.T
    apart += np.einsum("ij,ij->i", y, y)  # in place: fresh memory would take longer
    apart += np.einsum("ij,ij->i", x, x)[:, None]
    return np.maximum(apart, 0, out=apart)


def _unlikeness(kernel, x, y):
    """E k(x, x') + E k(y, y') - 2·E k(x, y): the MMD², unbiased (Gretton et al. 2012, eq. 3)."""
    return _mean(kernel, x) + _mean(kernel, y) - 2 * _mean(kernel, x, y)


def _mean(kernel, x, y=None):
    """k's mean over all pairs of a point of x and one of y; without y, of two points of x."""
    total, others = 0.0, x if y is None else y
    for rows in _blocks(x):
        k = kernel(x[rows], others)
        if y is None:
            np.fill_diagonal(k[:, rows.start:], 0)  # exactly, whatever the rounding
        total += k.sum()
    return float(total) / (len(x) * (len(others) - (y is None)))


def _among(x, centres, k):
    """For a block of x after the other: is it (rows) in the ball of a centre (columns)?"""
    require(k in range(1, len(centres)), "k", f"a whole number in 1..{len(centres) - 1}", k)
    reach = np.concatenate([np.partition(_squares(centres[rows], centres), k)[:, k].copy()
                            for rows in _blocks(centres)])  # place 0 is its own
    return (_squares(x[rows], centres) <= reach for rows in _blocks(x))


def _blocks(x):
    return [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]


def _root(name, cov):
    """F with F·Fᵀ = cov; what is only rounding counts as nothing."""
    cov = np.asarray(cov, np.float64)
    require(np.allclose(cov, cov.T), name, "symmetric", cov)
    values, vectors = np.linalg.eigh(cov)  # rising
    require(values[0] >= -1e-6 * values[-1], name, "positive semidefinite", values[0])
    return vectors * np.sqrt(np.where(values > len(cov) * 2e-16 * values[-1], values, 0))
