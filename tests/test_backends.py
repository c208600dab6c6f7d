"""process, denoise and sampler on torch tensors and on NumPy arrays: one code, the same numbers."""

import numpy as np
import pytest

from minidiff.denoise import KINDS, clipped, denoiser, target
from minidiff.process import diffuse, noise_like
from minidiff.sampler import ddim, ddpm, dpmpp_2m, heun, last, sde
from minidiff.schedule import cosine, flow

torch = pytest.importorskip("torch", reason="the torch extra is not installed")

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 6, 3))
T_BATCH = np.array([1, 2, 10, 33, 49, 50])


def tensor(a):
    return torch.from_numpy(np.array(a))


@pytest.mark.parametrize("t", [7, T_BATCH])
def test_diffuse_agrees_bit_for_bit(t):
    ours = diffuse(cosine(50), X, t, Y)
    theirs = diffuse(cosine(50), tensor(X), t if isinstance(t, int) else tensor(t), tensor(Y))
    assert isinstance(theirs, torch.Tensor)
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [7, T_BATCH])
def test_denoisers_agree_bit_for_bit(kind, t):
    schedule = cosine(50)
    tt = t if isinstance(t, int) else tensor(t)
    ours = denoiser(lambda x, c: x * 0.5 + c * 0.1, schedule, kind)(X, t)
    theirs = denoiser(lambda x, c: x * 0.5 + c * 0.1, schedule, kind)(tensor(X), tt)
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b.numpy())
    np.testing.assert_array_equal(target(schedule, X, t, Y, kind),
                                  target(schedule, tensor(X), tt, tensor(Y), kind).numpy())


@pytest.mark.parametrize("schedule, kind", [(cosine(50), "eps"), (flow(10), "flow")])
@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m])
def test_samplers_agree_bit_for_bit(sampler, schedule, kind):
    denoise = clipped(denoiser(lambda x, c: x * 0.5, schedule, kind), schedule)
    states = zip(sampler(denoise, schedule, X), sampler(denoise, schedule, tensor(X)), strict=True)
    for (t, ours), (u, theirs) in states:
        assert t == u
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_injected_noise_is_standard_normal_and_the_generator_s_own():
    """n = 10⁶: 5 standard errors; a scale wrong by 2 % is off by 28."""
    x, n = torch.empty(1000, 1000), 10**6
    a, b = (noise_like(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b) and a.dtype == torch.float32
    assert abs(a.mean().item()) < 5 / n**0.5 and abs(a.var().item() - 1) < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("sampler", [ddpm, sde, lambda *a: heun(*a[:3]), lambda *a: dpmpp_2m(*a[:3])])
def test_samplers_run_on_tensors_and_keep_their_type(sampler):
    x = torch.ones(4, 1, 2, 2)
    out = last(sampler(lambda x, t: (x, x), cosine(5), x, torch.Generator().manual_seed(0)))
    assert out.dtype == torch.float32 and out.shape == x.shape


@pytest.mark.parametrize("wrong, said", [(lambda x: x * float("nan"), "step t = 3 leads to finite"),
                                         (lambda x: x[:1], "a pair")])
def test_a_denoiser_gone_wrong_is_named(wrong, said):
    denoise = lambda x, t: (wrong(x), x) if t == 3 else (x, x)
    with pytest.raises(ValueError, match=said):
        last(ddim(denoise, cosine(5), torch.ones(4, 2)))


def test_large_numbers_of_a_small_type_are_no_error():
    """Their sum overflows, and they are finite all the same."""
    x = torch.full((300, 2), 500, dtype=torch.float16)
    assert last(ddim(lambda x, t: (x, 0 * x), cosine(3), x)).isfinite().all()


def test_bad_tensors_are_named():
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="t must be between 0 and T = 50"):
        diffuse(cosine(50), x, torch.tensor([0, 51, 2]), x)
    with pytest.raises(ValueError, match="x0 must be free of NaN"):
        diffuse(cosine(50), x * float("nan"), 3, x)
    with pytest.raises(ValueError, match="t must be >= 1"):
        denoiser(lambda x, c: x, cosine(50))(x, torch.tensor([0, 1, 2]))
