"""Chapter 7's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import Exercise


def mistake_a(adam, loss):
    """Chapter 7's `step` with one thing wrong."""
    loss.backward()
    adam.step()


def mistake_b(y_hat, y):
    """Chapter 7's `error` with one thing wrong."""
    return ((y_hat - y.flatten()) ** 2).mean()


def shares(seed, n, K):
    """Softmax of random numbers, (n, K), and slopes by it."""
    a, d = np.random.default_rng(seed).standard_normal((2, n, K))
    p = np.exp(a)
    return p / p.sum(axis=1, keepdims=True), d


def along(p, d):
    return (p * d).sum(axis=1, keepdims=True)


softmax = Exercise(
    right=lambda p, d: p * (d - along(p, d)),
    cases={"2 points, 3 classes": shares(0, 2, 3), "5 points, 4 classes": shares(1, 5, 4)},
    parts=("slope",),
    typical=(
        (lambda p, d: p * d, "So it would be without the division by the sum. Every a is in the "
         "denominator of every p: a second term is missing."),
        (lambda p, d: p * (1 - p) * d, "That is how p_k moves with its own a_k. Raising a_k also "
         "lowers all the other p, and they have slopes, too."),
        (lambda p, d: p * (d - d.sum(axis=1, keepdims=True)), "In the sum every slope counts with "
         "its own p."),
        (lambda p, d: p * (d - d.mean(axis=1, keepdims=True)), "It is a mean that is subtracted, "
         "but the mean with the weights p."),
        (lambda p, d: d - along(p, d), "The factor p in front is missing: dp_k/da_k has it in both "
         "terms."),
        (lambda p, d: p * (along(p, d) - d), "The size is right and the sign is flipped: if only "
         "p_k has a slope, raising a_k raises the loss."),
        (lambda p, d: p * (d - (p * d).sum(axis=0)), "You have summed over the points. A point's p "
         "know nothing of the other points; sum over the classes."),
        (lambda p, d: p * (d - (p * d).sum()), "You have summed over points and classes. Each "
         "point has a sum of its own."),
        (lambda p, d: p * (d + along(p, d)), "The other p fall when one a rises: the second term "
         "is subtracted."),
        (lambda p, d: p * (d - (p**2 * d).sum(axis=1, keepdims=True)), "One p too many in the sum: "
         "dp_j/da_k = -p_j·p_k, and the p_k is in front already."),
    ),
    praise="Only differences of slopes count: add one number to all of d, and nothing changes, as "
           "the p always sum to one. The shares in a mixture's score are such p, and so are the "
           "weights of the attention in chapter 8.",
)


def points(seed, n, d=4):
    """The arguments w, x and y of a straight line in d dimensions."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(d), rng.standard_normal((n, d)), rng.standard_normal(n)


def of_mean(w, x, y):
    """The slope of the mean of (x·w - y)² by w; of no points, 0."""
    return 2 * x.T @ (x @ w - y) / max(len(x), 1)


def parts_with(weight, first=0, whole=False):
    """A loop over the parts from the `first` on, each slope times weight(its points, n, k)."""
    def in_parts(w, x, y, size):
        n = len(x)
        cuts = [slice(i, i + size) for i in range(0, n, size)]
        cuts = [c for c in cuts if not whole or c.stop <= n]
        slopes = [of_mean(w, x[c], y[c]) * weight(len(x[c]), n, len(cuts)) for c in cuts]
        return sum(slopes[first:], 0 * w)
    return in_parts


in_parts = Exercise(
    right=lambda w, x, y, size: of_mean(w, x, y),
    cases={"7 points in parts of 3": (*points(0, 7), 3),
           "6 points in parts of 2": (*points(1, 6), 2),
           "8 points in parts of 5": (*points(2, 8), 5)},
    parts=("slope",),
    typical=(
        (parts_with(lambda m, n, k: 1.0, first=-1, whole=True), "That is the slope of the last "
         "whole part alone: all three mistakes are still there. Begin with the one that forgets."),
        (parts_with(lambda m, n, k: 1.0, first=-1), "That is the slope of the last part alone. "
         "What empties .grad before every part?"),
        (parts_with(lambda m, n, k: m / n, first=-1), "The last part has the right weight now. But "
         "it is the only one: something empties .grad before every part."),
        (parts_with(lambda m, n, k: m / n, first=-1, whole=True), "That is the last whole part "
         "with its right weight. Something empties .grad each time, and some points never come."),
        (parts_with(lambda m, n, k: 1.0), "Every part brings its whole mean, so with k parts the "
         "slope is about k times too large."),
        (parts_with(lambda m, n, k: 1.0, whole=True), "Some points never come, and every part "
         "brings its whole mean."),
        (parts_with(lambda m, n, k: 1 / k), "A mean of means: the points of a short last part "
         "count for more than the others."),
        (parts_with(lambda m, n, k: 1 / k, whole=True), "A mean over the whole parts. What about "
         "the points that are left over?"),
        (parts_with(lambda m, n, k: m / n, whole=True), "The weights are right now, but the points "
         "that don't fill a part never come."),
        (parts_with(lambda m, n, k: m), "That is the slope of the sum. Where is the division by "
         "the number of all points?"),
        (parts_with(lambda m, n, k: m, whole=True), "That is the slope of a sum, and the points "
         "that don't fill a part aren't in it."),
        (parts_with(lambda m, n, k: m / n / k), "You have divided twice: by all points, and by the "
         "number of parts."),
    ),
    praise="The same slope as from all points at once, however small the parts. So a batch that "
           "doesn't fit into memory can be had in parts: what the plus in backward() is good for.",
)


def order(key, n):
    return np.random.default_rng(key).permutation(n)


def at_positions(seed, step, size, n, key, one_epoch=False):
    """The pictures of a batch, place by place; `key(seed, epoch)` seeds an epoch's order."""
    positions = step * size + np.arange(size)
    epochs = positions // n
    epochs = np.full(size, epochs[0]) if one_epoch else epochs
    return np.array([order(key(seed, int(e)), n)[p % n] for e, p in zip(epochs, positions)])


def which_with(key=lambda seed, epoch: [seed, epoch], one_epoch=False):
    return lambda seed, step, size, n: at_positions(seed, step, size, n, key, one_epoch)


def without_rest(seed, step, size, n):
    """Every epoch ends with its last whole batch."""
    whole = max(n // size, 1)
    begin = step % whole * size
    return np.resize(order([seed, step // whole], n), max(n, begin + size))[begin:begin + size]


def one_source(seed, step, size, n):
    """All orders out of one source, one after the other."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range((step + 1) * size // n + 1)]
    return np.concatenate(orders)[step * size:(step + 1) * size]


which = Exercise(
    right=which_with(),
    cases={"seed {}, step {}, {} of {}".format(*case): case for case in (
        (0, 0, 4, 10), (3, 2, 4, 10), (3, 57, 8, 30), (5, 1, 25, 10))},
    parts=("picture",),
    typical=(
        (lambda seed, step, size, n: (step * size + np.arange(size)) % n, "These come in the order "
         "in which they are stored. Where is the permutation?"),
        (which_with(lambda seed, epoch: [seed, 0]), "The first epoch is right. The others go "
         "through the pictures in the same order: make the epoch a part of the seed."),
        (which_with(lambda seed, epoch: epoch), "Every seed gives the same order: put it into the "
         "list with the epoch."),
        (which_with(lambda seed, epoch: seed + epoch), "With seed + epoch the second epoch of a "
         "run is the first one of the next seed. Hand over both, as a list."),
        (which_with(lambda seed, epoch: [epoch, seed]), "You have the list the other way round: "
         "seed first, then the epoch."),
        (which_with(lambda seed, epoch: [seed, epoch + 1]), "Your epochs begin with 1. The first "
         "one is number 0."),
        (which_with(one_epoch=True), "A batch may lie in two epochs: its first places are the end "
         "of one order, the others the beginning of the next."),
        (without_rest, "You drop what doesn't fill a batch at the end of an epoch. Here nothing is "
         "dropped: the next picture is the first of the next epoch's order."),
        (lambda seed, step, size, n: np.resize(order([seed, step], n), size), "That is a fresh "
         "order in every step. So in one epoch some pictures come twice, and others not at all."),
        (one_source, "All orders come out of one source here, one after the other. So step 40,000 "
         "must first draw all those before it. Give each epoch a source of its own."),
    ),
    praise="No state, nothing to save, and any worker can compute any batch. The package's "
           "train.batch does just this.",
)


def by_bits(x, drop=16, half=lambda last, drop: (1 << (drop - 1)) - 1 + last):
    """float32 with the lowest `drop` bits rounded away; half(last bit kept, drop) is added."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32).astype(np.int64)
    bits = (bits + half(bits >> drop & 1, drop)) >> drop << drop
    return bits.astype(np.uint32).view(np.float32)


def bits_with(drop=16, **how):
    return lambda x: by_bits(x, drop, **how)


SPREAD = np.random.default_rng(0).uniform(1, 4, 12) * np.where(np.arange(12) % 3, 1, -1)
HALF_WAY = 1 + np.arange(-5, 14, 2) / 256
bf16 = Exercise(
    right=bits_with(),
    cases={"some numbers": (SPREAD.astype(np.float32),),
           "numbers half way between two": (HALF_WAY.astype(np.float32),),
           "some negative ones half way": (-HALF_WAY[3:].astype(np.float32),),
           "numbers just below a power of two": (np.float32([0.9999, 1.9999, 1.9]),),
           "tiny numbers": ((1e-30 * SPREAD).astype(np.float32),)},
    parts=("number",),
    typical=(
        (bits_with(half=lambda last, drop: 0), "You have cut the bits off. So all numbers get "
         "smaller, and a sum of many is wrong by the sum of it all. Round to the nearest."),
        (bits_with(half=lambda last, drop: 1 << (drop - 1)), "Half way you always go away from "
         "zero. There the rule is: to the neighbour whose last bit is 0."),
        (bits_with(half=lambda last, drop: (1 << (drop - 1)) - 1), "Half way you always go towards "
         "zero. There the rule is: to the neighbour whose last bit is 0."),
        (bits_with(half=lambda last, drop: (1 << (drop - 1)) - last), "Half way you go to the "
         "neighbour whose last bit is 1. It should be 0."),
        (bits_with(half=lambda last, drop: (1 << drop) - 1), "You always round away from zero. Add "
         "about half of what is cut off, not all of it."),
        (bits_with(15), "You keep one bit too many: 16 go."),
        (bits_with(17), "You keep one bit too few: 16 stay."),
        (bits_with(8), "You have cut off 8 bits. 16 of the 32 go."),
        (lambda x: np.asarray(x, np.float32), "Nothing has changed. Which bits of x have to go?"),
        (lambda x: np.asarray(x, np.float16).astype(float), "That is float16: more digits, and "
         "tiny numbers are lost."),
        (lambda x: np.round(np.asarray(x, np.float64) * 128) / 128, "So the gap is 1/128 "
         "everywhere. It should grow and shrink with the number."),
        (lambda x: np.round(np.asarray(x, np.float64), 2), "Two places after the point, in "
         "decimals, isn't what bits are cut to."),
    ),
    praise="To the even neighbour when half way, so that roundings don't all go one way. That is "
           "what every processor does.",
)
