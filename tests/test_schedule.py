"""Schedules: golden numbers, literal formulas, and what is refused."""

import numpy as np
import pytest

from minidiff.schedule import Schedule, cosine, flow, from_beta, karras, linear, read

TABLES = {"linear": linear(100), "cosine": cosine(100), "karras": karras(20), "flow": flow(10)}


def test_linear_golden_numbers():
    alpha_bar = linear(1000).alpha_bar
    np.testing.assert_allclose(alpha_bar[[1, 500, 1000]],
                               [0.9999, 0.07858724288, 4.0358297654e-05], rtol=1e-9)


def test_cosine_golden_numbers():
    alpha_bar = cosine(1000).alpha_bar
    np.testing.assert_allclose(alpha_bar[[1, 500, 1000]],
                               [0.9999587158, 0.4938435904, 2.4287669e-09], rtol=1e-7)


def test_linear_by_hand():
    schedule, alpha_bar = linear(1000), 1.0
    for t in range(1, 1001):
        alpha_bar *= 1 - (1e-4 + (t - 1) / 999 * (0.02 - 1e-4))
        assert schedule.alpha[t] == pytest.approx(alpha_bar**0.5, rel=1e-12)
        assert schedule.sigma[t] == pytest.approx((1 - alpha_bar) ** 0.5, rel=1e-9)


def test_cosine_by_hand_away_from_the_clip():
    schedule = cosine(1000)
    for t in (1, 250, 500, 900):
        f = [np.cos((u / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 for u in (0, t)]
        assert schedule.alpha_bar[t] == pytest.approx(f[1] / f[0], rel=1e-9)
    assert schedule.beta[1000] == pytest.approx(0.999, rel=1e-9)


def test_karras_by_hand():
    schedule = karras(3, sigma_min=1.0, sigma_max=128.0)
    np.testing.assert_allclose(schedule.sigma, [0, 1, 1.5**7, 128], rtol=1e-12)
    np.testing.assert_array_equal(schedule.alpha, 1)


def test_flow_by_hand():
    np.testing.assert_allclose(flow(4).alpha, [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(flow(4).sigma, [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("name", TABLES)
def test_every_table_starts_clean_and_loses_signal(name):
    schedule = TABLES[name]
    assert (schedule.alpha[0], schedule.sigma[0]) == (1, 0)
    assert schedule.log_snr[0] == np.inf
    assert (np.diff(schedule.log_snr) < 0).all()
    np.testing.assert_allclose(schedule.snr[1:], schedule.alpha[1:] ** 2 / schedule.sigma[1:] ** 2)
    assert schedule.T == len(schedule.alpha) - 1


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_variance_preserving_tables(name):
    schedule = TABLES[name]
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, rtol=1e-12)
    np.testing.assert_allclose(from_beta(schedule.beta[1:]).alpha, schedule.alpha, rtol=1e-9)


def test_one_step_is_a_table_too():
    assert [table.T for table in (linear(1), cosine(1), karras(1), flow(1))] == [1, 1, 1, 1]
    np.testing.assert_array_equal(flow(1).sigma, [0, 1])


def test_tables_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        linear(10).alpha[3] = 0.5


def test_select_keeps_exactly_its_rows():
    long, rows = linear(1000), [0, 1, 250, 1000]
    short = long.select(rows)
    assert short.T == 3
    np.testing.assert_array_equal(short.alpha, long.alpha[rows])
    np.testing.assert_array_equal(short.sigma, long.sigma[rows])


def test_one_t_is_read_as_a_python_float():
    x = np.zeros((5, 2), np.float32)
    for t in (3, np.int64(3), np.array(3)):
        alpha, sigma = TABLES["linear"].at(t, x)
        assert type(alpha) is float and type(sigma) is float
        assert alpha == TABLES["linear"].alpha[3] and sigma == TABLES["linear"].sigma[3]


def test_a_batch_of_t_is_read_in_the_shape_and_type_of_x():
    t = np.array([0, 3, 7])
    for shape in ((3,), (3, 2), (3, 1, 8, 8)):
        alpha, _ = TABLES["linear"].at(t, np.zeros(shape, np.float32))
        assert alpha.shape == (3,) + (1,) * (len(shape) - 1) and alpha.dtype == np.float32
        np.testing.assert_allclose(alpha.ravel(), TABLES["linear"].alpha[t], rtol=1e-7)


def test_respaced_rows_are_spread_evenly():
    """Exactly where steps divides T, else to the nearest row, a half up; and all rows where they are asked for."""
    for steps, rows in ((5, [0, 2, 4, 6, 8, 10]), (4, [0, 3, 5, 8, 10]), (3, [0, 3, 7, 10]), (1, [0, 10]),
                        (np.int64(10), range(11))):
        np.testing.assert_array_equal(linear(10).respaced(steps).sigma, linear(10).sigma[list(rows)])
    for steps in range(1, 1001):
        assert linear(1000).respaced(steps).T == steps


def test_rescaled_keeps_the_ratio_and_makes_the_scale():
    """From each scale to each: alpha² + sigma² = 1, alpha = 1, alpha + sigma = 1, and the same log-SNRs;
    and one row by hand: (1, 3/4) is (4/5, 3/5) and (4/7, 3/7)."""
    for table in (linear(10), karras(10), flow(10).select(range(10))):
        vp, ve, straight = (table.rescaled(scale) for scale in ("vp", "ve", "flow"))
        for other in (vp, ve, straight):
            np.testing.assert_allclose(other.log_snr, table.log_snr, rtol=1e-9)
        np.testing.assert_allclose(vp.alpha**2 + vp.sigma**2, 1, rtol=1e-12)
        np.testing.assert_array_equal(ve.alpha, 1)
        np.testing.assert_allclose(straight.alpha + straight.sigma, 1, rtol=1e-12)
    row = Schedule([1, 1], [0, 0.75])
    for scale, alpha, sigma in (("vp", 4 / 5, 3 / 5), ("flow", 4 / 7, 3 / 7), ("ve", 1, 3 / 4)):
        assert (row.rescaled(scale).alpha[1], row.rescaled(scale).sigma[1]) == pytest.approx((alpha, sigma))


def test_karras_rows_are_even_in_a_power_of_sigma():
    """rho = inf: even in log-SNR, the limit of large rho."""
    assert np.diff(karras(20, rho=3).sigma[1:] ** (1 / 3)).std() < 1e-9
    assert np.diff(karras(20, rho=np.inf).log_snr[1:]).std() < 1e-9
    np.testing.assert_allclose(karras(20, rho=np.inf).sigma, karras(20, rho=1e6).sigma, rtol=1e-3)
    for rho in (1, 7, np.inf):
        assert karras(20, 0.01, 50.0, rho).sigma[[1, -1]] == pytest.approx([0.01, 50])


@pytest.mark.parametrize("build, said", [
    (lambda: linear(10).respaced(0), "steps must be a whole number between 1 and T = 10; got 0"),
    (lambda: linear(10).respaced(11), "steps must be a whole number between 1 and T = 10; got 11"),
    (lambda: linear(10).respaced(2.5), "steps must be a whole number between 1 and T = 10; got 2.5"),
    (lambda: linear(10).rescaled("vq"), "scale must be 'vp', 've' or 'flow'; got 'vq'"),
    (lambda: flow(10).rescaled("ve"), "alpha must be > 0 in every row, for 've'"),
    (lambda: karras(10, sigma_max=np.inf), "sigma_min must be in"),
    (lambda: linear(0), "T must be a whole number >= 1; got 0"),
    (lambda: cosine(2.5), "T must be a whole number >= 1; got 2.5"),
    (lambda: flow(-1), "T must be"),
    (lambda: linear(10, beta_1=0.0), r"beta must be in \(0, 1\)"),
    (lambda: linear(10, beta_T=1.0), r"beta must be in \(0, 1\)"),
    (lambda: from_beta([0.1, np.nan]), r"beta must be in \(0, 1\)"),
    (lambda: from_beta([]), "beta must be of shape"),
    (lambda: cosine(10, s=-1), "s must be >= 0; got -1"),
    (lambda: karras(10, sigma_min=2.0, sigma_max=1.0), "sigma_min must be in"),
    (lambda: karras(10, sigma_min=0.0), "sigma_min must be in"),
    (lambda: karras(10, rho=0), "rho must be > 0"),
    (lambda: Schedule([1, 0.5], [0, 0.5, 1]), "sigma must be of alpha's shape"),
    (lambda: Schedule([0.9, 0.5], [0, 0.5]), "row 0 must be"),
    (lambda: Schedule([1, 0.5, 0.6], [0, 0.5, 0.6]), "alpha/sigma must be strictly decreasing"),
    (lambda: Schedule([1, np.nan], [0, 1]), "alpha must be finite"),
    (lambda: Schedule([1], [0]), "alpha must be a row for each"),
    (lambda: linear(10).select([1, 2]), "rows must be rising from 0"),
    (lambda: linear(10).select([0, 5, 5]), "rows must be rising from 0"),
    (lambda: linear(10).select([0, 11]), "rows must be rising from 0 to at most T = 10"),
    (lambda: linear(10).select([0, 1.5]), "rows must be a list of integers"),
    (lambda: read(linear(10).alpha, 11, np.zeros(3)), "t must be a whole number between 0 and T = 10; got 11"),
    (lambda: read(linear(10).alpha, -1, np.zeros(3)), "t must be a whole number between 0 and T = 10; got -1"),
    (lambda: read(linear(10).alpha, 1.5, np.zeros(3)), "t must be a whole number"),
    (lambda: read(linear(10).alpha, np.array([0, 11, 2]), np.zeros(3)), "t must be between 0 and T"),
    (lambda: read(linear(10).alpha, np.array([-1, 1, 2]), np.zeros(3)), "t must be between 0 and T"),
    (lambda: read(linear(10).alpha, np.array([1, 2]), np.zeros(3)), r"t must be an int, or of shape \(3,\)"),
])
def test_bad_input_is_named(build, said):
    with pytest.raises(ValueError, match=said):
        build()
