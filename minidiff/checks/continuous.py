"""Chapter 5's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.data import eight_gaussians
from minidiff.mixture import GaussianMixture


def sub_vp_with(drift=lambda beta, e: NOTHING, noise=lambda beta, e: NOTHING):
    """A typical (f, g2), from beta and e = exp(-B)."""
    def sub_vp(beta, B):
        return drift(beta, np.exp(-B)), noise(beta, np.exp(-B))
    return sub_vp


sub_vp = Exercise(
    right=sub_vp_with(lambda beta, e: -beta / 2, lambda beta, e: beta * (1 - e**2)),
    cases={f"beta = {beta:g}, B = {B:g}": (beta, B)
           for beta, B in ((0.5, 0.02), (2.0, 0.3), (7.0, 1.2), (19.0, 4.0))},
    parts=("drift", "noise g²"),
    typical=(
        (sub_vp_with(lambda beta, e: -beta), "ln α is -B/2, and B' = β. A half was lost."),
        (sub_vp_with(lambda beta, e: beta / 2), "Its sign: the signal shrinks, so the drift leads "
         "inwards."),
        (sub_vp_with(lambda beta, e: -beta / 2 * np.sqrt(e)), "That is α'. The drift is α'/α: how "
         "fast the signal shrinks, measured in the signal."),
        (sub_vp_with(lambda beta, e: np.log(e) / 2), "That is ln α itself. The drift is its "
         "derivative by τ."),
        (sub_vp_with(lambda beta, e: -0.5), "The inner derivative is missing: B' = β."),
        (sub_vp_with(noise=lambda beta, e: beta), "That is VP's noise. 1 - exp(-B) would be the "
         "variance there; here it is σ, the standard deviation."),
        (sub_vp_with(noise=lambda beta, e: 2 * beta * e * (1 - e)), "That is (σ²)', how fast the "
         "spread grows. The drift shrinks the old noise too; what it takes must be added as well."),
        (sub_vp_with(noise=lambda beta, e: 2 * beta * e * (1 - e) - beta * (1 - e) ** 2), "A sign: "
         "f is negative, so -2fσ² is positive. The drift takes noise away, more must be added."),
        (sub_vp_with(noise=lambda beta, e: 2 * beta * e * (1 - e) + beta * (1 - e) ** 2 / 2),
         "The drift multiplies x by 1 + f·dτ, and so the variance by 1 + 2f·dτ. You have one f."),
        (sub_vp_with(noise=lambda beta, e: 2 * beta * e * (1 - e) + beta * (1 - e)), "After the "
         "drift's 2f stands σ² = (1 - exp(-B))², and not σ."),
        (sub_vp_with(noise=lambda beta, e: beta * (1 - e)), "Is it (σ²)' = 2·σ·σ'? A 2 was lost "
         "there."),
        (sub_vp_with(noise=lambda beta, e: 2 * e * (1 - e) + beta * (1 - e) ** 2), "In (σ²)' the "
         "inner derivative is missing: B' = β."),
        (sub_vp_with(noise=lambda beta, e: beta * (1 - e) ** 2), "That makes up for what the drift "
         "takes, and no more. So the spread would stay as it is, and it has to grow: add (σ²)'."),
        (sub_vp_with(noise=lambda beta, e: 2 * beta * (1 - e)), "So it would be with the drift -β. "
         "The drift is half of that."),
        (sub_vp_with(noise=lambda beta, e: np.sqrt(beta * (1 - e**2))), "That is g. What adds is "
         "its square, and g² is asked for."),
    ),
    praise="The drift is VP's: it knows only α. The noise sets in more gently, as 2·β·B instead of "
           "β. So there is always a little less noise than in VP, which gave the table its name.",
)


EIGHT, BELL = eight_gaussians(), GaussianMixture([1.0], [[0.2, -0.1]], [[[0.5, 0.2], [0.2, 0.3]]])


def velocity_of(cloud):
    """What a perfect flow-matching network says of this cloud."""
    def velocity(x, t):
        x0 = cloud.posterior_mean(x, 1 - t, t)
        return (x - (1 - t) * x0) / t - x0
    return velocity


def score_of_with(formula):
    """A typical answer, from the velocity, the point and its row, and both in the flow's terms."""
    def score_of(velocity, x, alpha, sigma):
        scale = alpha + sigma
        return formula(velocity, x, x / scale, sigma / scale, alpha, sigma)
    return score_of


def heard(velocity, y, t, x=None):
    """The guess of eps in the flow's language; x, if given, stands where y belongs."""
    return (y if x is None else x) + (1 - t) * velocity(y, t)


score_of = Exercise(
    right=score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t) / sigma),
    cases={f"alpha = {alpha:g}, sigma = {sigma:g} ({name})":
           (velocity_of(cloud), np.random.default_rng(seed).standard_normal((4, 2)), alpha, sigma)
           for seed, (name, cloud, alpha, sigma) in enumerate((
               ("eight Gaussians", EIGHT, 0.8, 0.6), ("one Gaussian", BELL, 0.28, 0.96),
               ("one Gaussian", BELL, 1.0, 2.0), ("eight Gaussians", EIGHT, 0.3, 0.7)))},
    parts=("score",),
    typical=(
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, x, sigma) / sigma), "The network "
         "was asked at x and σ. It knows only rows (1 - t, t): at which t, and at which multiple "
         "of x, does it see the same signal-to-noise ratio?"),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(x + alpha * v(x, sigma)) / sigma), "That "
         "is right where α + σ = 1, on the network's own table. Which of its rows has the "
         "signal-to-noise ratio of yours, and which multiple of x does it expect there?"),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, x, t) / sigma), "The time is "
         "right. But at that time the network's x is smaller or larger than yours: its factors "
         "before x0 and eps add up to one."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, sigma) / sigma), "The scale "
         "of x is right. But t isn't σ: it is what σ has become at that scale."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, sigma / alpha) / sigma),
         "σ/α is the noise on Karras's table. The flow's is t/(1 - t) there: solve for t."),
        (score_of_with(lambda v, x, y, t, alpha, sigma:
                       -heard(v, y, sigma**2 / (alpha**2 + sigma**2)) / sigma), "The flow's α and "
         "σ add up to one, and not their squares."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, 1 - t) / sigma), "The clock "
         "runs the wrong way: t = 0 is data here, and t = 1 noise."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t, x) / sigma), "You have "
         "asked at the right place, and then added the velocity to the other x, of the other "
         "scale."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(y - (1 - t) * v(y, t)) / sigma), "The "
         "velocity is eps - x0: to get from x to eps, add."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: heard(v, y, t) / sigma), "Its sign: the "
         "score points to the data, away from the noise."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(y - t * v(y, t)) / sigma), "x - t·u is "
         "the guess of x0. The score needs that of eps."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(y + alpha * v(y, t)) / sigma), "At the "
         "flow's scale it is 1 - t that stands before u, and not your row's α."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(y + t * v(y, t)) / sigma), "From "
         "(1 - t, t) to pure noise the way that is left is 1 - t, and not t."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -(y + v(y, t)) / sigma), "That goes the "
         "whole way from data to noise. But x has gone a part of it already: 1 - t is left."),
        (score_of_with(lambda v, x, y, t, alpha, sigma:
                       -(y - alpha * (y - t * v(y, t))) / sigma**2),
         "The guess of x0 is right. But what is left beside α·x0 is left of your x, and not of the "
         "flow's."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t) / t), "That is the score "
         "at the flow's scale. On your row the cloud is wider by α + σ, and so the slopes of its "
         "log-density are smaller by that factor."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t) / t * (alpha + sigma)),
         "The flow's score was multiplied by the scale. Where a cloud is wider its log-density is "
         "flatter: divide."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t)), "That is -eps. The score "
         "is -eps/σ."),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -heard(v, y, t) / sigma**2), "Below the "
         "fraction line stands σ. (It is the noise, σ·eps, over which one writes σ².)"),
        (score_of_with(lambda v, x, y, t, alpha, sigma: -v(y, t) / sigma), "You have taken the "
         "velocity for eps. It is eps - x0."),
    ),
    praise="A level, a scale and a pair: whatever a network was trained on, these three words "
           "translate it. Mind that (x0, eps) need no scale, and the score does.",
)


def drifts_with(forth=lambda eta: NOTHING, back=lambda eta: NOTHING, root=1):
    """A typical pair of drifts, f·x and so many g² (or so many of its root) times the score."""
    def drifts(f, g2, eta, x, score):
        return tuple(f * x + many(eta) * g2 ** (1 / root) * score for many in (forth, back))
    return drifts


def pulled(forth=None, back=None):
    """A typical pair in which it isn't the score's factor that is wrong."""
    def drifts(f, g2, eta, x, score):
        halves = -(1 - eta**2) / 2 * g2 * score, -(1 + eta**2) / 2 * g2 * score
        return tuple(NOTHING * x if change is None else change(f * x, half)
                     for change, half in zip((forth, back), halves))
    return drifts


def walk(seed, f, g2, eta):
    """The arguments of a case."""
    return f, g2, eta, *np.random.default_rng(seed).standard_normal((2, 3, 2))


drifts = Exercise(
    right=drifts_with(lambda eta: -(1 - eta**2) / 2, lambda eta: -(1 + eta**2) / 2),
    cases={f"f = {f:g}, g2 = {g2:g}, eta = {eta:g}": walk(seed, f, g2, eta)
           for seed, (f, g2, eta) in enumerate(((-0.7, 1.3, 0.5), (-2.5, 5.0, 2.0), (0.0, 3.0, 0.8),
                                                (-1.0, 2.0, 0.0)))},
    parts=("drift forwards", "drift backwards"),
    typical=(
        (drifts_with(lambda eta: 0), "That is the noising's own drift, and it goes with η = 1. "
         "With less noise something else must spread the cloud, and with more something hold it."),
        (drifts_with(lambda eta: -0.5), "That is the ODE's, for η = 0. Noise of the variance η²·g² "
         "spreads the cloud too: so much less is left for the drift to do."),
        (drifts_with(lambda eta: -(1 + eta**2) / 2), "That belongs to the way back. On the way up "
         "the noise helps with the spreading, so the drift has less to do, and not more."),
        (drifts_with(lambda eta: (1 - eta**2) / 2), "The sign before the score: with little noise "
         "the drift has to drive points apart, away from where they are dense."),
        (drifts_with(lambda eta: -(1 - eta) / 2, lambda eta: -(1 + eta) / 2), "In the "
         "Fokker-Planck equation it is the variance of the noise that counts, that is η²·g²."),
        (drifts_with(lambda eta: -((1 - eta) ** 2) / 2, lambda eta: -((1 + eta) ** 2) / 2), "Only "
         "η is squared. Variances are added and taken away, not standard deviations."),
        (drifts_with(lambda eta: -(1 - eta**2), lambda eta: -(1 + eta**2)), "Where is the ½ that "
         "stands before g² in the Fokker-Planck equation?"),
        (drifts_with(lambda eta: -(1 - eta**2) / 2, lambda eta: -(1 + eta**2) / 2, root=2),
         "Before the score stands g², the variance that is added in a unit of time, not its root."),
        (drifts_with(lambda eta: eta**2 / 2), "That makes up for the noise which you add. The "
         "spreading of the noising itself, ½·g², has still to be done by somebody."),
        (drifts_with(lambda eta: -(eta**2) / 2), "Turn it round: with η = 1 no score is needed, "
         "with η = 0 all of the ODE's ½."),
        (pulled(lambda pull, half: half, lambda pull, half: half), "The pull f·x is missing. It "
         "stays as it is, whatever the noise."),
        (pulled(forth=lambda pull, half: -pull + half), "The pull f·x has changed its sign. This "
         "is the way up."),
        (drifts_with(back=lambda eta: -1), "That is right for η = 1. The half that undoes the "
         "noising stays. The other half is for the noise that you add, and that is now η²·g²."),
        (drifts_with(back=lambda eta: -0.5), "That is the ODE's, for η = 0. Who adds noise on the "
         "way down needs a second helping of the score, to undo that."),
        (drifts_with(back=lambda eta: -(1 - eta**2) / 2), "That belongs to the way up. With it the "
         "noise that you add on the way down would stay."),
        (drifts_with(back=lambda eta: (1 + eta**2) / 2), "The sign before the score: on the way "
         "down it has to lead to the data. And dτ is negative there."),
        (drifts_with(back=lambda eta: -(eta**2)), "You have put η·g for g everywhere. But the "
         "noise of the way up was g, and half a score undoes that, whatever η is."),
        (drifts_with(back=lambda eta: -(eta**2) / 2), "That undoes the noise which you add. And "
         "the noise of the way up?"),
        (pulled(back=lambda pull, half: -pull - half), "That is the drift by r = 1 - τ, right for "
         "that clock. Here it stands before dτ, which is negative."),
        (pulled(back=lambda pull, half: -pull + half), "One part was turned round and the other "
         "not. Before dτ, which is negative on the way down, the pull stays f·x."),
    ),
    praise="Both are the ODE's drift and a push that balances the added noise. Forwards with η = 1 "
           "the two scores cancel: that is why noising, of all walks, needs to know nothing.",
)


def calmest_with(shares=lambda mean, square: NOTHING, variance=lambda mean, square: NOTHING):
    """A typical (q, variance), from what the exercise gives."""
    def calmest(mean, square):
        q = shares(mean, square)
        return q + 0 * mean, variance(mean, square)
    return calmest


def one(shares):
    return shares / shares.sum()


def left(mean, square, q):
    """The variance of one draw, if step t is drawn with probability q[t]."""
    return (square / q).sum() - mean.sum() ** 2


def costs(seed, n):
    """Mean and mean square of n steps' costs, some of which vary more than others."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(0.05, 1, n)
    return mean, mean**2 * rng.uniform(1.05, 4, n)


calmest = Exercise(
    right=calmest_with(lambda mean, square: one(np.sqrt(square)),
                       lambda mean, square: np.sqrt(square).sum() ** 2 - mean.sum() ** 2),
    cases={f"{n} steps": costs(n, n) for n in (2, 5, 12)},
    parts=("share", "variance"),
    typical=(
        (calmest_with(lambda mean, square: one(mean)), "That would be best if a step's cost were "
         "the same for every draw. A step whose costs vary should be asked more often than that."),
        (calmest_with(lambda mean, square: one(square)), "Steps that are asked that often get "
         "factors too small, and the rare ones too large. Look at the condition: square/q² is the "
         "same for all."),
        (calmest_with(lambda mean, square: 1 / len(mean)), "That is what one does who knows "
         "nothing of the costs."),
        (calmest_with(lambda mean, square: np.sqrt(square)), "Probabilities add up to one. That is "
         "the condition under which q is to be found."),
        (calmest_with(lambda mean, square: np.sqrt(one(square))), "That is divided by the root of "
         "a sum. For the shares to add up to one, divide by the sum of the roots."),
        (calmest_with(lambda mean, square: one(np.sqrt(square - mean**2))), "That is how far the "
         "costs spread within a step. But a step of fixed cost has to be asked too, or it is "
         "missing in the sum: it is the mean square that counts, about zero."),
        (calmest_with(lambda mean, square: one(square - mean**2)), "That is each step's variance. "
         "Begin with the mean of (cost/q)², and the mean square comes in, with a root at the end."),
        (calmest_with(lambda mean, square: one(1 / np.sqrt(square))), "The fraction stands on its "
         "head: where much is at stake one should ask often."),
        (calmest_with(lambda mean, square: one(square**0.25)), "One root too many: `square` "
         "is the mean square already."),
        (calmest_with(lambda mean, square: one(square / mean)), "q would be right if "
         "square/(q·mean) had to be the same for all. It is square/q²."),
        (calmest_with(variance=lambda mean, square: np.sqrt(square).sum() ** 2), "That is the mean "
         "square of a draw. Its variance is less by the square of its mean, the bound."),
        (calmest_with(variance=lambda mean, square: np.sqrt(square).sum() ** 2 - (mean**2).sum()),
         "The mean of a draw is the whole bound: first add, then square."),
        (calmest_with(variance=lambda mean, square: square.sum() - mean.sum() ** 2), "Each of "
         "these is drawn with probability q, and counts 1/q² times as much: together 1/q."),
        (calmest_with(variance=lambda mean, square: (square - mean**2).sum()), "So would be the "
         "variance of a sum for which every step is asked. You ask one, by lot, and the lot "
         "varies too."),
        (calmest_with(variance=lambda mean, square: left(mean, square, 1 / len(mean))), "That is "
         "what even lots leave (and, by the way, lots in proportion to the mean square)."),
        (calmest_with(variance=lambda mean, square: left(mean, square, one(mean))), "That is what "
         "lots in proportion to the mean leave. It can be made smaller."),
        (calmest_with(variance=lambda mean, square: np.sqrt(
            np.sqrt(square).sum() ** 2 - mean.sum() ** 2)), "That is the standard deviation."),
        (calmest_with(variance=lambda mean, square: (np.sqrt(square).sum() - mean.sum()) ** 2),
         "First square, then take the difference: E[X²] - (E X)²."),
        (calmest_with(variance=lambda mean, square: np.sqrt(square - mean**2).sum() ** 2), "That "
         "leaves out the lots themselves: even if no step's cost varied, steps differ."),
    ),
    praise="Nichol and Dhariwal (2021, eq. 18) draw their rows like this, and keep the last ten "
           "costs of each row to know the mean square. If no step's cost varied, the draw "
           "wouldn't vary at all.",
)
