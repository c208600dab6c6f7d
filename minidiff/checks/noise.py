"""Chapter 1's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.process import transition
from minidiff.schedule import Schedule, cosine, flow, linear


def mistake_a(x, beta, z):
    """A noising step with something wrong in it, to be diagnosed from its pictures."""
    return np.sqrt(1 - beta) * x + beta * z


def mistake_b(x, beta, z):
    """Another one."""
    return x + np.sqrt(beta) * z


crossing = Exercise(
    right=(259, 496),
    measure=lambda *rows: [np.interp(t, np.arange(1001), table.alpha_bar)
                           for t, table in zip(rows, (linear(), cosine()))],
    parts=("share of signal at t_linear", "share of signal at t_cosine"),
    tolerance=0.03,  # ±5 steps: read off a picture
    typical=(
        ((500, NOTHING), "Half of the steps is not half of the signal: look at the curves again. "
         "Or did you swap the schedules?"),
        ((NOTHING, 259), "That is the linear schedule's."),
        ((368, 664), "There α is a half. The share that is left of x0's variance is ᾱ = α²."),
        ((165, 328), "There σ is a half. As variances count, that is only a quarter of noise."),
    ),
    praise="There ᾱ = 1/2, so that α = σ = 0.71 and the log-SNR is 0. The linear schedule is there "
           "after a quarter of its steps, the cosine after half of them.",
)

hundred = Exercise(
    right=linear(100).alpha_bar[-1],
    measure=lambda share: [np.log(share)],
    parts=("share's logarithm",),
    tolerance=0.03,
    typical=(
        (linear().alpha_bar[1000], "That is what a thousand steps leave. ᾱ_T is a product with "
         "one factor a step, and now only a tenth of them is left."),
        (linear().alpha_bar[100], "That is row 100 of the long table, in which the first hundred "
         "β are the smallest ones. Here they rise all the way to 0.02."),
        (linear(100).alpha[-1], "That is α, the scale. The share of the variance is its square."),
        (10 * linear().alpha_bar[1000], "A tenth of the factors doesn't make the product ten "
         "times as large: take logarithms. They add, and a tenth of their sum is left."),
        (linear().alpha_bar[1000] / 10, "Fewer steps leave more of the signal, not less."),
    ),
    praise="In logarithms a tenth of the sum, so the tenth root of what a thousand steps leave. "
           "The end isn't noise at all: α is still 0.6. Who takes fewer steps must take larger "
           "ones, which is why programs multiply β by 1000/T.",
)

kick = Exercise(
    right=lambda a, v: np.sqrt(v * (1 - a**2)),
    cases={f"a = {a}, v = {v}": (a, v) for a, v in ((0.9, 1), (0.5, 4), (0.99, 0.25), (0.8, 3))},
    parts=("kick",),
    typical=(
        (lambda a, v: v * (1 - a**2), "That is b², the variance that a kick adds. What multiplies "
         "z is its root."),
        (lambda a, v: np.sqrt(1 - a**2), "Where is v? That walk settles at variance one."),
        (lambda a, v: v * np.sqrt(1 - a**2), "v is a variance, so it belongs under the root."),
        (lambda a, v: np.sqrt(v) * (1 - a), "The pull takes away 1 - a of the standard deviation, "
         "but the kick doesn't put standard deviations back: variances add, and those are "
         "scaled by a²."),
        (lambda a, v: np.sqrt(v * (1 - a)), "The pull multiplies x by a. What does that do to its "
         "variance?"),
        (lambda a, v: np.sqrt(v / (1 - a**2)), "A stronger pull needs stronger kicks: solve "
         "v = a²v + b² for b once more."),
    ),
    praise="With v = 1 and a² = 1 - β this is the root of β. With the data's own variance for v, "
           "data that aren't standardised keep their spread too.",
)


def noise_statistics(xt, schedule, x0, t, rng):
    """The signal's scale, the noise's variance and its mean, among the points with the first t."""
    x, y = x0[t == t[0]], xt[t == t[0]]
    signal = ((x - x.mean(0)) * y).mean() / x.var()
    noise = y - signal * x
    return signal, noise.var(axis=0).mean(), noise.mean()


def noised_with(signal, noise, draw):
    """A typical noising: what alpha_bar becomes, twice, and how the noise is drawn."""
    def noised(schedule, x0, t, rng):
        alpha_bar = schedule.alpha_bar[t][:, None]
        return signal(alpha_bar) * x0 + noise(1 - alpha_bar) * draw(rng, x0.shape)
    return noised


def normal(rng, shape):
    return rng.standard_normal(shape)


def uniform(rng, shape):
    return rng.random(shape)


def as_it_is(x):
    return x


ROOT_WANTED = "ᾱ and 1 - ᾱ are variances. What multiplies x0 and the noise are their roots."
UNIFORM = "`rng.random` draws evenly from [0, 1). The noise wanted is normal, with variance one."
SHARED = "All points get the same noise: draw as many numbers as x0 has."

noised = Exercise(
    right=noised_with(np.sqrt, np.sqrt, normal),
    cases={f"t = {t}": (linear(), np.random.default_rng(t).standard_normal((80_000, 2)),
                        np.repeat([t, other], 40_000), np.random.default_rng(1))
           for t, other in ((100, 300), (300, 100))},
    measure=noise_statistics,
    parts=("signal's scale", "noise's variance", "noise's mean"),
    tolerance=0.025,  # at least 0.0157, and five standard errors are at most 0.0151
    typical=(
        (noised_with(as_it_is, as_it_is, normal), ROOT_WANTED),
        (noised_with(np.sqrt, np.sqrt, uniform), UNIFORM),
        (noised_with(np.sqrt, as_it_is, uniform), f"{UNIFORM} {ROOT_WANTED}"),
        (noised_with(np.sqrt, np.sqrt, lambda rng, shape: rng.standard_normal(shape[1:])), SHARED),
    ),
    praise="Three lines, and three bugs that raise no error. What found them is what finds them "
           "anywhere: the scale, the mean and the variance of what comes out.",
)


def between_with(scale=None, variance=None):
    """A typical answer that is wrong in the scale, the variance or both."""
    def between(schedule, s, t):
        rows = schedule.alpha[s], schedule.alpha[t], schedule.sigma[s], schedule.sigma[t]
        return (scale(*rows) if scale else NOTHING), (variance(*rows) if variance else NOTHING)
    return between


between = Exercise(
    right=transition,
    cases={"linear(), s = 100, t = 400": (linear(), 100, 400),
           "linear(), s = 0, t = 250": (linear(), 0, 250),
           "cosine(), s = 499, t = 500": (cosine(), 499, 500),
           "alpha = 1 - t/100, sigma = t/100, s = 30, t = 80": (flow(100), 30, 80),
           "alpha = 1, sigma = t, s = 20, t = 24": (Schedule(np.ones(41), np.arange(41)), 20, 24)},
    parts=("scale", "variance"),
    typical=(
        (between_with(scale=lambda a_s, a_t, s_s, s_t: a_t), "That is the jump from x_0. From x_s, "
         "a part of the way is already behind you."),
        (between_with(scale=lambda a_s, a_t, s_s, s_t: a_s / a_t), "It is upside down: the signal "
         "shrinks from s to t."),
        (between_with(scale=lambda a_s, a_t, s_s, s_t: (a_t / a_s) ** 2), "That is a ratio of "
         "variances, ᾱ_t/ᾱ_s. What multiplies x_s is its root."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: s_t**2 - s_s**2), "The noise that x_s "
         "has already is scaled down with the rest on its way to t."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: s_t**2 - a_t / a_s * s_s**2),
         "Scaling a noise by a factor scales its variance by the square."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: s_t**2), "That is all the noise in x_t. "
         "Some of it x_s had already."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: 1 - (a_t / a_s) ** 2), "That holds where "
         "alpha² + sigma² = 1, but the table may be another: derive it from sigma."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: np.sqrt(s_t**2 - (a_t / a_s * s_s) ** 2)),
         "That is the standard deviation. Return its square."),
        (between_with(variance=lambda a_s, a_t, s_s, s_t: (s_t - a_t / a_s * s_s) ** 2), "Standard "
         "deviations can't be subtracted: variances add."),
    ),
    praise="With s = t - 1 it is one step of the chain, with s = 0 the jump from clean data, and "
           "for any table at all. A sampler's step back is made of these two numbers.",
)
