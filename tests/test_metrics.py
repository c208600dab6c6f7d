"""Each score against its definition, closed forms, others' code, and its own noise floor.

Where a bound is 5 standard errors, a right program would miss it with one seed in two million.
"""

import tracemalloc
from itertools import combinations
from math import erf, perm, sqrt

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.metrics import (
    ROWS,
    density_coverage,
    energy_distance,
    energy_floor,
    floor,
    frechet,
    frechet_moments,
    kernel_distance,
    moments,
    precision_recall,
    two_sample,
)

SIZES = pytest.mark.parametrize("n, m, d", [(2, 3, 1), (ROWS + 5, 7, 2), (20, 2 * ROWS, 5)])
PAIR_SCORES = (energy_distance, kernel_distance, frechet, precision_recall, density_coverage)


def size(p, q):
    return np.sqrt(((p - q) ** 2).sum())


def literal(x, y, between=size):
    """By loops over pairs of different points."""
    def mean(a, b, same):
        pairs = [between(p, q) for i, p in enumerate(a) for j, q in enumerate(b)
                 if not (same and i == j)]
        return np.mean(pairs)

    return 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)


def literal_shares(real, made, k):
    """Precision, recall, density and coverage, by loops over balls."""
    def within(x, centres):
        reach = [sorted(size(p, q) for j, q in enumerate(centres) if j != i)[k - 1]
                 for i, p in enumerate(centres)]
        return np.array([[size(a, p) <= r for p, r in zip(centres, reach)] for a in x])

    inside = within(made, real)
    return (inside.any(axis=1).mean(), within(real, made).any(axis=1).mean(),
            inside.sum() / (k * len(made)), inside.any(axis=0).mean())


def clouds(n, m, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 0.3 + 1.5 * rng.standard_normal((m, d))


@SIZES
def test_is_its_definition(n, m, d):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, d)), 5 + 2 * rng.standard_normal((m, d))
    assert energy_distance(x, y) == pytest.approx(literal(x, y), rel=1e-9)
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x), rel=1e-12)


@pytest.mark.parametrize("score", [s for s in PAIR_SCORES if s is not kernel_distance])
def test_far_from_zero_no_digits_are_lost(score):
    """A cloud ten millions away, as if it were at zero; its coordinates keep nine digits. The
    kernel distance is another there, as it should."""
    x, y = np.random.default_rng(0).standard_normal((2, 100, 2))
    assert score(x + 1e7, y + 1e7) == pytest.approx(score(x, y), abs=1e-6)


def test_a_cloud_beside_itself():
    """Rounding makes some squared distances of a point and its copy negative; their roots are 0."""
    x, _ = clouds(40, 40, 5)
    assert energy_distance(x, x + 0) == pytest.approx(literal(x, x), abs=1e-6)
    assert precision_recall(x, x + 0) == (1, 1)


@pytest.mark.parametrize("score", PAIR_SCORES)
def test_axes_order_and_precision_do_not_matter(score):
    x, y = clouds(90, 70, 3)
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    same = pytest.approx(score(x, y), rel=1e-10)
    assert score(x @ turn, y @ turn) == same
    assert score(rng.permutation(x), rng.permutation(y)) == same
    x, y = x.astype(np.float32), y.astype(np.float32)
    assert score(x, y) == score(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("score", [s for s in PAIR_SCORES if s is not frechet])
def test_memory_does_not_grow_with_pairs(score):
    """2,500 points: all their distances at once would be 50 MB; a few blocks of them are 5 MB."""
    x, y = clouds(2500, 2500, 2)
    tracemalloc.start()
    try:
        score(x, y)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_two_normals():
    """N(0, 1) against N(m, 1): x - y is N(-m, 2), whose mean size is known. 40 times 1500 points, 5
    standard errors."""
    m, rng = 0.5, np.random.default_rng(1)
    between = 2 / np.sqrt(np.pi) * np.exp(-(m**2) / 4) + m * erf(m / 2)
    exact = 2 * between - 2 * 2 / np.sqrt(np.pi)
    draws = [energy_distance(rng.standard_normal((1500, 1)), m + rng.standard_normal((1500, 1)))
             for _ in range(40)]
    assert abs(np.mean(draws) - exact) < 5 * np.std(draws) / np.sqrt(40)
    assert 5 * np.std(draws) / np.sqrt(40) < 0.15 * exact


def test_is_unbiased_and_the_floor_is_its_spread():
    """200 pairs of 100 points: the mean is zero to 5 standard errors, where to count a point's distance
    to itself would be 15 of them off; the floor from 200 others is the same, to 5 of its own."""
    g, rng = eight_gaussians(), np.random.default_rng(2)
    draws = [energy_distance(g.sample(100, rng), g.sample(100, rng)) for _ in range(200)]
    bar = np.std(draws) / np.sqrt(200)
    assert abs(np.mean(draws)) < 5 * bar
    assert 2 * 1.8 / 100 > 15 * bar, "strong enough to see the bias"
    floor = energy_floor(g.sample, 100, np.random.default_rng(3), repeats=200)
    assert floor == pytest.approx(np.std(draws), rel=5 / 20)
    assert energy_floor(g.sample, 400, rng, 200) == pytest.approx(floor / 4, rel=0.35)


@SIZES
def test_kernel_distance_is_its_definition(n, m, d):
    x, y = clouds(n, m, d)
    for a, b in ((x, y), (y, x), (x, x)):
        assert kernel_distance(a, b) == pytest.approx(
            -literal(a, b, lambda p, q: ((p * q).sum() / d + 1) ** 3), rel=1e-9)


def test_kernel_distance_with_scikit_learn_s_kernel():
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    x, y = clouds(150, 90, 8)
    xx, yy, xy = (pairwise.polynomial_kernel(a, b, degree=3, coef0=1)
                  for a, b in ((x, x), (y, y), (x, y)))
    within = [k[~np.eye(len(k), dtype=bool)].mean() for k in (xx, yy)]
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * xy.mean(), rel=1e-10)


@pytest.mark.parametrize("m", [0.0, 0.7])
def test_kernel_distance_of_two_normals(m):
    """(ab + 1)³ compares three moments: 3·m² + 3·(m²)² + (m³ + 3m)² between N(0, 1) and N(m, 1).
    200 times 300 and 500 points, 5 standard errors: to count a point with itself would be 10."""
    rng = np.random.default_rng(4)
    draws = [kernel_distance(rng.standard_normal((300, 1)), m + rng.standard_normal((500, 1)))
             for _ in range(200)]
    bar = np.std(draws) / np.sqrt(200)
    assert abs(np.mean(draws) - (3 * m**2 + 3 * m**4 + (m**3 + 3 * m) ** 2)) < 5 * bar
    # at m = 0 E k(x, x) is E (x² + 1)³ = 15 + 9 + 3 + 1, and E k(x, x') is 1 + 3
    assert m or 24 * (1 / 300 + 1 / 500) > 10 * bar, "strong enough to see the bias"


def random_covariance(d, rank, rng):
    half = rng.standard_normal((d, rank))
    return half @ half.T


def test_frechet_of_known_moments():
    """Of axis-parallel and of turned Gaussians, of any rank: |a - b|² + sum (sqrt A - sqrt B)²."""
    rng = np.random.default_rng(0)
    for A, B in (([1.0], [4.0]), ([1.0, 9.0, 4.0], [4.0, 1.0, 4.0]),
                 ([0.0, 2.0, 3.0], [5.0, 0.0, 1.0]), ([0.0, 0.0], [0.0, 0.0]),
                 ([1e-9, 1e6], [1.0, 2.0])):
        d = len(A)
        a, b = rng.standard_normal((2, d))
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        exact = ((a - b) ** 2).sum() + ((np.sqrt(A) - np.sqrt(B)) ** 2).sum()
        assert frechet_moments(a, np.diag(A), b, np.diag(B)) == pytest.approx(exact, rel=1e-12)
        turned = (turn * A) @ turn.T, (turn * B) @ turn.T
        assert frechet_moments(a, turned[0], b, turned[1]) == pytest.approx(exact, rel=1e-7)


def test_frechet_of_crossed_ellipses():
    """In the plane tr (AB)^½ is sqrt(tr AB + 2·sqrt(det AB)), whatever the axes."""
    rng = np.random.default_rng(1)
    for rank in (1, 2, 2, 2):
        A, B, zero = random_covariance(2, 2, rng), random_covariance(2, rank, rng), np.zeros(2)
        det = max(np.linalg.det(A @ B), 0)
        exact = np.trace(A + B) - 2 * np.sqrt(np.trace(A @ B) + 2 * np.sqrt(det))
        assert frechet_moments(zero, A, zero, B) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("n, m, d", [(50, 80, 1), (60, 50, 7), (300, 400, 40)])
def test_frechet_with_scipy_s_root(n, m, d):
    linalg = pytest.importorskip("scipy.linalg")
    x, y = clouds(n, m, d)
    y = y @ np.random.default_rng(2).standard_normal((d, d))
    A, B = (np.cov(cloud, rowvar=False).reshape(d, d) for cloud in (x, y))
    root = linalg.sqrtm(A)
    cross = linalg.sqrtm(root @ B @ root).real
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(A + B - 2 * cross)
    assert frechet(x, y) == pytest.approx(exact, rel=1e-9)
    mean, cov = moments(x)
    assert mean == pytest.approx(x.mean(axis=0)) and cov == pytest.approx(A)
    assert frechet_moments(mean, cov, *moments(y)) == frechet(x, y)


def test_frechet_where_points_are_few():
    """5 and 9 points in 60 dimensions, in a flat piece with 3: as far apart as in 3 alone;
    and in two pieces at right angles, where the roots' trace is nothing."""
    x, y = clouds(5, 9, 3)
    basis = np.linalg.qr(np.random.default_rng(3).standard_normal((60, 6)))[0].T
    flat = frechet(x, y)
    assert frechet(x @ basis[:3], y @ basis[:3]) == pytest.approx(flat, rel=1e-9)
    apart = (x.mean(0) ** 2).sum() + (y.mean(0) ** 2).sum()
    spread = x.var(axis=0, ddof=1).sum() + y.var(axis=0, ddof=1).sum()
    assert frechet(x @ basis[:3], y @ basis[3:]) == pytest.approx(apart + spread, rel=1e-9)


def test_frechet_of_moments_kept_in_single_precision():
    """Of low rank, so that rounding makes eigenvalues below zero; all sums are float64."""
    x, y = (moments(cloud) for cloud in clouds(9, 12, 40))
    single = [part.astype(np.float32) for part in (*x, *y)]
    assert min(np.linalg.eigvalsh(single[1])) < -1e-7
    assert frechet_moments(*single) == frechet_moments(*(p.astype(np.float64) for p in single))
    assert frechet_moments(*single) == pytest.approx(frechet_moments(*x, *y), rel=1e-3)


def test_frechet_is_never_negative():
    """Of a cloud and itself in another order, at 100 sizes and scales: only rounding is left."""
    rng = np.random.default_rng(5)
    for _ in range(100):
        n, d = rng.integers(2, 30, 2)
        x = 10 ** rng.uniform(-5, 5) * rng.standard_normal((n, d)) @ random_covariance(d, d, rng)
        assert 0 <= frechet(x, x[::-1]) < 1e-12 * (x**2).sum()


@pytest.mark.parametrize("spread", [np.ones(4), np.array([0.3, 1.0, 2.0])])
def test_frechet_s_bias(spread):
    """(1/n + 1/m)·(5/4·sum λ + ½·sum λ_i·λ_j/(λ_i + λ_j)) between samples of one Gaussian with the
    variances λ: d(d + 5)/4 if all are one. By the root's second derivative; the next term is 1 %.
    1200 times 500 and 1000 points, 5 standard errors, which are less than 10 %."""
    rng = np.random.default_rng(6)
    std, d = np.sqrt(spread), len(spread)
    draws = [frechet(std * rng.standard_normal((500, d)), std * rng.standard_normal((1000, d)))
             for _ in range(1200)]
    pairs = np.multiply.outer(spread, spread) / np.add.outer(spread, spread)
    exact = (1 / 500 + 1 / 1000) * (5 / 4 * spread.sum() + pairs.sum() / 2)
    if (spread == 1).all():
        assert exact == pytest.approx((1 / 500 + 1 / 1000) * 4 * (4 + 5) / 4)
    bar = 5 * np.std(draws) / np.sqrt(1200)
    assert abs(np.mean(draws) - exact) < 0.01 * exact + bar and bar < 0.1 * exact


def test_neighbours_by_hand():
    """On a line. Balls around real points reach 1 from 0..3 and 7 from 10; around made ones 1.9
    from -0.5 and 1.4, 3.1 from 4.5, 8.5 from -9."""
    real = np.array([[0.0], [1], [2], [3], [10]])
    made = np.array([[-0.5], [1.4], [4.5], [-9]])
    assert precision_recall(real, made, k=1) == (3 / 4, 4 / 5)
    assert density_coverage(real, made, k=1) == (4 / 4, 4 / 5)  # 3's ball is empty
    edge = np.array([[0.0], [2]]), np.array([[4.0], [-4]])  # 4 is as far from 2 as 0 is
    assert precision_recall(*edge, k=1) == (1 / 2, 1)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_neighbours_are_their_definition(k):
    x, y = clouds(ROWS + 9, ROWS // 2, 3, seed=k)
    y += 1
    precision, recall, density, coverage = literal_shares(x, y, k)
    assert precision_recall(x, y, k) == pytest.approx((precision, recall), rel=1e-12)
    assert precision_recall(y, x, k) == pytest.approx((recall, precision), rel=1e-12)
    assert density_coverage(x, y, k) == pytest.approx((density, coverage), rel=1e-12)
    assert 0.1 < min(precision, recall, coverage) <= max(precision, recall, coverage) < 1


def test_neighbours_of_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    real, made = clouds(400, 300, 4)
    reach = neighbors.NearestNeighbors(n_neighbors=3).fit(real).kneighbors()[0][:, -1]
    apart = np.sqrt(((made[:, None] - real) ** 2).sum(axis=-1))
    assert precision_recall(real, made)[0] == (apart <= reach).any(axis=1).mean()
    reach = neighbors.NearestNeighbors(n_neighbors=5).fit(real).kneighbors()[0][:, -1]
    assert density_coverage(real, made) == pytest.approx(
        ((apart <= reach).sum() / (5 * 300), (apart <= reach).any(axis=0).mean()), rel=1e-12)


def test_a_lost_mode_is_seen():
    """Half of eight Gaussians: all that is made is real, half of what is real is made."""
    g, rng = eight_gaussians(), np.random.default_rng(7)
    real = g.sample(1000, rng)
    made, k = g.sample(2000, rng, return_component=True)
    made = made[k < 4]
    precision, recall = precision_recall(real, made)
    assert precision > 0.95 and abs(recall - 0.5) < 5 * 0.5 / sqrt(1000) + 0.03
    density, coverage = density_coverage(real, made)
    assert density > 0.9 and abs(coverage - 0.5) < 5 * 0.5 / sqrt(1000) + 0.03


@pytest.mark.parametrize("n, m, k", [(40, 60, 5), (30, 10, 2)])
def test_density_and_coverage_of_equal_clouds(n, m, k):
    """Their means are free of the distribution: here of heavy tails. 500 pairs, 5 standard errors,
    less than 4 % each, and the coverage has no more than half of the density's."""
    rng = np.random.default_rng(8)
    draws = [density_coverage(rng.standard_cauchy((n, 2)), rng.standard_cauchy((m, 2)), k)
             for _ in range(500)]
    exact = 1, 1 - perm(n - 1, k) / perm(n + m - 1, k)
    bars = 5 * np.std(draws, axis=0) / np.sqrt(500)
    assert (abs(np.mean(draws, axis=0) - exact) < bars).all() and (bars < (0.08, 0.04)).all()


class NearestMean:
    """The simplest classifier, which remembers what it was given."""

    def fit(self, x, labels):
        self.learned, self.labels, self.asked, self.said = x, labels, [], []
        self.means = [x[labels == label].mean(axis=0) for label in (0, 1)]

    def predict(self, x):
        far = [((x - mean) ** 2).sum(axis=1) for mean in self.means]
        self.asked.append(x)
        self.said.append((far[1] < far[0]).astype(int))
        return self.said[-1]


@pytest.mark.parametrize("n", [2, 7, 12])
def test_two_sample_is_a_blind_draw(n):
    """p by all ways to give the held-out points their names, and by scipy's test of Fisher's."""
    stats = pytest.importorskip("scipy.stats")
    for seed in range(5):
        x, y = clouds(n, n, 2, seed)
        judge = NearestMean()
        accuracy, p = two_sample(x, y, np.random.default_rng(seed), judge)
        held, said = n - n // 2, np.concatenate(judge.said)
        right = judge.said[1].sum()
        ways = [said[list(names)].sum() >= right for names in combinations(range(2 * held), held)]
        table = [[right, held - right], [judge.said[0].sum(), held - judge.said[0].sum()]]
        assert p == pytest.approx(np.mean(ways), rel=1e-9)
        assert p == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-9)
        assert accuracy == pytest.approx((said == np.repeat([0, 1], held)).mean(), rel=1e-12)
        for label, cloud in enumerate((x, y)):  # each point is learned from or asked for, once
            rows = np.concatenate([judge.learned[judge.labels == label], judge.asked[label]])
            assert sorted(map(tuple, rows)) == sorted(map(tuple, cloud))
            assert len(judge.asked[label]) == held


def test_two_sample_rejects_what_is_alike_no_more_often_than_it_says():
    """2000 pairs of 30 points from one normal, at three levels; 5 standard errors. p comes in
    steps, so it may reject less often than it says, but more than half as often."""
    rng = np.random.default_rng(9)
    p = np.array([two_sample(*rng.standard_normal((2, 30, 2)), rng, NearestMean())[1]
                  for _ in range(2000)])
    for level in (0.05, 0.2, 0.5):
        bar = 5 * sqrt(level * (1 - level) / 2000)
        assert level / 2 - bar < (p <= level).mean() < level + bar


def test_two_sample_of_two_normals():
    """N(0, 1) and N(1, 1) can be told apart with Φ(1/2); 2 times 5000 held-out points, 5 standard
    errors, 0.023. The half that was learned from moves the border by less than 0.001 of it."""
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((10000, 1)), 1 + rng.standard_normal((10000, 1))
    best = (1 + erf(0.5 / sqrt(2))) / 2
    accuracy, p = two_sample(x, y, rng, NearestMean())
    assert abs(accuracy - best) < 5 * sqrt(best * (1 - best) / 10000) + 0.001 and p < 1e-100
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression()
    assert two_sample(x, y, rng, linear)[0] == pytest.approx(best, abs=0.024)


def test_two_sample_s_neighbours():
    """They see what has the same mean; there are 7 for 2 times 25 points to learn from."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(11)
    x = eight_gaussians().sample(50, rng)
    y = rng.standard_normal((50, 2))
    found = {k: [two_sample(x, y, np.random.default_rng(s), k and neighbors.KNeighborsClassifier(k))
                 for s in range(5)] for k in (None, 6, 7, 8)}
    assert len(set(found[None])) > 1, "which half is learned from is drawn"
    assert found[None] == found[7] and found[7] not in (found[6], found[8])
    x, y = eight_gaussians().sample(1000, rng), rng.standard_normal((1000, 2))
    accuracy, p = two_sample(x, y, rng)
    assert accuracy > 0.75 and p < 1e-50


def test_floor():
    """Of the energy distance as `energy_floor`, 200 and 200 pairs: 5 standard errors of both."""
    g, rng = eight_gaussians(), np.random.default_rng(12)
    mean, spread = floor(energy_distance, g.sample, 100, rng, repeats=200)
    assert abs(mean) < 5 * spread / sqrt(200)
    assert spread == pytest.approx(energy_floor(g.sample, 100, rng, 200), rel=5 / 20 * sqrt(2))


def test_floor_s_arithmetic():
    """One draw without replacement, halved; a mean and a deviation for each number of a score."""
    drawn, points = [], np.arange(20.0)[:, None]

    def score(x, y):
        assert len(x) == len(y) == 10 and sorted(np.concatenate([x, y])[:, 0]) == list(range(20))
        drawn.append((x.sum(), y[0, 0]))
        return drawn[-1]

    mean, spread = floor(score, lambda n, rng: rng.permutation(points)[:n], 10,
                         np.random.default_rng(13), repeats=2)
    (a, b), (c, d) = drawn
    assert tuple(mean) == pytest.approx(((a + c) / 2, (b + d) / 2))
    assert tuple(spread) == pytest.approx((abs(a - c) / sqrt(2), abs(b - d) / sqrt(2)))
    default = floor(lambda x, y: drawn.append(0) or 0.0, lambda n, rng: points, 10, None)
    assert default == (0, 0) and len(drawn) == 22


@pytest.mark.parametrize("call, said", [
    (lambda: energy_distance(np.zeros((1, 2)), np.zeros((5, 2))), r"x must be of shape \(2 or more"),
    (lambda: energy_distance(np.zeros((5, 2)), np.zeros(5)), "y must be of shape"),
    (lambda: energy_distance(np.zeros((5, 2)), np.zeros((5, 3))), r"y must be of shape \(m, 2\)"),
    (lambda: energy_distance(np.zeros((5, 2)), np.full((5, 2), np.nan)), "y must be finite"),
    (lambda: energy_floor(None, 10, None, repeats=1), "repeats must be >= 2; got 1"),
    (lambda: floor(None, None, 10, None, repeats=1), "repeats must be >= 2; got 1"),
    (lambda: energy_distance(np.array(0.0), np.zeros((5, 2))), r"x must be of shape \(2 or more"),
    (lambda: kernel_distance(np.zeros((5, 2)), np.zeros((5, 3))), r"y must be of shape \(m, 2\)"),
    (lambda: frechet(np.zeros((5, 2)), np.zeros((5, 3))), r"y must be of shape \(m, 2\)"),
    (lambda: moments(np.zeros((1, 3))), r"x must be of shape \(2 or more, d\); got \(1, 3\)"),
    (lambda: frechet_moments(np.zeros(2), np.eye(2), np.zeros(3), np.eye(2)),
     r"mean_b must be of shape \(2,\); got \(3,\)"),
    (lambda: frechet_moments(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2)),
     r"cov_a must be of shape \(2, 2\); got \(3, 3\)"),
    (lambda: frechet_moments(np.zeros(2), np.eye(2), np.full(2, np.inf), np.eye(2)),
     "mean_b must be finite"),
    (lambda: frechet_moments(np.zeros(2), np.eye(2), np.zeros(2), np.array([[1, 0.5], [0, 1]])),
     "cov_b must be symmetric"),
    (lambda: frechet_moments(np.zeros(2), np.diag([1, -0.1]), np.zeros(2), np.eye(2)),
     "cov_a must be positive semidefinite; got .*-0.1"),
    (lambda: precision_recall(np.zeros((5, 2)), np.full((5, 2), np.inf)), "made must be finite"),
    (lambda: precision_recall(np.zeros((5, 2)), np.zeros((5, 2)), k=0), "k must be a whole number"),
    (lambda: precision_recall(np.zeros((5, 2)), np.zeros((5, 2)), k=1.5), "k must be a whole"),
    (lambda: precision_recall(np.zeros((5, 2)), np.zeros((3, 2))), "whole number in 1..2; got 3"),
    (lambda: density_coverage(np.zeros((5, 2)), np.zeros((9, 2))), "whole number in 1..4; got 5"),
    (lambda: two_sample(np.zeros((5, 2)), np.zeros((4, 2)), np.random.default_rng(0)),
     r"y must be of x's shape \(5, 2\); got \(4, 2\)"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
