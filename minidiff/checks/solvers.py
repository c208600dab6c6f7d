"""Chapter 6's exercises: the right answers, and the ones that are usually wrong."""

from types import SimpleNamespace

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.data import eight_gaussians
from minidiff.mixture import GaussianMixture
from minidiff.schedule import cosine, flow, karras, linear

TABLES = {"linear(20, 0.01, 0.3)": linear(20, 0.01, 0.3), "cosine(20)": cosine(20),
          "flow(20)": flow(20), "karras(20)": karras(20)}


def noised(w, row):
    """The variance of N(0, w) data at a row (alpha, sigma)."""
    alpha, sigma = row
    return alpha**2 * w + sigma**2


def gain(w, row):
    """What E[x0 | x] of N(0, w) data multiplies x by."""
    return row[0] * w / noised(w, row)


def by_guess(g, s, t):
    """What a DDIM step multiplies x by, if x0 = g·x."""
    return s[0] * g + s[1] * (1 - t[0] * g) / t[1]


def shortfall_with(step=lambda w, s, t: NOTHING, exact=lambda w, s, t: NOTHING):
    """A typical pair of factors, from w, and alpha and sigma of the two rows."""
    def shortfall(schedule, s, t, w):
        rows = [(schedule.alpha[i], schedule.sigma[i]) for i in (s, t)]
        return step(w, *rows), exact(w, *rows)
    return shortfall


shortfall = Exercise(
    right=shortfall_with(lambda w, s, t: by_guess(gain(w, t), s, t),
                         lambda w, s, t: np.sqrt(noised(w, s) / noised(w, t))),
    cases={f"{name}, s = {s}, t = {t}, w = {w:g}": (TABLES[name], s, t, w) for name, s, t, w in (
        ("cosine(20)", 9, 10, 1.0), ("linear(20, 0.01, 0.3)", 3, 9, 4.0), ("flow(20)", 8, 14, 0.25),
        ("karras(20)", 12, 14, 0.5), ("flow(20)", 0, 5, 2.0))},
    parts=("step's factor", "exact factor"),
    typical=(
        (shortfall_with(lambda w, s, t: by_guess(w / noised(w, t), s, t)), "The guess lacks an α: "
         "x0 and x_t have the covariance α_t·w, and x_t has the variance α_t²·w + σ_t²."),
        (shortfall_with(lambda w, s, t: s[0] / t[0]), "That takes x_t/α_t for the guess of x0, and "
         "leaves no noise. Who knows that the data are N(0, w) guesses less."),
        (shortfall_with(lambda w, s, t: by_guess(t[0], s, t)), "α_t·x_t is the guess for w = 1, "
         "where α² + σ² = 1. Which is it for any w, on any table?"),
        (shortfall_with(lambda w, s, t: s[0] * gain(w, t) + s[1] * (1 - gain(w, t)) / t[1]),
         "The noise is what is left of x_t beside α_t·x0, and not beside x0."),
        (shortfall_with(lambda w, s, t: s[0] * gain(w, t) + s[1] * (1 - t[0] * gain(w, t))),
         "x_t - α_t·x0 is σ_t·eps. You have put it where eps belongs."),
        (shortfall_with(lambda w, s, t: (s[0] * t[0] * w - s[1] * t[1]) / noised(w, t)), "The "
         "sign: the guess of eps is a positive multiple of x_t, so its part is added."),
        (shortfall_with(lambda w, s, t: s[0] * t[0] + s[1] * t[1]), "That is for w = 1, on a table "
         "with α² + σ² = 1. Where does w come in, and what if S_t isn't one?"),
        (shortfall_with(lambda w, s, t: s[0] * gain(w, t)), "That is what the guess of x0 brings. "
         "The step keeps noise too: σ_s times the guess of eps."),
        (shortfall_with(lambda w, s, t: gain(w, t)), "That leads to row 0, to the guess of x0. On "
         "row s stand α_s·x0 and σ_s·eps."),
        (shortfall_with(lambda w, s, t: by_guess(gain(w, t), s, t) - 1), "That is how far the step "
         "goes. What it starts from, x_t itself, has to be added."),
        (shortfall_with(lambda w, s, t: np.sqrt(noised(w, s) / noised(w, t))), "That is the exact "
         "factor. The step is Euler's, and misses it a little."),
        (shortfall_with(lambda w, s, t: (s[0] * t[0] * w + s[1] * t[1])
                        / np.sqrt(noised(w, s) * noised(w, t))), "That is the step's factor over "
         "the exact one: what you are to look at afterwards."),
        (shortfall_with(exact=lambda w, s, t: noised(w, s) / noised(w, t)), "That is the ratio of "
         "the variances. Points scale like the standard deviation."),
        (shortfall_with(exact=lambda w, s, t: np.sqrt(noised(w, t) / noised(w, s))), "The fraction "
         "stands on its head: from row t to row s."),
        (shortfall_with(exact=lambda w, s, t: np.sqrt(w / noised(w, t))), "That leads all the way "
         "to row 0, where the variance is w."),
        (shortfall_with(exact=lambda w, s, t: s[0] / t[0]), "So moves a point that is all signal. "
         "The cloud's variance has σ² in it too."),
    ),
    praise="Now divide the two. With the vectors (α·√w, σ) of both rows it is the cosine of the "
           "angle between them: a DDIM step always falls short, and the solution makes of it the "
           "error of a whole run and the best spacing.",
)


EIGHT, BELL = eight_gaussians(), GaussianMixture([1.0], [[0.2, -0.1]], [[[0.5, 0.2], [0.2, 0.3]]])


def points(seed, n=4):
    return np.random.default_rng(seed).standard_normal((n, 2))


def legs(schedule):
    """The function that goes from x by one pair, from a row to another."""
    def go(x, pair, start, end):
        return (x + (schedule.alpha[end] - schedule.alpha[start]) * pair[0]
                + (schedule.sigma[end] - schedule.sigma[start]) * pair[1])
    return go


def midpoint_with(formula):
    """A typical answer, from the pair on row t and the end of the half step that it leads to."""
    def midpoint(denoise, schedule, x, s, m, t):
        go, first = legs(schedule), denoise(x, t)
        return formula(SimpleNamespace(x=x, s=s, m=m, t=t, ask=denoise, go=go, first=first,
                                       half=go(x, first, t, m), row=lambda i: schedule.at(i, x)))
    return midpoint


def with_x(c, x0):
    """The pair of this x0 and x."""
    alpha, sigma = c.row(c.t)
    return x0, (c.x - alpha * x0) / sigma


def of_both_ends(c):
    """Heun's pair; before row 0 there is one end only."""
    ahead = c.ask(c.go(c.x, c.first, c.t, c.s), c.s) if c.s else c.first
    return (c.first[0] + ahead[0]) / 2, (c.first[1] + ahead[1]) / 2


def whole(c, pair):
    """All of the step by one pair."""
    return c.go(c.x, pair, c.t, c.s)


def turned_eps(pair):
    return pair[0], -pair[1]


midpoint = Exercise(
    right=midpoint_with(lambda c: whole(c, c.ask(c.half, c.m))),
    cases={f"{name}, from row {t} by {m} to {s}": (data.denoiser(TABLES[name]), TABLES[name],
                                                  scale * points(t), s, m, t)
           for name, data, scale, s, m, t in (
               ("cosine(20)", EIGHT, 1, 8, 9, 10), ("linear(20, 0.01, 0.3)", BELL, 1, 6, 8, 10),
               ("karras(20)", EIGHT, 2, 10, 12, 14), ("flow(20)", EIGHT, 1, 0, 3, 6))},
    parts=("x on row s",),
    typical=(
        (midpoint_with(lambda c: c.go(c.half, c.ask(c.half, c.m), c.m, c.s)), "That is two DDIM "
         "steps, from t to m and from m to s: first order. What is found at m is the slope for all "
         "of the step, from x."),
        (midpoint_with(lambda c: whole(c, c.first)), "That is one DDIM step: it goes by the pair "
         "of row t. Ask on row m, and go by that."),
        (midpoint_with(lambda c: c.half), "That is the half step, and lies on row m. It is only "
         "for asking there."),
        (midpoint_with(lambda c: c.go(c.x, c.ask(c.half, c.m), c.t, c.m)), "That goes half of the "
         "way only: alpha and sigma have to change from row t's to row s's."),
        (midpoint_with(lambda c: whole(c, c.ask(c.x, c.m))), "Row m was asked about x, which lies "
         "on row t and has too much noise for it. Go there first."),
        (midpoint_with(lambda c: whole(c, c.ask(c.half, c.t))), "The half step's end lies on row "
         "m, and was shown to the denoiser as one of row t."),
        (midpoint_with(lambda c: whole(c, c.ask((c.x + c.go(c.x, c.first, c.t, c.s)) / 2, c.m))),
         "The point half way between the ends isn't on row m, where alpha and sigma aren't the "
         "means of the ends'. Go there with row m's own."),
        (midpoint_with(lambda c: whole(c, of_both_ends(c))), "That is Heun's step: the mean "
         "of both ends. Here the slope in the middle is asked for."),
        (midpoint_with(lambda c: whole(c, with_x(c, c.ask(c.half, c.m)[0]))), "That takes x0 from "
         "row m and eps from x. It is a good step, and of second order too: DPM-Solver++(2S). The "
         "plain midpoint takes both from row m."),
        (midpoint_with(lambda c: c.go(c.x, c.ask(c.half, c.m), c.s, c.t)), "The sign: alpha goes "
         "from row t's to row s's, so its change is α_s - α_t."),
        (midpoint_with(lambda c: whole(c, turned_eps(c.ask(c.half, c.m)))), "The sign of eps: "
         "sigma's change, σ_s - σ_t, is negative already."),
    ),
    praise="Second order for two evaluations, as Heun's. And it never asks on row s: the step to "
           "row 0 is as good as the others.",
)


def encode_with(formula):
    """A typical answer, from the pair on row t, or on another, and what brings x up by a pair."""
    def encode(denoise, schedule, x, s, t):
        def up(pair):
            return legs(schedule)(x, pair, s, t)
        return formula(SimpleNamespace(x=x, s=s, up=up, ask=lambda x, row=t: denoise(x, row)))
    return encode


def rounds(n, change=lambda pair: pair):
    """The iteration's n-th round; `change` is a mistake made with the pair."""
    def iterate(c):
        guess = c.x
        for _ in range(n):
            guess = c.up(change(c.ask(guess)))
        return guess
    return encode_with(iterate)


encode = Exercise(
    right=rounds(100),
    cases={f"{name}, from row {s} up to {t}": (data.denoiser(TABLES[name]), TABLES[name],
                                               scale * points(s), s, t)
           for name, data, scale, s, t in (
               ("cosine(20)", EIGHT, 1, 9, 10), ("linear(20, 0.01, 0.3)", BELL, 1, 4, 8),
               ("karras(20)", BELL, 2, 12, 14), ("flow(20)", BELL, 1, 0, 3))},
    parts=("x on row t",),
    typical=(
        (rounds(1), "That asks row t about x, which lies on row s. It is a first guess of x_t. Ask "
         "about that, and again: the step must use what the denoiser says at x_t."),
        *((rounds(n), f"That is round {n} of the iteration, and it is still moving. Go on.")
          for n in (2, 3, 4, 5, 6, 8, 10)),
        (encode_with(lambda c: c.up(c.ask(c.x, max(c.s, 1)))), "That is Euler's step upwards, with "
         "the pair of row s. DDIM, coming down, will ask on row t, hear something else, and miss "
         "x."),
        (encode_with(lambda c: 2 * c.x - c.up(c.ask(c.x))), "That is DDIM's step down, from x. The "
         "question is where it would have to start to end at x."),
        (rounds(100, lambda pair: (-pair[0], -pair[1])), "The sign: the step down is added to x_t, "
         "so it is taken away from x_s."),
        (rounds(100, turned_eps), "The sign of eps: σ_s - σ_t times eps is taken away, as with "
         "alpha and x0."),
        (encode_with(lambda c: c.x), "That is x itself. If your iteration makes α_t·x0 + σ_t·eps "
         "of the pair at x_t, it never moves: the pair always makes the x that was asked about."),
    ),
    praise="DDIM brings it back to x, to the last digit, since it hears at x_t the very pair that "
           "led there. And as the denoiser is asked on row t only, even clean data can be encoded.",
)


def moments(h):
    """The integrals of exp(u - h)·u^k over u from 0 to h, for k = 0, 1, 2: by parts."""
    n0 = 1 - np.exp(-h)
    n1 = h - n0
    return n0, n1, h**2 - 2 * n1


def exact_for(n, first, second):
    """The weights at u = 0, -first, -second that give the moments n."""
    nodes = np.array([0.0, -first, -second])
    return tuple(np.linalg.solve(nodes ** np.arange(3)[:, None], n).tolist())


def third_with(weights, order=(1, 2)):
    """A typical answer, from all three weights; of those not in `order` it says nothing."""
    def third(h, h1, h2):
        w = weights(h, h1, h2)
        return tuple(w[i] if i in order else NOTHING for i in (1, 2))
    return third


def best(h, h1, h2):
    return exact_for(moments(h), h1, h1 + h2)


def changed(mistake):
    """The weights for wrong moments."""
    return lambda h, h1, h2: exact_for(mistake(h, *moments(h)), h1, h1 + h2)


third = Exercise(
    right=third_with(best),
    cases={f"h = {h:g}, h1 = {h1:g}, h2 = {h2:g}": (h, h1, h2)
           for h, h1, h2 in ((0.5, 0.5, 0.5), (0.3, 0.6, 0.4), (1.5, 0.8, 1.1))},
    parts=("weight one row back", "weight two rows back"),
    typical=(
        (third_with(lambda h, h1, h2: (0, -moments(h)[0] * h / (2 * h1), 0)), "That is 2M's: a "
         "line through two values, half way. A parabola goes through three."),
        (third_with(lambda h, h1, h2: (0, -moments(h)[1] / h1, 0), order=(1,)), "That is right for "
         "a straight line through two values. A parabola goes through three."),
        (third_with(lambda h, h1, h2: (0, 0, 0), order=(1,)), "Then only the newest value counts, "
         "and that is DDIM."),
        (third_with(changed(lambda h, n0, n1, n2: (n0, n0 * h / 2, n0 * h**2 / 4))), "That is 2M's "
         "short cut, the value half way, taken from a parabola. Half way is the mean of u, near "
         "enough; the mean of u² isn't (h/2)²."),
        (third_with(lambda h, h1, h2: np.multiply(best(h, h1, h2), np.exp(h))), "These belong "
         "before α_t. As α_s stands there, the exponential is exp(u - h), and not exp(u)."),
        (third_with(lambda h, h1, h2: np.divide(best(h, h1, h2), moments(h)[0])), "You have "
         "divided by 1 - exp(-h), as for a mean. The old point, σ_s/σ_t·x, has the rest of the "
         "weight, so nothing is to be divided."),
        (third_with(changed(lambda h, n0, n1, n2: (h, h**2 / 2, h**3 / 3))), "That is the "
         "parabola's area, with no exponential before it. The equation is for x/σ, and has "
         "exp(λ) in it."),
        (third_with(changed(lambda h, n0, n1, n2: (
            n0, (1 + h) * n0 - h, 2 - (2 + 2 * h + h**2) * (1 - n0)))), "The exponential runs the "
         "wrong way: it is largest at the step's end, u = h."),
        (third_with(changed(lambda h, n0, n1, n2: (n0, n1, n2 / 2))), "The parabola's last term is "
         "u²·x̂0''/2, and x̂0'' is twice the second divided difference. A 2 was lost between the "
         "two."),
        (third_with(changed(lambda h, n0, n1, n2: (n0, n1, h**2 - n1))), "n_2 is h² - 2·n_1: the "
         "derivative of u² is 2u."),
        (third_with(changed(lambda h, n0, n1, n2: (n0, h + n0, h**2 + 2 * h + 2 * n0))), "By parts "
         "it is h^k minus k·n_(k-1): the sign."),
        (third_with(lambda h, h1, h2: exact_for(moments(h), -h1, -h1 - h2)), "The earlier rows "
         "have more noise, so they lie at u = -h1 and u = -h1 - h2: the sign."),
        (third_with(lambda h, h1, h2: exact_for(moments(h), h1, h2 if h1 != h2 else h1 + h2)),
         "Row t+2 lies h1 + h2 behind row t."),
        (third_with(lambda h, h1, h2: exact_for(moments(h), h2, h1 + h2), order=(2,)), "h1 and h2 "
         "have changed places: h1 is the last step's length, h2 the one before."),
        (third_with(lambda h, h1, h2: exact_for(moments(h), h, 2 * h)), "That is right where all "
         "steps have the same length. Let the earlier rows lie where h1 and h2 say."),
        (third_with(lambda h, h1, h2: np.take(best(h, h1, h2), (0, 2, 1))), "The order: first the "
         "weight of row t+1, then of t+2."),
    ),
    praise="Third order for one evaluation a step: two old values are kept, and cost nothing. The "
           "solution measures it, and shows where it pays and where it doesn't.",
)
