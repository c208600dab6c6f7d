"""The energy distance against its definition, a closed form and its own noise floor."""

from math import erf

import numpy as np
import pytest

from minidiff.data import eight_gaussians
from minidiff.metrics import ROWS, energy_distance, energy_floor


def literal(x, y):
    """By loops over pairs of different points."""
    def mean(a, b, same):
        pairs = [np.sqrt(((p - q) ** 2).sum()) for i, p in enumerate(a) for j, q in enumerate(b)
                 if not (same and i == j)]
        return np.mean(pairs)

    return 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)


@pytest.mark.parametrize("n, m, d", [(2, 3, 1), (ROWS + 5, 7, 2), (20, 2 * ROWS, 5)])
def test_is_its_definition(n, m, d):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, d)), 5 + 2 * rng.standard_normal((m, d))
    assert energy_distance(x, y) == pytest.approx(literal(x, y), rel=1e-9)
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x), rel=1e-12)


def test_far_from_zero_no_digits_are_lost():
    """A cloud ten millions away, as if it were at zero; its coordinates keep nine digits."""
    x, y = np.random.default_rng(0).standard_normal((2, 100, 2))
    assert energy_distance(x + 1e7, y + 1e7) == pytest.approx(energy_distance(x, y), abs=1e-6)


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


@pytest.mark.parametrize("call, said", [
    (lambda: energy_distance(np.zeros((1, 2)), np.zeros((5, 2))), r"x must be of shape \(2 or more"),
    (lambda: energy_distance(np.zeros((5, 2)), np.zeros(5)), "y must be of shape"),
    (lambda: energy_distance(np.zeros((5, 2)), np.zeros((5, 3))), r"y must be of shape \(m, 2\)"),
    (lambda: energy_distance(np.zeros((5, 2)), np.full((5, 2), np.nan)), "y must be finite"),
    (lambda: energy_floor(None, 10, None, repeats=1), "repeats must be >= 2; got 1"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
