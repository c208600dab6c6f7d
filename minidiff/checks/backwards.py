"""Chapter 4's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.denoise import clipped
from minidiff.process import posterior, transition
from minidiff.sampler import ddpm, last
from minidiff.schedule import cosine, flow, linear


def mistake_a(denoise, schedule, x, rng):
    """Where a sampler with something wrong ends, to be diagnosed from its picture."""
    for t in range(schedule.T, 0, -1):
        c0, ct, _ = posterior(schedule, t - 1, t)
        x = c0 * denoise(x, t)[0] + ct * x
    return x


def mistake_b(denoise, schedule, x, rng):
    """Where another one ends."""
    return last(ddpm(clipped(denoise, schedule), schedule, x, rng))


narrow = Exercise(
    right=(0.64 * 0.36, 0.64),
    parts=("small chain's variance", "large chain's variance"),
    tolerance=0.01,
    typical=(
        ((0.48, 0.8), "That is the standard deviation. The variance is asked for."),
        ((0.36, NOTHING), "That is the variance on row 1. One step is left: the chain returns its "
         "guess, 0.8·x1, and the guesses lie closer together than the x1."),
        ((NOTHING, 1.0), "That is the variance on row 1, and there it is right. The last step "
         "returns the guess, 0.8·x1, and adds no noise to make up for the 0.8."),
        ((0.8 * 0.36, NOTHING), "Points that are multiplied by 0.8 have their variance multiplied "
         "by its square."),
        ((0.36 / 0.64, 1 / 0.64), "You have divided by 0.8. So one would guess who knows nothing "
         "of the data. This denoiser knows that they are N(0, 1), and says 0.8·x1."),
        ((0.64, 0.64 * 0.36), "That is the other chain's. The large variance is b², the small one "
         "b²·σ_s²/σ_t²."),
        ((1.0, NOTHING), "That would be a chain without a fault. Put in the numbers: at row 2 the "
         "guess is 0 for every x2, so x1 is fresh noise and nothing else."),
        ((0.64 * 0.6, NOTHING), "The fresh noise has the variance v = b²·σ_s²/σ_t², in which 0.6 "
         "stands squared."),
    ),
    praise="On row 1 the large chain is right and the small one too narrow; then the last step, "
           "which adds no noise, costs both a factor of 0.64. With many steps row 1 has hardly any "
           "noise, and that last loss vanishes.",
)


def right_variance_with(formula):
    """A typical answer, from c0, v, b2, w, and alpha and sigma of the two rows."""
    def right_variance(schedule, s, t, w):
        c0, _, v = posterior(schedule, s, t)
        _, b2 = transition(schedule, s, t)
        return formula(c0, v, b2, w, (schedule.alpha[s], schedule.sigma[s]),
                       (schedule.alpha[t], schedule.sigma[t]))
    return right_variance


def noised(w, row):
    """The variance of N(0, w) data at a row (alpha, sigma)."""
    alpha, sigma = row
    return alpha**2 * w + sigma**2


def unsure(w, row):
    """Var[x0 | x] of N(0, w) data at a row."""
    return w * row[1] ** 2 / noised(w, row)


TABLES = {"linear(20, 0.01, 0.3)": linear(20, 0.01, 0.3), "cosine(20)": cosine(20),
          "flow(20)": flow(20)}

right_variance = Exercise(
    right=right_variance_with(lambda c0, v, b2, w, s, t: b2 * noised(w, s) / noised(w, t)),
    cases={f"{name}, s = {s}, t = {t}, w = {w:g}": (TABLES[name], s, t, w) for name, s, t, w in (
        ("cosine(20)", 9, 10, 1.0), ("cosine(20)", 9, 10, 0.25),
        ("linear(20, 0.01, 0.3)", 3, 9, 4.0), ("flow(20)", 8, 14, 0.25), ("flow(20)", 0, 5, 2.0))},
    parts=("variance",),
    typical=(
        (right_variance_with(lambda c0, v, b2, w, s, t: v), "That is the small one: right for "
         "somebody who knows x0. How unsure of it is one who sees only x_t?"),
        (right_variance_with(lambda c0, v, b2, w, s, t: b2), "That is the large one: right on a "
         "table with α² + σ² = 1, for data of variance 1."),
        (right_variance_with(lambda c0, v, b2, w, s, t: v + c0 * unsure(w, t)), "c0 multiplies the "
         "guess. Its square multiplies the guess's variance."),
        (right_variance_with(lambda c0, v, b2, w, s, t: v + unsure(w, t)), "The step doesn't go "
         "to x0, it goes a part of the way: c0 stands before it."),
        (right_variance_with(lambda c0, v, b2, w, s, t: v + c0**2 * w), "w is how unsure one is "
         "of x0 before seeing x_t. Having seen it one is surer."),
        (right_variance_with(lambda c0, v, b2, w, s, t: c0**2 * unsure(w, t)), "That is what comes "
         "from not knowing x0. Who knows it is still unsure of x_s: add v."),
        (right_variance_with(lambda c0, v, b2, w, s, t: b2 * noised(w**2, s) / noised(w**2, t)),
         "w is the data's variance already, not its root."),
        (right_variance_with(lambda c0, v, b2, w, s, t:
                             b2 * (s[0] * w + s[1] ** 2) / (t[0] * w + t[1] ** 2)),
         "α multiplies the data. Their variance is multiplied by α²."),
        (right_variance_with(lambda c0, v, b2, w, s, t: b2 * noised(w, t) / noised(w, s)),
         "The fraction stands on its head."),
        (right_variance_with(lambda c0, v, b2, w, s, t: noised(w, s)), "That is the variance of "
         "x_s for one who has seen nothing. It is surer with x_t: precisions add."),
        (right_variance_with(lambda c0, v, b2, w, s, t: 1 / (1 / b2 + 1 / noised(w, s))),
         "Precisions add, that is right. But x_t speaks of a·x_s, not of x_s. Which precision has "
         "it there?"),
        (right_variance_with(lambda c0, v, b2, w, s, t:
                             np.sqrt(b2 * noised(w, s) / noised(w, t))),
         "That is the standard deviation."),
    ),
    praise="It is b² times the variance on row s over the variance on row t. A point (w = 0) makes "
           "it the small one. On a table with α² + σ² = 1, w = 1 makes it the large one, and "
           "broader data go beyond: 'between the two' is for data of variance one.",
)


def leap_with(for_x=lambda c: NOTHING, for_eps=lambda c: NOTHING):
    """A typical pair of factors, from the numbers of a jump."""
    def leap(schedule, s, t):
        a, b2 = transition(schedule, s, t)
        last, last_b2 = transition(schedule, t - 1, t)
        _, ct, v = posterior(schedule, s, t)
        betas = 1 - (schedule.alpha[s + 1:t + 1] / schedule.alpha[s:t]) ** 2
        c = dict(a=a, b2=b2, last=last, last_b2=last_b2, ct=ct, v=v, betas=betas.sum(),
                 alpha_s=schedule.alpha[s], sigma_s=schedule.sigma[s],
                 alpha_t=schedule.alpha[t], sigma_t=schedule.sigma[t])
        return for_x(c), for_eps(c)
    return leap


leap = Exercise(
    right=leap_with(lambda c: 1 / c["a"], lambda c: -c["b2"] / (c["a"] * c["sigma_t"])),
    cases={f"{name}, s = {s}, t = {t}": (TABLES[name], s, t) for name, s, t in (
        ("cosine(20)", 9, 10), ("linear(20, 0.01, 0.3)", 4, 12), ("flow(20)", 6, 15),
        ("cosine(20)", 0, 7))},
    parts=("factor of xt", "factor of eps"),
    typical=(
        (leap_with(lambda c: c["a"]), "a leads forwards, and here it goes back: divide."),
        (leap_with(lambda c: 1 / c["last"]), "That is for the step from t to t-1. How much did all "
         "the steps from s to t shrink?"),
        (leap_with(lambda c: 1 / c["alpha_t"]), "That leads to row 0. On row s it is α_s that "
         "stands before x0."),
        (leap_with(lambda c: c["ct"]), "That stands before x_t in the box. But there is an x_t in "
         "the guess of x0 too."),
        (leap_with(lambda c: c["alpha_s"]), "That stands before the guess of x0, if it and the "
         "guess of eps are what you collect. Here x_t is."),
        (leap_with(for_eps=lambda c: c["b2"] / (c["a"] * c["sigma_t"])), "Its sign: there is less "
         "noise on row s, so some is taken away."),
        (leap_with(for_eps=lambda c: -c["b2"] / c["sigma_t"]), "The a divides all of the bracket, "
         "the noise too."),
        (leap_with(for_eps=lambda c: -c["b2"] / (c["a"] * c["sigma_t"] ** 2)), "Below the fraction "
         "line stands σ_t, the root of the variance."),
        (leap_with(for_eps=lambda c: -np.sqrt(c["b2"]) / (c["a"] * c["sigma_t"])), "Above the "
         "fraction line stands b², a variance like β_t, and not its root."),
        (leap_with(for_eps=lambda c: -c["last_b2"] / (c["a"] * c["sigma_t"])), "That is the noise "
         "of the last step only. The jump has to undo what all steps from s to t have added."),
        (leap_with(for_eps=lambda c: -c["betas"] / (c["a"] * c["sigma_t"])), "The βs can't simply "
         "be added: what an early step adds, the later ones shrink."),
        (leap_with(for_eps=lambda c: -(1 - c["a"] ** 2) / (c["a"] * c["sigma_t"])), "You have "
         "1 - a² for b². That is so if α² + σ² = 1, and on no other table."),
        (leap_with(for_eps=lambda c: -c["sigma_t"] / c["a"]), "That takes all noise away, and "
         "leaves α_s times the guess of x0. On row s there is noise left."),
        (leap_with(for_eps=lambda c: c["sigma_s"] - c["sigma_t"] / c["a"]), "That keeps the old "
         "noise at full strength, σ_s, so no fresh noise fits in. (It is DDIM, of chapter 6.) "
         "The posterior keeps less of it: √(σ_s² - v)."),
    ),
    praise="Same line as in the paper, with a for the root and b² for β: a jump is a step of a "
           "shorter chain. For s = 0 it is the guess of x0 itself, section 4.1's one jump.",
)


def cheapest_with(variance=lambda *c: NOTHING, nats=lambda *c: NOTHING):
    """A typical (h2, nats); `nats` is told the right h2 too."""
    def cheapest(c0, v, loss, d):
        return variance(c0, v, loss, d), nats(c0, v, loss, d, v + c0**2 * loss / d)
    return cheapest


cheapest = Exercise(
    right=cheapest_with(lambda c0, v, loss, d: v + c0**2 * loss / d,
                        lambda c0, v, loss, d, h2: d / 2 * np.log(h2 / v)),
    cases={f"c0 = {c0:g}, v = {v:g}, loss = {loss:g}, d = {d}": (c0, v, loss, d)
           for c0, v, loss, d in ((0.3, 0.02, 0.5, 1), (0.05, 0.001, 0.2, 2),
                                  (0.01, 1e-4, 40.0, 3072))},
    parts=("variance", "number of nats"),
    typical=(
        (cheapest_with(lambda c0, v, loss, d: v), "That is best if the guess is never wrong. The "
         "error of the guess pays for being certain: 1/(2h²) stands before it."),
        (cheapest_with(lambda c0, v, loss, d: c0**2 * loss / d), "That is all that the guess "
         "misses. The posterior is a bell of variance v, also about the true x0."),
        (cheapest_with(lambda c0, v, loss, d: v + c0**2 * loss), "The loss is a sum over d "
         "coordinates, and h² is the variance of one."),
        (cheapest_with(lambda c0, v, loss, d: v + c0 * loss / d), "The means differ by c0 times "
         "the error of the guess, their squares by c0²."),
        (cheapest_with(lambda c0, v, loss, d: v + c0**2 * loss / (2 * d)), "One of the halves was "
         "lost: both parts of the KL have a ½, and it cancels."),
        (cheapest_with(lambda c0, v, loss, d: v - c0**2 * loss / d), "A sign was lost in the "
         "derivative. A worse guess needs more variance, not less."),
        (cheapest_with(lambda c0, v, loss, d: np.sqrt(v + c0**2 * loss / d)), "That is the "
         "standard deviation."),
        (cheapest_with(lambda c0, v, loss, d: d * v + c0**2 * loss), "That is the sum over all "
         "coordinates. h² is the variance of one."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: d * np.log(h2 / v)), "Where is the ½? It "
         "makes of the ratio of variances one of standard deviations."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: np.log(h2 / v) / 2), "That is for one "
         "coordinate, and there are d."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: d / 2 * np.log(v / h2)), "A KL is never "
         "negative: the logarithm's fraction stands on its head."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: d / 2 * np.log2(h2 / v)), "Those are bits. "
         "Nats come with the natural logarithm."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: c0**2 * loss / (2 * v)), "That is what the "
         "small variance pays. The best one pays less."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: c0**2 * loss / (2 * h2)), "That is the part "
         "for the means. Two variances that differ cost something too."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: d / 2 * (v / h2 - 1 - np.log(v / h2))),
         "That is the part for the variances. The error of the guess costs something too."),
        (cheapest_with(nats=lambda c0, v, loss, d, h2: d / 2 * (np.log(h2 / v) + 1)), "A 1 is left "
         "over. In v/h² - 1 + c0²·loss/(d·h²) put in the best h²: it is zero."),
    ),
    praise="For the best guess that is section 4.3's variance, on average; a worse guess adds its "
           "own errors. And the step costs d times the logarithm of h/√v: of how much less sure "
           "of x_s the chain is than one who knows x0.",
)
