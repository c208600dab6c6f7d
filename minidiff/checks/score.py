"""Chapter 2's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.mixture import GaussianMixture


def mistake_a(eps_hat, sigma):
    """A score with something wrong in it, to be diagnosed from its pictures."""
    return eps_hat / sigma


def mistake_b(eps_hat, sigma):
    """Another one."""
    return -eps_hat / sigma**2


def step_for(variance, excess):
    """The Langevin step at which a Gaussian's variance comes out `excess` times too large."""
    return 2 * variance * (1 - 1 / excess)


step = Exercise(
    right=step_for(0.1**2, 1.02**2),
    parts=("eta",),
    tolerance=0.05,
    typical=(
        (step_for(0.1**2, 1.02), "Either the 2 in η/(2v) was lost, or you let the variance be "
         "2 % too large. It is the standard deviation's square: it may be 4 % too large."),
        (step_for(0.1, 1.02**2), "v is a variance, and 0.1 is the standard deviation."),
        (step_for(0.1, 1.02), "v is a variance, and 0.1 is the standard deviation. The 2 % belong "
         "to the standard deviation, though."),
        (step_for(0.25**2, 1.02**2), "That is for a standard deviation of 0.25. Here it is 0.1."),
        (0.02 * 0.1, "That is 2 % of 0.1. Solve v/(1 - η/(2v)) = 1.02²·v for η."),
        (0.02 * 0.1**2, "That is 2 % of v. Solve v/(1 - η/(2v)) = 1.02²·v for η."),
        (2 * 0.1**2, "With η = 2v the walk never settles. How far below must η be?"),
    ),
    praise="That is 13 times as short as v. By noise alone it takes about 750 such steps to get as "
           "far as the next Gaussian, and the arrows hold a walker back. This is why annealing is "
           "quick: where the noise is high the mountains are broad, and the steps may be long.",
)


def noised_mean(mean, alpha):
    return alpha * mean


def noised_cov(cov, alpha, sigma):
    return alpha**2 * cov + sigma**2 * np.eye(len(cov))


def pulled(apart, cov):
    return -np.linalg.solve(cov, apart.T).T


def spring_with(centre=noised_mean, spread=noised_cov, pull=pulled):
    """A typical score of a noised Gaussian: one or two of its three ideas are wrong."""
    def spring(x, mean, cov, alpha, sigma):
        return pull(x - centre(mean, alpha), spread(cov, alpha, sigma))
    return spring


def gaussian(n, mean, cov, alpha, sigma):
    """The arguments of `spring`, at n points."""
    x = 2 * np.random.default_rng(n).standard_normal((n, len(mean)))
    return x, np.array(mean), np.array(cov), alpha, sigma


TILTED = [[1.0, 0.8], [0.8, 1.0]]

spring = Exercise(
    right=spring_with(),
    cases={
        "d = 1, alpha = 0.8, sigma = 0.6": gaussian(5, [1.0], [[0.25]], 0.8, 0.6),
        "a tilted cov, alpha = 1, sigma = 0": gaussian(3, [0.0, 0.0], TILTED, 1.0, 0.0),
        "a tilted cov, alpha = 0.8, sigma = 0.6": gaussian(4, [0.5, 2.0], TILTED, 0.8, 0.6),
        "d = 3, alpha = 0.5, sigma = 2": gaussian(
            7, [1.0, 0.0, -1.0], [[2.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 0.5]], 0.5, 2.0)},
    parts=("score",),
    typical=(
        (spring_with(pull=lambda apart, c: np.linalg.solve(c, apart.T).T),
         "The sign is flipped. A spring pulls towards the mean: its arrows run against x - m."),
        (spring_with(pull=lambda apart, c: -apart @ c), "You have multiplied by the covariance. "
         "Divide by it: a broad Gaussian pulls weakly."),
        (spring_with(pull=lambda apart, c: -apart / np.diag(c)), "You divide each coordinate by "
         "its own variance. Where the cov is tilted, moving in one coordinate moves the other."),
        (spring_with(pull=lambda apart, c: -apart @ (1 / c)), "You have inverted the covariance "
         "entry by entry. A matrix's inverse is another thing: np.linalg.inv or solve."),
        (spring_with(centre=lambda m, a: m), "Noising moves the mean too: to α·m."),
        (spring_with(spread=lambda c, a, s: c), "That is the clean covariance. Noising shrinks it, "
         "by α², and adds σ² to every direction."),
        (spring_with(lambda m, a: m, lambda c, a, s: c), "That is the score of the clean data. The "
         "noised data have another mean and another covariance."),
        (spring_with(spread=lambda c, a, s: a * c + s**2 * np.eye(len(c))), "x0 is multiplied by "
         "α. What does that do to its covariance?"),
        (spring_with(spread=lambda c, a, s: a**2 * c + s * np.eye(len(c))), "σ is the noise's "
         "standard deviation. What adds to a covariance is its variance."),
        (spring_with(spread=lambda c, a, s: a * c + s * np.eye(len(c))), "α and σ multiply points. "
         "Covariances are multiplied by their squares."),
        (spring_with(spread=lambda c, a, s: a**2 * c + s**2), "You have added σ² to every entry. "
         "The noise has no covariance between coordinates: only the diagonal grows."),
        (spring_with(spread=lambda c, a, s: a**2 * c), "Where is the noise's covariance, σ²·I?"),
    ),
    praise="Thin directions have the stiffest springs. Noise sets a limit: it makes every "
           "direction at least σ thick, so no spring is stiffer than 1/σ².",
)

valley = Exercise(
    right=lambda m, s, alpha: alpha * np.sqrt(m**2 - s**2),
    cases={f"m = {m:g}, s = {s:g}, alpha = {alpha:g}": (m, s, alpha)
           for m, s, alpha in ((2.5, 0.5, 1.0), (1.0, 0.4, 1.0), (1.0, 0.1, 0.8), (3.0, 1.0, 0.5))},
    parts=("sigma",),
    tolerance=1e-3,
    typical=(
        (lambda m, s, alpha: alpha * m, "So wide a noised heap must be. But it is αs wide before "
         "any noise: σ² is what is missing to α²m²."),
        (lambda m, s, alpha: m, "That is right for two points, which have no width, and α = 1."),
        (lambda m, s, alpha: np.sqrt(m**2 - s**2), "Where is α? It draws the heaps together, so "
         "less noise will do."),
        (lambda m, s, alpha: np.sqrt(alpha**2 * m**2 - s**2), "α shrinks all of the clean data, "
         "the width of a heap too."),
        (lambda m, s, alpha: alpha**2 * (m**2 - s**2), "That is σ², the variance."),
        (lambda m, s, alpha: alpha * (m - s), "Standard deviations can't be subtracted: the width "
         "of a noised heap is the root of α²s² + σ²."),
        (lambda m, s, alpha: alpha * np.sqrt(m**2 + s**2), "A broad heap needs less noise to fill "
         "the valley, not more."),
        (lambda m, s, alpha: alpha * np.sqrt(4 * m**2 - s**2), "The heaps are 2m apart, but what "
         "counts is how far each is from the middle."),
        (lambda m, s, alpha: alpha * np.sqrt(m**2 / 4 - s**2), "You have halved m. The heaps are "
         "2m apart, and m from the middle."),
    ),
    praise="One heap's variance must have grown to the square of its distance from the middle. On "
           "the way back from noise to data this is where a sample decides: above this σ all "
           "arrows lead to the middle, below it to the one heap or the other.",
)

SKEWED = np.random.default_rng(0).gamma(2.0, size=4000) - 1


def line_with(slope=lambda x: NOTHING, offset=lambda x: NOTHING):
    """A candidate's (a, b) from the data."""
    return lambda x: (slope(x), offset(x))


line = Exercise(
    right=line_with(lambda x: -1 / x.var(), lambda x: x.mean() / x.var()),
    cases={"two heaps": (GaussianMixture([0.3, 0.7], [[-1.5], [1.0]], np.full((2, 1, 1), 0.16))
                         .sample(4000, np.random.default_rng(0))[:, 0],),
           "skewed data": (SKEWED,), "skewed data, doubled": (2 * SKEWED,)},
    parts=("a", "b"),
    tolerance=2e-3,
    typical=(
        (line_with(lambda x: -1 / (2 * x.var()), lambda x: x.mean() / (2 * x.var())), "Did you "
         "lose the ½ in ½ s²? With it, the square's derivative has no 2."),
        (line_with(lambda x: 1 / x.var()), "These arrows lead away from the data. The divergence "
         "of a·x + b is +a, and the objective adds it."),
        (line_with(lambda x: -1 / (x**2).mean()), "That is the best slope for b = 0. Minimise over "
         "a and b at once: two derivatives, two equations."),
        (line_with(lambda x: -1 / x.std()), "You have divided by the standard deviation."),
        (line_with(lambda x: -x.var()), "Broad data pull weakly: divide by the variance."),
        (line_with(lambda x: -1 + 0 * x.mean()), "That is the standard Gaussian's slope, "
         "whatever the data are."),
        (line_with(lambda x: x.mean() / x.var()), "Did you swap the two? The slope comes first."),
        (line_with(offset=lambda x: x.mean() / x.std()), "It is -a times the mean, and a has the "
         "variance in it, not its root."),
        (line_with(offset=lambda x: x.mean()), "That is where the line should cross zero, which "
         "is at -b/a."),
        (line_with(offset=lambda x: -x.mean() / x.var()), "Its sign: the line should cross zero "
         "at the data's mean, and it does so at -b/a."),
        (line_with(offset=lambda x: 0 * x.mean()), "With b = 0 the arrows lead to zero. Where is "
         "the middle of the data?"),
    ),
    praise="The best line is -(x - mean)/variance, the score of a Gaussian with the data's mean "
           "and variance. So a model that is too simple still learns something true: and at high "
           "noise, where every cloud looks like a Gaussian, it learns nearly all.",
)


def uncertainty_with(formula):
    """A typical answer, from the score s and its slope ds at the points x."""
    def uncertainty(score, x, alpha, sigma):
        ds = (score(x + 1e-4) - score(x - 1e-4)) / 2e-4
        return formula(score(x), ds, alpha, sigma)
    return uncertainty


def noised_score(mixture, alpha, sigma):
    return lambda x: mixture.score(x, alpha, sigma)


HEAPS = GaussianMixture([0.3, 0.7], [[-1.5], [1.0]], [[[0.16]], [[0.16]]])
WIDE = GaussianMixture([1.0], [[0.5]], [[[4.0]]])

uncertainty = Exercise(
    right=uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 + sd**2 * ds)),
    cases={f"{name}, alpha = {alpha:g}, sigma = {sigma:g}": (
               noised_score(mixture, alpha, sigma), np.linspace(-2, 2, 9)[:, None], alpha, sigma)
           for name, mixture, alpha, sigma in (
               ("one Gaussian", WIDE, 1.0, 1.0), ("one Gaussian", WIDE, 0.6, 0.8),
               ("two heaps", HEAPS, 1.0, 0.5), ("two heaps", HEAPS, 0.8, 0.6),
               ("two heaps", HEAPS, 0.3, 1.5))},
    parts=("variance",),
    tolerance=2e-3,
    typical=(
        (uncertainty_with(lambda s, ds, a, sd: (1 + sd**2 * ds) / a), "That is the slope of the "
         "denoiser, one side of the equation. The other side is α·Var[x0 | x]/σ²."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 * (1 + sd**2 * ds)), "Where is α? It divides "
         "twice: once in Tweedie's formula, once when you solve for the variance."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a * (1 + sd**2 * ds)), "α divides twice: "
         "once in Tweedie's formula, once when you solve for the variance."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 - sd**2 * ds)), "The slope's "
         "sign: on a peak it is negative, and there the denoiser is surer than elsewhere."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 + ds)), "In Tweedie's formula a "
         "σ² stands before the score. It stays there when you take the slope."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 + sd * ds)), "What stands before "
         "the score in Tweedie's formula is σ², not σ."),
        (uncertainty_with(lambda s, ds, a, sd: sd / a * (1 + sd**2 * ds)), "σ² stands before the "
         "bracket: you have its root."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 + 0 * s), "So unsure would you be if "
         "you knew nothing about the data: x/α, plus or minus σ/α. The score's slope knows more."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 + 2 * sd**2 * ds)), "Your slope "
         "is twice too steep: from x - h to x + h it is 2h."),
        (uncertainty_with(lambda s, ds, a, sd: sd**4 / a**2 * ds), "The x in Tweedie's formula has "
         "a slope too: one."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 + sd**2 * s)), "You have put in "
         "the score itself. Its slope is wanted."),
        (uncertainty_with(lambda s, ds, a, sd: sd**2 / a**2 * (1 - sd**2 * s**2)), "Averaged over "
         "all x it would be right, for E[s²] = -E[s'] (integrate by parts). At one x it isn't: "
         "take the slope."),
    ),
    praise="The slope of the score says how sure the denoiser is: surest on the peaks, where the "
           "score falls, and least sure in the valleys, where it rises. Its average over x is "
           "the least loss in guessing x0, the right-hand picture of section 2.6.",
)
