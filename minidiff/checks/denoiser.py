"""Chapter 3's exercises: the right answers, and the ones that are usually wrong."""

import numpy as np

from minidiff.checks.judge import NOTHING, Exercise


def mistake_a(layers, z, trail, delta, gradient):
    """Chapter 3's `backward` with one thing wrong."""
    outputs = [z, *(out for out, _ in trail)]
    for i in reversed(range(len(layers))):
        dW, db = gradient[i]
        dW[:] = outputs[i].T @ delta
        db[:] = delta.sum(axis=0)
        if i > 0:
            _, gate = trail[i - 1]
            delta = (delta @ layers[i][0].T) * gate


def mistake_b(x, log_snr):
    """Chapter 3's `embed` with one thing wrong."""
    c = np.zeros_like(x[:, :1])
    phase = c * (2 * np.pi / 32 * np.arange(1, 9, dtype=x.dtype))
    return np.concatenate([x, c / 12, np.sin(phase), np.cos(phase)], axis=1)


def silence_with(x0=lambda alpha, sigma: NOTHING, v=lambda alpha, sigma: NOTHING):
    return lambda alpha, sigma: (x0(alpha, sigma), v(alpha, sigma))


silence = Exercise(
    right=silence_with(lambda a, s: a**2 / s**2, lambda a, s: a**2),
    cases={f"alpha = {a}, sigma = {s}": (a, s) for a, s in ((0.6, 0.8), (0.8, 0.6), (0.96, 0.28))},
    parts=("noise error of x0", "noise error of v"),
    typical=(
        (lambda a, s: (1.0, 1.0), "That is the error of y. The guess of ε is made of y and x, and "
         "x is not zero: put ŷ = 0 into section 3.5's formula."),
        (silence_with(lambda a, s: a / s), "That is the factor between the errors. The loss is "
         "a mean of squares."),
        (silence_with(lambda a, s: s**2 / a**2), "It is upside down: with little noise it is "
         "hard to tell the noise from x."),
        (silence_with(lambda a, s: 1 / s**2), "That is the mean square of x/σ, the guess itself. "
         "Subtract ε first."),
        (silence_with(lambda a, s: s**2), "By saying x0 = 0 the network says that all of x is "
         "noise: ε = x/σ. How wrong is that?"),
        (silence_with(v=lambda a, s: a), "That is what an error is multiplied with. Its square "
         "is wanted."),
        (silence_with(v=lambda a, s: s**2), "That is the mean square of σx, the guess itself. "
         "Subtract ε first. (Or you have the errors of x0 and ε swapped.)"),
        (silence_with(v=lambda a, s: a**4), "ε - σx = α²ε - ασx0. You have lost the second term."),
        (silence_with(v=lambda a, s: a**2 / s**2), "That is the silence of x0. Put p = -σ and "
         "q = α into section 3.5's formula."),
    ),
    praise="Asked for eps, silence costs 1 at every level. Asked for v it costs α², never more "
           "and mostly less: the guess is then σx, the best of all straight lines. A network "
           "for v starts where one for eps must first get to.",
)


def spike_step(k, size=1000, beta1=0.9, beta2=0.999, power=2):
    """Adam's step / lr, k steps after one slope among ones that was larger."""
    mean = 1 + (1 - beta1) * beta1**k * (size - 1)
    square = 1 + (1 - beta2) * beta2**k * (size**power - 1)
    return mean / np.sqrt(square)


spike = Exercise(
    right=(spike_step(0), 1 / spike_step(100)),
    parts=("step at once", "factor after 100 steps"),
    tolerance=0.004,  # of 30: 0.12
    typical=(
        ((1000, NOTHING), "So far a plain step would go. Adam divides by the root of v, and v has "
         "seen the large slope too."),
        ((1, NOTHING), "η it would be for a slope that stays. m takes a tenth of the new slope, "
         "and v a thousandth of its square."),
        ((100.9, NOTHING), "That is m. Divide it by the root of v."),
        ((100.9 / 1001, NOTHING), "You have divided by v. It is its root that has a slope's size."),
        ((spike_step(0, power=1), NOTHING), "v is a running mean of the squares: it takes a "
         "thousandth of a million."),
        ((spike_step(0, beta2=0.9), NOTHING), "v forgets more slowly than m: it takes only a "
         "thousandth of the new square."),
        ((NOTHING, 1), "m has forgotten the large slope after 100 steps, but v has not: 0.999 to "
         "the power of 100 is still 0.9."),
        ((NOTHING, spike_step(100)), "That is the step itself, in η. How many times shorter is it "
         "than η?"),
        ((NOTHING, 1001**0.5), "After 100 steps v has forgotten a tenth of the large square."),
        ((NOTHING, 905.8), "That is v. Adam divides by its root."),
    ),
    praise="However large that one slope, the step is never longer than 3.3 η: Adam can't be "
           "thrown far. But for thousands of steps afterwards it crawls. Training programs for "
           "large networks therefore cut such slopes down before Adam sees them.",
)


def cut(vector, A, W, V, b, x, y):
    """The slopes by parameter, the last layer's first: V, b, W, A."""
    return np.split(vector, np.cumsum([A.size, W.size, b.size]))[::-1]


def slopes_by_differences(A, W, V, b, x, y):
    """What a backward pass should find, by the loss alone."""
    h = 1e-5
    theta, ends = np.concatenate([A, W, b, V], None), np.cumsum([A.size, W.size, b.size])

    def loss(theta):
        A_, W_, b_, V_ = np.split(theta, ends)
        inner = x @ A_.reshape(A.shape)
        z = np.tanh(inner @ W_.reshape(W.shape) + b_)
        return ((inner + z @ V_.reshape(V.shape) - y) ** 2).mean()

    return np.array([loss(theta + e) - loss(theta - e) for e in h * np.eye(theta.size)]) / (2 * h)


def slopes_with(size=lambda y: y.size / 2, pass_V=np.transpose, bend=lambda z: 1 - z**2,
                bias=np.sum, pass_W=np.transpose, skip=lambda last, delta: last):
    """A backward pass in which some of the ideas are wrong."""
    def slopes(A, W, V, b, x, y):
        inner = x @ A
        z = np.tanh(inner @ W + b)
        last = (inner + z @ V - y) / size(y)
        delta = (last @ pass_V(V)) * bend(z)
        dA = x.T @ (delta @ pass_W(W) + skip(last, delta))
        return np.concatenate([dA, inner.T @ delta, bias(delta, axis=0), z.T @ last], None)
    return slopes


def as_it_is(x):
    return x


def no_skip(last, delta):
    return 0


def network(seed, points, n, m):
    """The arguments of `slopes`: a network, inputs and targets."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in (
        (n, m), (m, m), (m, m), (m,), (points, n), (points, m))]


slopes = Exercise(
    right=slopes_by_differences,
    cases={"7 points, 2 inputs, 3 units": network(0, 7, 2, 3),
           "5 points, 4 inputs, 4 units": network(1, 5, 4, 4)},
    measure=cut,
    parts=("slope of V", "slope of b", "slope of W", "slope of A"),
    typical=(
        (slopes_with(pass_V=as_it_is, bias=np.mean, skip=no_skip), "Two things are wrong here, "
         "and behind them there is a third. Does δ go back through V, or forwards once more? "
         "And a bias touches every point: is its slope their mean?"),
        (slopes_with(bias=np.mean), "That is the mean over the points. b touches every point's a, "
         "so it is the sum; the mean is already in the first δ."),
        (slopes_with(pass_V=as_it_is), "δ went through V as on the way forwards. Going back it is "
         "V's transpose, and since V is square no shape complains."),
        (slopes_with(size=lambda y: y.size), "The 2 of the square is missing in the first δ."),
        (slopes_with(size=lambda y: len(y) / 2), "The loss is the mean over points and "
         "coordinates: the first δ is divided by both."),
        (slopes_with(size=lambda y: 0.5), "The loss is a mean: where is the division by its "
         "number of terms?"),
        (slopes_with(bend=lambda z: 1), "The bend's slope is missing: tanh' = 1 - z²."),
        (slopes_with(bend=lambda z: 1 - z), "tanh' = 1 - z², and not 1 - z."),
        (slopes_with(bend=lambda z: z * (1 - z)), "That is the slope of a gate, g(1 - g). For "
         "tanh it is 1 - z²."),
        (slopes_with(bend=lambda z: 1 - np.tanh(z) ** 2), "The slope of tanh is 1 - tanh²(a), and "
         "z is tanh(a) already."),
        (slopes_with(skip=no_skip), "h goes two ways forwards: through the bend, and straight to "
         "the output. So two terms come back to it."),
        (slopes_with(skip=lambda last, delta: delta), "By the straight way comes the δ of the "
         "output, as it was before V and the bend."),
        (slopes_with(skip=lambda last, delta: -last), "What comes back on two ways is added, not "
         "subtracted."),
        (slopes_with(pass_W=as_it_is), "Going back it is W's transpose. W is square, so no shape "
         "complains."),
        (slopes_with(pass_W=lambda W: np.zeros_like(W)), "That is the straight way alone. Another "
         "term comes back through W."),
    ),
    praise="By differences, all slopes agree. The straight way carries the error back whole, "
           "through however many layers: that is why very deep networks can be trained, and why "
           "the large ones of later chapters are built of such blocks.",
)


def mix_with(root=lambda a, s, d: np.sqrt(s**2 + a**2 * d**2), p=lambda a, s, d: s / d,
             q=lambda a, s, d: -a * d):
    return lambda alpha, sigma, d: (p(alpha, sigma, d) / root(alpha, sigma, d),
                                    q(alpha, sigma, d) / root(alpha, sigma, d))


mix = Exercise(
    right=mix_with(),
    cases={f"alpha = {a:g}, sigma = {s:g}, d = {d:g}": (a, s, d) for a, s, d in (
        (0.6, 0.8, 1.0), (1.0, 3.0, 0.5), (0.7, 0.3, 2.0), (0.2, 0.9, 0.3))},
    parts=("p", "q"),
    typical=(
        (mix_with(p=lambda a, s, d: -s / d, q=lambda a, s, d: a * d), "The same line, with "
         "the other sign. Both will do; take the one with p >= 0."),
        (lambda a, s, d: (s, -a), "That is v with its sign flipped. It is right where "
         "α² + σ² = 1 and d = 1."),
        (lambda a, s, d: (s / (d * np.sqrt(s**2 + d**2)), -d / np.sqrt(s**2 + d**2)), "That is "
         "edm, which is right where α = 1. On this table the data in x are α times as large."),
        (lambda a, s, d: (-s, a), "That is v. It is right, but for its sign, where α² + σ² = 1 "
         "and d = 1."),
        (mix_with(root=lambda a, s, d: 1), "Uncorrelated it is. But what is its variance? Divide "
         "by the root."),
        (lambda a, s, d: (s / np.sqrt(s**2 + a**2), -a / np.sqrt(s**2 + a**2)), "Where is d? x0 "
         "has the variance d², so Cov(x, y) = α·p·d² + σ·q."),
        (mix_with(root=lambda a, s, d: s**2 + a**2 * d**2), "You divide by a variance. What "
         "makes a variance one is the division by its root."),
        (lambda a, s, d: (s / np.sqrt(s**2 + a**2 * d), -a * d / np.sqrt(s**2 + a**2 * d)),
         "d is a standard deviation. In covariances stands d²."),
        (lambda a, s, d: (s / np.sqrt(s**2 + a**2 * d**4), -a * d**2 / np.sqrt(
            s**2 + a**2 * d**4)), "p² + q² = 1 isn't yet variance one: x0 has the variance d²."),
    ),
    praise="With α = 1 it is edm, and with α² + σ² = 1 and d = 1 it is v, but for its sign. Two "
           "famous recipes, found by different people for different tables, are one idea.",
)
