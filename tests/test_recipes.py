"""Recipes: faults are named, all goes through JSON and back, weights are the papers'."""

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from minidiff.schedule import cosine, flow, linear

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import UNet, UNetConfig, parameters  # noqa: E402
from minidiff.recipes import DDPM, FAST, SMALL, TINY, Recipe, min_snr  # noqa: E402

ALL = {"ddpm": DDPM, "fast": FAST, "small": SMALL, "tiny": TINY}


@pytest.mark.parametrize("name, least, most", [
    ("ddpm", 35_746_307, 35_746_307), ("fast", 10_000_000, 15_000_000),
    ("small", 2_737_507, 2_737_507), ("tiny", 1, 200_000)])
def test_every_recipe_builds_its_network(name, least, most):
    with torch.device("meta"):
        assert least <= parameters(UNet(ALL[name].network)) <= most


def test_ddpm_is_ho_et_al_s():
    """Appendix B, the half-life from its decay of 0.9999 a step; the rest stands in section 4."""
    assert (DDPM.schedule, DDPM.T, DDPM.kind, DDPM.condition) == ("linear", 1000, "eps", "t")
    assert (DDPM.batch, DDPM.steps, DDPM.lr, DDPM.warmup) == (128, 800_000, 2e-4, 5000)
    assert (DDPM.decay, DDPM.clip, DDPM.drop, DDPM.min_snr, DDPM.flip) == (0, 1, 0, 0, True)
    assert DDPM.network == UNetConfig() and DDPM.network.dropout == 0.1
    assert 0.5 ** (128 / DDPM.half_life) == pytest.approx(0.9999, abs=1e-9)
    np.testing.assert_array_equal(DDPM.table.alpha, linear(1000).alpha)
    assert DDPM.levels.tolist() == list(range(1001)) and DDPM.weight is None


def test_fast_is_what_it_says():
    assert FAST.half_life == FAST.steps * FAST.batch / 20
    np.testing.assert_array_equal(FAST.levels, cosine(1000).log_snr)
    np.testing.assert_allclose(FAST.weight[1:], np.minimum(cosine(1000).snr[1:], 5)
                               / (cosine(1000).snr[1:] + 1), rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_there_and_back_through_json(name):
    recipe = ALL[name]
    again = Recipe(**json.loads(json.dumps(asdict(recipe))))
    assert again == recipe and hash(again) == hash(recipe) and again.network == recipe.network


@pytest.mark.parametrize("name", ALL)
def test_it_prints_itself(name):
    lines = str(ALL[name]).splitlines()
    assert [line.split()[0] for line in lines] == [field.name for field in fields(Recipe)]
    assert f"batch         {ALL[name].batch}" in lines


@pytest.mark.parametrize("kind, literal", [
    ("x0", lambda snr: np.minimum(snr, 3)),
    ("eps", lambda snr: np.minimum(snr, 3) / snr),
    ("v", lambda snr: np.minimum(snr, 3) / (snr + 1))])
def test_min_snr_is_the_paper_s(kind, literal):
    """Hang et al. (2023), section 3.4, at gamma = 3, on a table that keeps the variance."""
    weight = min_snr(cosine(100), kind, 3)
    assert weight[0] == 0
    np.testing.assert_allclose(weight[1:], literal(cosine(100).snr[1:]), rtol=1e-9)


def test_min_snr_of_the_flow_is_that_of_x0():
    """An error e of x0 is one of -e/sigma in eps - x0, from x = (1 - sigma)·x0 + sigma·eps."""
    table = flow(10)
    want = np.minimum(table.snr[1:], 5) * table.sigma[1:] ** 2
    np.testing.assert_allclose(min_snr(table, "flow")[1:], want, rtol=1e-12)
    assert min_snr(table, "flow").shape == (11,)


def test_karras_s_levels_keep_the_variance():
    table = replace(TINY, schedule="karras", T=40).table
    np.testing.assert_allclose(table.alpha**2 + table.sigma**2, 1, rtol=1e-12)
    assert table.sigma[-1] / table.alpha[-1] == pytest.approx(80)


@pytest.mark.parametrize("change, words", [
    (dict(schedule="sine"), "schedule must be one of .*; got 'sine'"),
    (dict(kind="edm"), "kind must be one of"),
    (dict(kind="eps", schedule="flow"), "kind must be one that determines x0"),
    (dict(condition="sigma"), "condition must be one of"),
    (dict(precision="fp16"), "precision must be one of"),
    (dict(T=0), "T must be a whole number >= 1; got 0"),
    (dict(batch=1.5), "batch must be a whole number >= 1; got 1.5"),
    (dict(steps=0), "steps must be a whole number >= 1"),
    (dict(warmup=-1), "warmup must be a whole number >= 0; got -1"),
    (dict(decay=-1), "decay must be a whole number >= 0"),
    (dict(decay=3001), "decay must be at most steps = 3000; got 3001"),
    (dict(lr=0), "lr must be a number > 0; got 0"), (dict(lr="high"), "lr must be a number > 0"),
    (dict(lr=math.nan), "lr must be"), (dict(lr=True), "lr must be a number > 0"),
    (dict(clip=0), "clip must be"), (dict(half_life=0), "half_life must be"),
    (dict(min_snr=-1), "min_snr must be a number >= 0"),
    (dict(drop=1.5), "drop must be a probability"),
    (dict(network=DDPM.network, drop=0.1), "drop must be a probability, and 0 where there are no"),
    (dict(flip=1), "flip must be true or false; got 1"),
    (dict(compile="yes"), "compile must be true or false"),
    (dict(network={"size": 7}), "size must be divisible by 8")])
def test_what_can_t_be_trained_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)
