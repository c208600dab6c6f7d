"""Chapter 8's exercises: the right answers, and the ones that are usually wrong."""

from itertools import product
from types import SimpleNamespace

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.data import eight_gaussians
from minidiff.denoise import clipped, denoiser, guided
from minidiff.mixture import GaussianMixture
from minidiff.sampler import dpmpp_2m, last
from minidiff.schedule import cosine, flow, linear


def mistake_a(network, labels, w, x, T=15):
    """Chapter 8's `draw` with one thing wrong."""
    table = cosine(T)
    told = denoiser(lambda x, c: network(x, c, labels), table, "v")
    untold = denoiser(lambda x, c: network(x, c, 0 * labels), table, "v")
    return last(dpmpp_2m(clipped(guided(told, untold, w), table), table, x))


def mistake_b(network, labels, w, x, T=15):
    """Chapter 8's `draw` with another thing wrong."""
    table, levels = cosine(T), cosine().log_snr[:T + 1]
    told = denoiser(lambda x, c: network(x, c, labels), table, "v", condition=levels)
    untold = denoiser(network, table, "v", condition=levels)
    return last(dpmpp_2m(clipped(guided(told, untold, w), table), table, x))


def noises(seed, K, *shape):
    return np.random.default_rng(seed).standard_normal((K, *shape))


def mixed(noises, weights):
    """The weighted sum."""
    return np.tensordot(weights, noises, axes=1)


def length(w):
    return np.sqrt((w**2).sum())


def spread(x):
    return np.sqrt((x**2).mean())


blend = Exercise(
    right=lambda noises, weights: mixed(noises, weights) / length(weights),
    cases={"two noises, half and half": (noises(0, 2, 4, 4), np.array([0.5, 0.5])),
           "two noises, weights 0.9 and 0.1": (noises(1, 2, 4, 4), np.array([0.9, 0.1])),
           "three noises, weights 1, 2 and 0.5": (noises(2, 3, 5), np.array([1, 2, 0.5]))},
    parts=("noise",),
    typical=(
        (mixed, "That is the sum as it stands. Noises that don't know each other add up in their "
         "variances. Which variance has it, and which should it have?"),
        (lambda noises, weights: mixed(noises, weights) / weights.sum(), "That is a mean, and has "
         "too little variance: half and half, it is one half. It isn't the weights that have to "
         "sum to one."),
        (lambda noises, weights: mixed(noises, weights) / length(weights) ** 2, "You have divided "
         "by the variance. Numbers scale like the standard deviation."),
        (lambda noises, weights: mixed(noises, weights) * length(weights), "The size is the wrong "
         "way round: a sum that is too small has to grow."),
        (lambda noises, weights: mixed(noises, np.sqrt(weights / weights.sum())), "That is noise "
         "of variance one, but not a multiple of the weighted sum: the small weights have got "
         "more than their share."),
        (lambda noises, weights: mixed(noises, weights) / np.sqrt(len(weights)), "That is right "
         "if all the weights are one. Which variance has w times a noise?"),
        (lambda noises, weights: mixed(noises, weights) / spread(mixed(noises, weights)), "So "
         "every draw lies exactly on the sphere. True noise lies about it: only on average over "
         "all draws its variance is one. The weights alone tell by what to divide."),
        (lambda noises, weights: mixed(noises, weights) / length(mixed(noises, weights)), "That "
         "has length one. Noise of n numbers has a length of about the square root of n."),
    ),
    praise="All coordinates are normal, and of variance one: for the sampler it is noise like any "
           "other. Two noises with cos and sin as their weights go along the shell of section "
           "8.2.",
)


def seen(kernels, strides, extra=lambda k: k - 1, early=False, first=1):
    """The width that one number of the last layer sees; the options are mistakes."""
    width, gap = first, 1
    for k, s in zip(kernels, strides):
        width += extra(k) * (gap * s if early else gap)
        gap *= s
    return width


sees = Exercise(
    right=lambda kernels, strides: seen(kernels, strides),
    cases={"one layer": ((3,), (1,)), "three layers": ((3, 3, 3), (1, 1, 1)),
           "strides 1, 2, 1": ((3, 3, 3), (1, 2, 1)),
           "kernels 5, 4, 1, 3 and strides 1, 2, 2, 2": ((5, 4, 1, 3), (1, 2, 2, 2))},
    parts=("width",),
    typical=(
        (lambda kernels, strides: 1 + sum(kernels) - len(kernels), "That is right with strides of "
         "1. Behind a stride of 2, neighbours of a layer are two pixels apart in the picture."),
        (lambda kernels, strides: seen(kernels, strides, early=True), "A layer's own stride says "
         "how far apart its results are. What it looks at has the gaps of the layers before."),
        (lambda kernels, strides: seen(kernels, strides, extra=lambda k: k), "A kernel of 3 sees "
         "one pixel more on either side. It adds two to the width and not three."),
        (lambda kernels, strides: int(np.prod(kernels)), "Next to each other they see nearly the "
         "same, so the widths don't multiply."),
        (lambda kernels, strides: seen(kernels, strides, first=0), "What would a layer with a "
         "kernel of 1 see? Not nothing."),
        (lambda kernels, strides: seen(kernels[::-1], strides[::-1]), "You come from the other "
         "end. A layer's gap is made by the strides before it, on the side of the picture."),
        (lambda kernels, strides: (seen(kernels, strides) - 1) // 2, "That is how far it sees to "
         "one side."),
    ),
    praise="Every halving doubles what all later layers add. That is what the way down in a U-Net "
           "is for.",
)


def translate_with(half_life=lambda d, B, C: NOTHING, new=lambda d, B, C: NOTHING):
    return lambda decay, size, other: (half_life(decay, size, other), new(decay, size, other))


def halving(d, B):
    return B * np.log(0.5) / np.log(d)


translate = Exercise(
    right=translate_with(lambda d, B, C: halving(d, B), lambda d, B, C: d ** (C / B)),
    cases={f"decay {d:g}, batches of {B} and then of {C}": (d, B, C) for d, B, C in (
        (0.9999, 128, 512), (0.99, 32, 256), (0.9, 64, 16))},
    parts=("number of images", "new decay's number of images"),
    measure=lambda half_life, new, decay, size, other: (half_life, halving(new, other)),
    tolerance=1e-3,  # for those who compute in float32, where 0.9999 is a coarse number
    typical=(
        (translate_with(lambda d, B, C: halving(d, 1)), "That is counted in steps. How many images "
         "come in a step?"),
        (translate_with(lambda d, B, C: B / (1 - d)), "That many images are about how far an "
         "average looks back, but not its half-life: there the weight is down to 1/e."),
        (translate_with(lambda d, B, C: -B / np.log(d)), "There the weight is down to 1/e. It is "
         "asked where it is down to one half."),
        (translate_with(lambda d, B, C: halving(d, C)), "The decay belongs to the first batch "
         "size, not to the new one."),
        (translate_with(new=lambda d, B, C: d), "That is the old decay. So the half-life in images "
         "changes along with the batch."),
        (translate_with(new=lambda d, B, C: d ** (B / C)), "The fraction stands on its head: a "
         "step of more images forgets more."),
        (translate_with(new=lambda d, B, C: 1 - (1 - d) * C / B), "1 - d grows with the batch only "
         "nearly. Exact is: one step of four times the images does what four steps did."),
        (translate_with(new=lambda d, B, C: d * B / C), "A decay isn't in proportion to anything: "
         "steps one after the other multiply."),
        (translate_with(new=lambda d, B, C: np.exp(-C / halving(d, B))), "You have made a power of "
         "e of it. After a half-life the weight is a half."),
        (translate_with(new=lambda d, B, C: 0.5 ** (1 / halving(d, B))), "That is the decay for "
         "one image. How many come in a step?"),
    ),
    praise="State the half-life in images, and the batch size may change as it likes: that is how "
           "nn.EMA is told.",
)


EIGHT = eight_gaussians()
ONE = GaussianMixture([1.0], EIGHT.means[1:2], EIGHT.covs[1:2])
BROAD = GaussianMixture([1.0], [[0.3, -0.8]], [[[0.2, 0.1], [0.1, 0.3]]])


def step_with(x0, eps=lambda c: c.of(c.x0), last=lambda c: c.to(c.x0, c.eps)):
    """A typical step, from what becomes of the two guesses of x0, and then eps."""
    def step(told, untold, schedule, w, x, s, t):
        alpha, sigma = schedule.at(t, x)
        below, low = schedule.at(s, x)
        c = SimpleNamespace(w=w, told=told(x, t), untold=untold(x, t), x=x, row_s=(below, low),
                            of=lambda x0: (x - alpha * x0) / sigma,
                            to=lambda x0, eps: below * x0 + low * eps)
        c.x0 = x0(c)
        c.eps = eps(c)
        return last(c)
    return step


def cut(x0):
    return x0.clip(-1, 1)


def beyond(c, i=0, change=lambda x0: x0, base=None):
    """Guidance, in x0 (i = 0) or eps; `change` and `base` are mistakes."""
    told, untold = change(c.told[i]), change(c.untold[i])
    return (untold if base is None else change(getattr(c, base)[i])) + c.w * (told - untold)


def combinations():
    """The three mistakes of the exercise and their like, in all combinations."""
    bases = {None: "", "told": "At w = 1 the step should be the told one's, and isn't."}
    clips = {(False, True): "",
             (True, False): "Both guesses are in [-1, 1], and guidance goes out again.",
             (True, True): "One clip too many: before guidance, it takes away from the "
                           "difference of the two guesses.",
             (False, False): "Nothing holds the guided x0 in [-1, 1]."}
    noise = {False: "", True: "This x0 and your eps don't make x."}
    for base, (before, after), kept in product(bases, clips, noise):
        words = " ".join(filter(None, (bases[base], clips[before, after], noise[kept])))
        if not words or kept and not (before or after):  # right; or eps, unclipped, is as it was
            continue

        def x0(c, base=base, before=before, after=after):
            value = beyond(c, base=base, change=cut if before else np.array)
            return cut(value) if after else value

        yield step_with(x0, *[lambda c, base=base: beyond(c, 1, base=base)] * kept), words


def clipped_one(c):
    return cut(beyond(c))


guided_step = Exercise(
    right=step_with(clipped_one),
    cases={f"{name}, w = {w:g}, from row {t} to {s}": (
               told.denoiser(table), untold.denoiser(table), table, w, points, s, t)
           for name, table, told, untold, w, points, s, t in (
               ("cosine(20)", cosine(20), ONE, EIGHT, 3.0, noises(3, 5, 2), 12, 14),
               ("linear(20, 0.01, 0.3)", linear(20, 0.01, 0.3), BROAD, EIGHT, 2.0,
                noises(4, 5, 2), 6, 9),
               ("flow(20)", flow(20), BROAD, ONE, 1.0, noises(5, 5, 2), 10, 12))},
    parts=("x on row s",),
    typical=(
        *combinations(),
        (step_with(lambda c: cut(c.told[0] + c.w * (c.untold[0] - c.told[0]))), "The two have "
         "changed places: this goes from told to untold, away from the label."),
        (step_with(lambda c: cut(c.told[0])), "That is the told step. Where does w come in?"),
        (step_with(clipped_one, lambda c: c.told[1]), "The eps is the told one's. It has to make x "
         "together with the guided, clipped x0."),
        (step_with(clipped_one, lambda c: (c.x - c.row_s[0] * c.x0) / c.row_s[1]), "x lies on "
         "row t: eps is to be found with that row's alpha and sigma."),
        (step_with(beyond, last=lambda c: cut(c.to(c.x0, c.eps))), "You have clipped x itself, "
         "which still has its noise. It is the guess of x0 that lies in [-1, 1]."),
        (step_with(clipped_one, last=lambda c: c.x0), "That is the guess of x0. On row s stand "
         "α_s·x0 and σ_s·eps."),
    ),
    praise="This is guided and then clipped, in that order, as the package's functions are put "
           "together: clipped(guided(told, untold, w), schedule).",
)


def pieces(seed, loud, n=4, d=3):
    """Two pieces' outputs and logs of their sums, (n, d) and (n,) each, for loud scores."""
    rng = np.random.default_rng(seed)
    (a, b), (la, lb) = rng.standard_normal((2, n, d)), loud + rng.uniform(-1.5, 1.5, (2, n))
    return a, la, b, lb


def merge_with(out=lambda c: np.nan * c.a, log=lambda c: np.nan * c.la):
    def merge(a, la, b, lb):
        m = np.maximum(la, lb)
        c = SimpleNamespace(a=a, la=la, b=b, lb=lb, m=m, wa=np.exp(la - m), wb=np.exp(lb - m))
        return out(c), log(c)
    return merge


def column(x):
    return x[:, None]


merge = Exercise(
    right=merge_with(lambda c: (column(c.wa) * c.a + column(c.wb) * c.b) / column(c.wa + c.wb),
                     lambda c: c.m + np.log(c.wa + c.wb)),
    cases={"scores of ordinary size": pieces(6, 0), "scores near 2,000": pieces(7, 2000),
           "scores near -2,000": pieces(8, -2000)},
    parts=("output", "log of the sum"),
    measure=lambda out, log, a, la, b, lb: (out, log - np.maximum(la, lb)),
    tolerance=1e-3,  # float32 again: a log of 2,000 has few digits left behind the point
    typical=(
        (merge_with(lambda c: (c.a + c.b) / 2), "That is the mean. A piece that a pixel hardly "
         "listens to counts as much as the other."),
        (merge_with(lambda c: c.a + c.b), "Each piece's weights sum to one already, so in your sum "
         "they sum to two."),
        (merge_with(lambda c: (column(c.la) * c.a + column(c.lb) * c.b) / column(c.la + c.lb)),
         "The logarithms aren't the weights. What are they the logarithms of?"),
        (merge_with(lambda c: (column(c.wb) * c.a + column(c.wa) * c.b) / column(c.wa + c.wb)),
         "The weights have changed places."),
        (merge_with(lambda c: column(c.wa) * c.a + column(c.wb) * c.b), "Divide by the sum of the "
         "weights: they have to share one."),
        (merge_with(log=lambda c: c.la + c.lb), "A sum of logarithms is the logarithm of the "
         "product."),
        (merge_with(log=lambda c: c.m), "That is the larger one: the other piece is missing."),
        (merge_with(log=lambda c: np.log(c.wa + c.wb)), "What you have subtracted inside the "
         "exponentials has to be added again."),
        (merge_with(log=lambda c: c.m + np.log((c.wa + c.wb) / 2)), "The sum is over the keys of "
         "both pieces. Don't halve it."),
    ),
    praise="Merge as many pieces as you like, in any order: the matrix of all scores is never "
           "there. Attention on a GPU is computed so.",
)
