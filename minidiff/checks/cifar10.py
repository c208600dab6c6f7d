"""Chapter 9's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise
from minidiff.denoise import clipped, denoiser
from minidiff.metrics import frechet_moments
from minidiff.sampler import dpmpp_2m, last
from minidiff.schedule import cosine, linear


def mistake_a(raw):
    """Chapter 9's `unpack` with one thing wrong."""
    return raw.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def mistake_b(network, recipe, labels, x, steps=10):
    """Chapter 9's `draw` with one thing wrong."""
    rows = np.arange(0, recipe.T, recipe.T // steps)
    table, levels = recipe.table.select(rows), recipe.levels[rows]
    denoise = denoiser(lambda x, c: network(x, c, labels), table, recipe.kind, condition=levels)
    return last(dpmpp_2m(clipped(denoise, table), table, x))


def conv(P, n, m, k=9):
    """A convolution's cost on P pixels, from n to m channels, with k places in its kernel."""
    return 2 * P * k * n * m


def across(P, n, m, k=1):
    """The cost of the way past the two convolutions: nothing, where the channels stay."""
    return conv(P, n, m, k) if n != m else 0


def cost_with(residual=lambda P, n, m: NOTHING, attention=lambda P, m: NOTHING,
              P=lambda size: size**2):
    """A typical pair of costs; `P` is how many pixels it counts."""
    return lambda size, n, m: (residual(P(size), n, m), attention(P(size), m))


def block(P, n, m):
    return conv(P, n, m) + conv(P, m, m) + across(P, n, m)


def heard(P, m, ones=4, squares=2):
    """Attention's cost: so many convolutions of 1×1, and so many products with all pairs."""
    return ones * conv(P, m, m, 1) + squares * 2 * P**2 * m


cost = Exercise(
    right=cost_with(block, heard),
    cases={f"{size}×{size} pixels, from {n} to {m} channels": (size, n, m)
           for size, n, m in ((16, 256, 256), (8, 64, 96), (32, 12, 8))},
    parts=("residual block's cost", "attention's cost"),
    typical=(
        (cost_with(lambda P, n, m: block(P, n, m) // 2, lambda P, m: heard(P, m) // 2), "That "
         "counts a multiplication with its addition as one. Here, and in the numbers on a GPU's "
         "data sheet, it is two."),
        (cost_with(block, heard, P=lambda size: size), "The picture has size·size pixels, and "
         "every one of them has to be computed."),
        (cost_with(lambda P, n, m: block(P, n, m) + P * m * (2 + (n != m)),
                   lambda P, m: heard(P, m) + 4 * P * m), "You have counted the biases, too. They "
         "are one addition a number, next to nothing, and PyTorch's counter leaves them out."),
        (cost_with(lambda P, n, m: conv(P, n, m, 3) + conv(P, m, m, 3) + across(P, n, m)), "A "
         "kernel of 3 has nine places: it is 3 wide and 3 high."),
        (cost_with(lambda P, n, m: conv(P, n, m, 1) + conv(P, m, m, 1) + across(P, n, m)), "Where "
         "is the kernel? Each number is a sum over nine places of each channel."),
        (cost_with(lambda P, n, m: conv(P, n, m) + conv(P, m, m)), "The way past them is missing. "
         "Where n isn't m, h can't simply be added: a convolution of 1×1 changes its channels."),
        (cost_with(lambda P, n, m: conv(P, n, m) + conv(P, m, m) + conv(P, n, m, 1)), "Where n is "
         "m, the way past the two convolutions is free: h is added as it is."),
        (cost_with(lambda P, n, m: conv(P, n, m) + conv(P, m, m) + across(P, n, m, 9)), "The way "
         "past the two convolutions has a kernel of 1, not of 3."),
        (cost_with(lambda P, n, m: 2 * conv(P, n, m) + across(P, n, m)), "The first convolution "
         "has gone from n to m channels already. What does the second start from?"),
        (cost_with(lambda P, n, m: conv(P, n, m) + across(P, n, m)), "A residual block has two "
         "convolutions of 3×3."),
        (cost_with(attention=lambda P, m: heard(P, m, squares=1)), "All pairs of pixels come in "
         "twice: for the scores, and for the sum of the values with their weights."),
        (cost_with(attention=lambda P, m: heard(P, m, squares=0)), "Those are the four "
         "convolutions. Now each pixel asks every pixel."),
        (cost_with(attention=lambda P, m: heard(P, m, ones=0)), "Those are the pairs. Questions, "
         "keys and values have to be made first, and what was heard goes through one more layer."),
        (cost_with(attention=lambda P, m: heard(P, m, ones=3)), "What was heard goes through one "
         "more convolution of 1×1, `out`, before it is added."),
        (cost_with(attention=lambda P, m: heard(P, m, ones=2)), "`qkv` makes three things of m "
         "channels each: questions, keys and values."),
        (cost_with(attention=lambda P, m: heard(P, m, ones=1)), "That is one convolution of 1×1. "
         "`qkv` makes three times m channels, and `out` comes after."),
        (cost_with(attention=lambda P, m: heard(P, m, ones=0) + 4 * conv(P, m, m)), "The "
         "convolutions in attention have a kernel of 1."),
        (cost_with(attention=lambda P, m: 4 * conv(P, m, m, 1) + 4 * P * m), "Each pixel asks "
         "every pixel: how many pairs are these?"),
        (cost_with(attention=lambda P, m: 4 * conv(P, m, m, 1) + 4 * P**2), "A score is a product "
         "of two vectors. How long are they?"),
    ),
    praise="The number of heads isn't in it: the more there are, the fewer channels each has. The "
           "two grow differently. For a picture twice as wide the convolutions cost four times as "
           "much, and the pairs sixteen times.",
)


def weights_with(eps=lambda c, snr: NOTHING * snr, capped=lambda snr, g: NOTHING * snr):
    """A typical pair of weights: of the eps loss, from rows (alpha, sigma), and min-SNR's."""
    def weights(alpha, sigma, gamma):
        snr = alpha**2 / sigma**2
        return eps((alpha, sigma), snr), capped(snr, gamma)
    return weights


def cut(snr, gamma):
    return np.minimum(snr, gamma)


weights = Exercise(
    right=weights_with(lambda c, snr: c[0]**2, lambda snr, g: cut(snr, g) / (snr + 1)),
    cases={f"rows 1 to 7 of {name}, gamma = {gamma:g}": (table.alpha[1:8], table.sigma[1:8], gamma)
           for name, table, gamma in (("cosine(8)", cosine(8), 5.0),
                                      ("linear(8, 0.02, 0.5)", linear(8, 0.02, 0.5), 1.5))},
    parts=("eps loss's weight", "min SNR weight"),
    typical=(
        (weights_with(lambda c, snr: np.ones_like(snr)), "With equal weights the loss stays what "
         "it is, v's. The same error of v is one of another size in eps."),
        (weights_with(lambda c, snr: c[0]), "That is how large the error in eps is. The loss is "
         "its square."),
        (weights_with(lambda c, snr: c[0] ** -2), "That is the other direction: a network that "
         "says eps, weighted so that it is v that counts."),
        (weights_with(lambda c, snr: c[1] ** 2), "With these weights it is x0 whose errors count "
         "alike. How does eps depend on v, at a given x?"),
        (weights_with(lambda c, snr: snr), "That is the weight for a network that says x0."),
        (weights_with(lambda c, snr: 1 / snr), "That is the weight of x0's loss, for a network "
         "that says eps."),
        (weights_with(lambda c, snr: c[1] ** -2), "That is the other direction, and from x0: a "
         "network that says x0, weighted so that it is v that counts."),
        (weights_with(capped=lambda snr, g: cut(snr, g) / snr), "That is the weight for a network "
         "that says eps. This one says v."),
        (weights_with(capped=cut), "That is the weight for a network that says x0. This one says "
         "v."),
        (weights_with(capped=lambda snr, g: np.maximum(snr, g) / (snr + 1)), "That is the larger "
         "of the two. The weight is to stop growing at gamma, where there is little noise."),
        (weights_with(capped=lambda snr, g: np.maximum(snr, g) / snr), "That is the larger of the "
         "two, and for a network that says eps."),
        (weights_with(capped=lambda snr, g: cut(np.sqrt(snr), g) / (snr + 1)), "The SNR is a ratio "
         "of variances, alpha²/sigma²: you have capped its root."),
        (weights_with(capped=lambda snr, g: cut(np.sqrt(snr), g) / (np.sqrt(snr) + 1)), "That is "
         "right for alpha/sigma. The SNR is its square."),
        (weights_with(capped=lambda snr, g: cut(np.log(snr), g) / (snr + 1)), "It is the SNR that "
         "is capped, and not its logarithm."),
        (weights_with(capped=lambda snr, g: cut(snr, g) * (snr + 1)), "An error of v makes one in "
         "x0 that is sigma times as large. So it is divided, by 1/sigma² = snr + 1."),
        (weights_with(capped=lambda snr, g: cut(snr, g) / np.sqrt(snr + 1)), "The loss is the "
         "square of the error: sigma² = 1/(snr + 1), and not its root."),
        (weights_with(capped=lambda snr, g: snr / (snr + 1)), "That is the eps loss again. Where "
         "does gamma come in? (To cap the quotient does nothing: it is below one.)"),
        (weights_with(capped=lambda snr, g: cut(snr, g) / (cut(snr, g) + 1)), "Only the weight is "
         "capped. What one error makes of the other goes by the row's true SNR."),
    ),
    praise="What a network says and what its loss weighs are two choices: any weights can be had "
           "with any y. Written in x0 the first is the SNR, and the second is the SNR until gamma.",
)


def scaled_with(steps=lambda K: NOTHING, warmup=lambda K: NOTHING, lr=lambda K: NOTHING,
                half_life=lambda K: NOTHING):
    """A typical answer: what each number is multiplied by, if the batch is K times as large."""
    def scaled(batch, steps_, warmup_, lr_, half_life_, other):
        factors = (f(other / batch) for f in (steps, warmup, lr, half_life))
        return tuple(v * f for v, f in zip((steps_, warmup_, lr_, half_life_), factors))
    return scaled


scaled = Exercise(
    right=scaled_with(lambda K: 1 / K, lambda K: 1 / K, np.sqrt, lambda K: 1),
    cases={f"batches of {recipe[0]}, then of {recipe[-1]}": recipe for recipe in (
        (128, 800_000, 5000, 2e-4, 887_184, 512), (512, 30_000, 500, 1e-3, 768_000, 128),
        (64, 4500, 200, 2e-3, 14_000, 32))},
    parts=("ratio of steps", "ratio of warmups", "ratio of rates", "ratio of half lives"),
    measure=lambda steps, warmup, lr, half_life, batch, *old: (
        steps / old[0], warmup / old[1], lr / old[2], half_life / old[3]),
    typical=(
        (scaled_with(lambda K: 1), "So the training sees another number of images."),
        (scaled_with(lambda K: K), "The fraction stands on its head: of larger batches it takes "
         "fewer."),
        (lambda batch, steps, *rest: (steps * batch, *4 * [NOTHING])[:4], "That is how many images "
         "it sees. How many steps are these, with the new batches?"),
        (scaled_with(warmup=lambda K: 1), "Those are as many steps as before, and so another "
         "number of images."),
        (scaled_with(warmup=lambda K: K), "That is the wrong way round: with larger batches the "
         "same images take fewer steps to rise."),
        (lambda batch, steps, warmup, *rest: (NOTHING, warmup * batch, NOTHING, NOTHING), "That is "
         "the images it rises for. `train` counts the warm-up in steps."),
        (scaled_with(lr=lambda K: 1), "With the same rate, and fewer steps or more, chance moves "
         "the weights less far, or farther, than before."),
        (scaled_with(lr=lambda K: K), "That is the rule for plain gradient descent, whose step is "
         "smaller where the gradient is less noisy. Adam divides by the gradient's size: its steps "
         "all have one length. What adds up over many steps, the lengths or their squares?"),
        (scaled_with(lr=lambda K: 1 / np.sqrt(K)), "The fraction stands on its head: fewer steps "
         "have to be longer ones."),
        (scaled_with(lr=lambda K: 1 / K), "The fraction stands on its head, and it isn't the "
         "lengths that add up when steps go by chance."),
        (scaled_with(half_life=lambda K: K), "It is in images already, and the images stay."),
        (scaled_with(half_life=lambda K: 1 / K), "In steps it would be so. But it is in images."),
        (lambda batch, steps, warmup, lr, half_life, other: (*3 * [NOTHING], half_life / other),
         "That is the half-life in steps. `EMA` is told it in images."),
        (lambda batch, steps, warmup, lr, half_life, other: (
            *3 * [NOTHING], 0.5 ** (other / half_life)), "That is the decay for one step, of "
         "exercise 8.3. `EMA` is told the half-life, and finds the decay itself."),
    ),
    praise="Count in images what you can, and a recipe moves to another machine. The rule for the "
           "rate holds as long as chance is most of a gradient, and no longer.",
)


def gaussian(seed, d, turned=True):
    """A mean and a covariance of d dimensions; without `turned`, a diagonal one."""
    rng = np.random.default_rng(seed)
    mean, root = rng.standard_normal(d), rng.uniform(0, 0.8, (d, d)) * turned
    root[np.diag_indices(d)] = rng.uniform(0.6, 2.0, d)
    return mean, root @ root.T


def root(cov):
    """A covariance's root, which is a covariance."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(values) @ vectors.T


def cross(A, B):
    """tr (AB)^½."""
    return np.sqrt(np.linalg.eigvals(A @ B).real).sum()


def frechet_with(spread, means=lambda gap: gap @ gap):
    """A typical answer, from what it makes of the covariances, and of the means' difference."""
    return lambda mean_a, cov_a, mean_b, cov_b: means(mean_a - mean_b) + spread(cov_a, cov_b)


def traces(A, B):
    return np.trace(A) + np.trace(B)


def apart(A, B):
    return traces(A, B) - 2 * cross(A, B)


def square(A):
    return (A**2).sum()


frechet = Exercise(
    right=frechet_moments,
    cases={"one dimension": (*gaussian(0, 1), *gaussian(1, 1)),
           "three dimensions, diagonal": (*gaussian(2, 3, False), *gaussian(3, 3, False)),
           "four dimensions": (*gaussian(4, 4), *gaussian(5, 4))},
    parts=("distance",),
    typical=(
        (frechet_with(lambda A, B: square(root(A) - root(B))), "Where A and B have the same axes "
         "this is right, and so it is in one dimension, and for diagonal ones. Else the trace is "
         "that of the product's root, and not of the roots' product."),
        (frechet_with(lambda A, B: square(np.sqrt(np.diag(A)) - np.sqrt(np.diag(B)))), "You have "
         "taken the diagonals only. So two clouds that lean to different sides would be alike."),
        (lambda *given: np.sqrt(frechet_moments(*given)), "That is the distance itself. What is "
         "reported, and asked for, is its square."),
        (frechet_with(apart, means=lambda gap: np.sqrt(gap @ gap)), "The distance of the means "
         "comes in squared."),
        (frechet_with(apart, means=lambda gap: 0), "The means are missing."),
        (frechet_with(apart, means=lambda gap: gap.sum() ** 2), "The means' differences are "
         "squared first, and then summed."),
        (frechet_with(apart, means=lambda gap: abs(gap).sum()), "That adds up the means' "
         "differences as they are. It is their squares that are wanted."),
        (frechet_with(apart, means=lambda gap: (gap**2).mean()), "The means' squared differences "
         "are summed. You have taken their mean."),
        (frechet_with(lambda A, B: traces(A, B) - 2 * np.trace(A @ B)), "The product's root is "
         "missing: AB is a variance times a variance."),
        (frechet_with(lambda A, B: traces(A, B) - 2 * np.trace(np.sqrt(A @ B))), "`np.sqrt` takes "
         "the root of every number by itself. That isn't the matrix whose square is AB."),
        (frechet_with(lambda A, B: traces(A, B) - 2 * np.trace(np.sqrt(A) @ np.sqrt(B))),
         "`np.sqrt` takes the root of every number by itself. That isn't the matrix whose square "
         "is A."),
        (frechet_with(lambda A, B: traces(A, B) - 2 * np.sqrt(np.trace(A @ B))), "That is the root "
         "of the trace. In one dimension there is no difference."),
        (frechet_with(lambda A, B: traces(A, B) - cross(A, B)), "The 2 is missing: (p - q)² is "
         "p² + q² - 2pq."),
        (frechet_with(lambda A, B: traces(A, B) + 2 * cross(A, B)), "The sign: equal clouds must "
         "have the distance zero."),
        (frechet_with(lambda A, B: square(A - B)), "That is how far the covariances are apart. In "
         "one dimension it is (variance - variance)². What moves points is the standard "
         "deviation."),
        (frechet_with(lambda A, B: apart(A @ A, B @ B)), "You have squared the covariances, as if "
         "they were standard deviations. They are squares already."),
        (frechet_with(lambda A, B: apart(root(A), root(B))), "You have put the roots where the "
         "covariances belong. In one dimension: sigma² + sigma'² - 2·sigma·sigma'."),
    ),
    praise="On Inception's features of 50,000 pictures this is the FID. Two means and two "
           "covariances are all that it knows of them.",
)
