"""The page of notation: what it says of a symbol is what the chapters say, and its code runs.

Of the dictionary each row is three things that are equal: the paper's formula and the book's, both
written out here, and the page's code.
"""

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CHAPTERS, code_cells

from minidiff import denoise, elbo, schedule
from minidiff.data import eight_gaussians
from minidiff.mixture import GaussianMixture
from minidiff.quadrature import noise_loss

from normal_form import read

PAGE = (CHAPTERS / "notation.md").read_text("utf-8")
SYMBOLS, OTHERS, CONVENTIONS = re.split("\n## What others call it\n|\n## Conventions\n", PAGE)
CODE, MATH = re.compile("`([^`]+)`"), re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)
PLACE = re.compile(r"\b(?:section|exercise)s? (\d+\.\d+)(?: and (\d+\.\d+))?", re.IGNORECASE)
BLANK = re.compile(r"\\[,;!:> ]|\\(?:quad|qquad|left|right|[Bb]igg?)\b|\s")
TOKEN = re.compile(r"\\(?:mathcal|mathbb|mathbf|mathrm|operatorname|text)(?:\{[^{}]*\}|\w)"
                   r"|\\[A-Za-z]+|[^{}\\]")
TORCH = re.compile(r"network|\b(?:train|nn|recipes)\.")
MODULES = ("elbo", "likelihood", "metrics", "mlp", "process", "quadrature", "rosetta", "sampler")
IN_TORCH = ("nn", "recipes", "train")
W = 0.3  # variance of the data that the code is tried on
AB = 0.07858724288  # alpha_bar[500] of the linear schedule


def tables(text):
    """Each heading's table: its rows, each a list of cells, without head and rule."""
    found = {}
    for part in re.split(r"(?m)^#{2,3} ", text)[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        if cells:
            found[part.partition("\n")[0]] = cells[2:]
    return found


def tokens(tex):
    """What a formula is made of, without spaces and braces; both ways to write a norm are one."""
    tex = re.sub(r"\\[lr]vert\b", "|", re.sub(r"\\\||\\[lr]Vert\b", "‖", tex))
    tex = re.sub(r"(\\(?:mathcal|mathbb|mathbf)) (\w)", r"\1\2", tex)
    tex = re.sub(r"(\\[A-Za-z]+) ", r"\1{}", tex)  # \hat x is no \hatx
    return TOKEN.findall(BLANK.sub("", tex))


def sections(notebooks):
    """The formulas, as tokens, of each section and each exercise, by its number."""
    found = {}
    for nb in notebooks:
        text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
        text = re.sub(r"```.*?```|`[^`\n]+`", "", text.partition("\n## References")[0],
                      flags=re.DOTALL)
        _, *parts = re.split(r"(?m)^###? (?:Exercise )?(\d+\.\d+)(?= )", text)
        for number, part in zip(parts[::2], parts[1::2]):
            found.setdefault(number, []).extend(
                tokens(a or b) for a, b in MATH.findall(part.partition("\n## Summary")[0]))
    return found


def has(formulas, tex):
    wanted = tokens(tex)
    return any(one[i:i + len(wanted)] == wanted for one in formulas for i in range(len(one)))


def places(text):
    return {number for pair in PLACE.findall(text) for number in pair if number}


ROWS = [row for table in tables(SYMBOLS).values() for row in table]
NOTEBOOKS = [read(path) for path in sorted(CHAPTERS.glob("*.ipynb"))]
SECTIONS = sections(NOTEBOOKS)
PROGRAMS = "\n".join(cell.source for nb in NOTEBOOKS for cell in code_cells(nb))


def test_every_row_has_four_cells_and_every_symbol_one_row():
    assert len(ROWS) > 100 and {len(row) for row in ROWS} == {4}
    symbols = [tex for row in ROWS for _, tex in MATH.findall(row[0])]
    assert sorted(symbols) == sorted(set(symbols))
    assert all(tex and MATH.sub("", row[0]).strip(", ") == "" for row in ROWS
               for _, tex in MATH.findall(row[0]))
    assert all(meaning and len(meaning) < 330 for _, _, meaning, _ in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_symbol_is_where_its_row_says(row):
    symbol, _, meaning, place = row
    forms = [tex for _, tex in MATH.findall(symbol)]
    assert re.fullmatch(r"section \d+\.\d+", place)
    assert all(has(SECTIONS[place.split()[1]], tex) for tex in forms)
    for number in places(meaning):
        assert any(has(SECTIONS[number], tex) for tex in forms), f"no {symbol} in {number}"


def test_every_place_exists():
    assert places(PAGE) <= set(SECTIONS) and len(SECTIONS) > 90


class Both:
    """A name that is a module and a thing of it: `denoise.pair(...)` and `denoise(x, t)`."""

    def __init__(self, module, thing):
        self.module, self.thing = module, thing

    def __getattr__(self, name):
        return getattr(self.thing if hasattr(self.thing, name) else self.module, name)

    def __call__(self, *arguments):
        return self.thing(*arguments)


def known(table, t):
    """What the tests know at row t of the table, where the data are N(0, W·I) in the plane."""
    c, rng = SimpleNamespace(t=t, s=t - 1, T=table.T, i=table.T - t), np.random.default_rng(0)
    c.alpha, c.sigma, c.alpha_s, c.sigma_s = *table.at(t, 1.0), *table.at(c.s, 1.0)
    c.a = c.alpha / c.alpha_s
    c.b2 = c.sigma**2 - c.a**2 * c.sigma_s**2
    c.c0, c.ct = c.alpha_s * c.b2 / c.sigma**2, c.a * c.sigma_s**2 / c.sigma**2
    c.v, c.beta = c.b2 * (c.sigma_s / c.sigma) ** 2, 1 - c.a**2
    c.log_snr, c.spread = 2 * np.log(c.alpha / c.sigma), c.alpha**2 * W + c.sigma**2
    c.x0, c.eps = W**0.5 * rng.standard_normal((50, 2)), rng.standard_normal((50, 2))
    c.xt = c.alpha * c.x0 + c.sigma * c.eps
    c.x0_hat, c.eps_hat = c.alpha * W * c.xt / c.spread, c.sigma * c.xt / c.spread
    c.w, c.eta, c.data_scale = 2.5, 0.4, 0.5
    return c


def say(code, table, t, **more):
    """What a piece of the page's code is worth, at row t of the table."""
    c = known(table, t)
    mixture = GaussianMixture([1.0], np.zeros((1, 2)), W * np.eye(2)[None])
    told = mixture.denoiser(table)
    names = vars(c) | {name: importlib.import_module(f"minidiff.{name}") for name in MODULES} | {
        "np": np, "rng": np.random.default_rng(0), "mixture": mixture, "told": told,
        "untold": silent, "schedule": Both(schedule, table), "denoise": Both(denoise, told),
        "x": c.xt, "xs": c.xt, "y": c.eps, "delta": c.eps, "kind": "v", "d": 2, "n": 50,
        "k": 1, "gamma": 5.0, "nats": 1.0, "square": 2.0, "value": 0.5, "rho": 7.0, "tiny": 1e-8,
        "half_life": 500.0, "beta1": 0.9, "beta2": 0.999, "flat": np.zeros(21),
        "widths": (3, 4, 1), "f": lambda x: (mixture.score(x) ** 2).sum(axis=1)}
    if TORCH.search(code):
        torch = pytest.importorskip("torch", reason="the torch extra is not installed")
        names |= {name: importlib.import_module(f"minidiff.{name}") for name in IN_TORCH}
        names |= {name: torch.tensor(names[name]) for name in ("x0", "eps", "x")}
        names |= {"network": names["nn"].MLP().double(), "c": 0.5}
    return eval(code, names | more)


def silent(x, t):
    return 0 * x, x


SNIPPETS = sorted({code for row in ROWS for code in CODE.findall(row[1])} | {
    code for code in CODE.findall(CONVENTIONS) if re.fullmatch(r"\w+\.[\w.]+(\(.*\))?", code)})


@pytest.mark.parametrize("code", SNIPPETS)
def test_the_code_beside_a_symbol_runs(code):
    assert say(code, schedule.linear(), 500) is not None
    assert not code.isidentifier() or re.search(rf"\b{code}\b", PROGRAMS), "no chapter's name"


WORTH = {  # a symbol's own formula; c is what is `known`
    r"$\tau$": lambda c: 0.5, r"$\Delta\tau$": lambda c: 1e-3, r"$T$": lambda c: 1000,
    r"$\beta_t$": lambda c: np.linspace(1e-4, 0.02, 1000)[499], r"$\bar\alpha_t$": lambda c: AB,
    r"$\alpha_t$": lambda c: AB**0.5, r"$\sigma_t$": lambda c: (1 - AB) ** 0.5,
    r"$\sigma_t / \alpha_t$": lambda c: (1 / AB - 1) ** 0.5,
    r"$\mathrm{SNR}_t$": lambda c: AB / (1 - AB), r"$\lambda$": lambda c: np.log(AB / (1 - AB)),
    r"$a$": lambda c: c.a, r"$b^2$": lambda c: c.b2, r"$G$": lambda c: c.beta,
    r"$c_0$, $c_t$": lambda c: (c.c0, c.ct),
    r"$\hat x_0$": lambda c: c.x0_hat, r"$\hat\varepsilon$": lambda c: c.eps_hat,
    r"$\nabla \log p$": lambda c: -c.xt / c.spread,
    r"$p_t(x)$": lambda c: -(c.xt**2).sum(1) / 2 / c.spread - np.log(2 * np.pi * c.spread),
    r"$F$": lambda c: 2 / W, r"$H$": lambda c: 1 + np.log(2 * np.pi * W),
    r"$\ell_t$": lambda c: 1 - c.sigma**2 / c.spread,
}


@pytest.mark.parametrize("symbol", WORTH)
def test_the_code_beside_a_symbol_is_what_it_means(symbol):
    right = WORTH[symbol](known(schedule.linear(), 500))
    np.testing.assert_allclose(say(beside(symbol), schedule.linear(), 500), right, rtol=1e-9)


def beside(symbol):
    (code,) = [row[1] for row in ROWS if row[0] == symbol]
    return CODE.search(code)[1]


def ho(c):
    beta = np.linspace(1e-4, 0.02, 1000)
    bar, before = np.prod(1 - beta[:c.t]), np.prod(1 - beta[:c.t - 1])
    beta_t, tilde = beta[c.t - 1], (1 - before) / (1 - bar) * beta[c.t - 1]
    mu = (before**0.5 * beta_t * c.x0 + (1 - beta_t) ** 0.5 * (1 - before) * c.xt) / (1 - bar)
    return {r"$\beta_t$": beta_t, r"$\alpha_t$": 1 - beta_t, r"$\bar\alpha_t$": bar,
            r"$\sqrt{\bar\alpha_t}$": bar**0.5, r"$\sqrt{1 - \bar\alpha_t}$": (1 - bar) ** 0.5,
            r"$\tilde\mu_t(x_t, x_0)$": mu, r"$\tilde\beta_t$": tilde,
            r"$\sigma_t^2 = \tilde\beta_t$": tilde, r"$\sigma_t^2 = \beta_t$": beta_t,
            r"$\epsilon_\theta(x_t, t)$": (1 - bar) ** 0.5 * c.xt / (bar * W + 1 - bar)}


def song(c):
    u = c.t / 1000
    beta, left = 0.1 + 19.9 * u, np.exp(-0.1 * u - 19.9 * u**2 / 2)
    return {"$t$": u, r"$\beta(t)$": beta, "$f(x, t)$, VP": -beta / 2 * c.xt,
            "$g(t)$, VP": beta**0.5, r"$\exp(-\int_0^t \beta)$": left,
            r"$s_\theta(x, t)$": -c.xt / (left * W + 1 - left)}


def kingma(c):
    gamma, before = (np.log(s2 / (1 - s2)) for s2 in (c.sigma**2, c.sigma_s**2))
    scale = ((1 + np.exp(before)) / (1 + np.exp(gamma))) ** 0.5
    added = -np.expm1(before - gamma) / (1 + np.exp(-gamma))
    weight = (np.exp(-before) - np.exp(-gamma)) / 2
    return {"$x$": c.x0, "$z_t$": c.xt, r"$\gamma(t)$": gamma, r"$\alpha_{t \mid s}$": scale,
            r"$\sigma^2_{t \mid s}$": added,
            r"$\sigma^2_Q(s, t)$": added * (1 + np.exp(-gamma)) / (1 + np.exp(-before)),
            r"$\frac12 (\mathrm{SNR}(s) - \mathrm{SNR}(t))$": weight}


def karras(c):
    """On their own table, where s = 1, and i counts from the largest sigma."""
    low, high, d = 0.002 ** (1 / 7), 80 ** (1 / 7), c.data_scale
    sigma = (high + c.i / (c.T - 1) * (low - high)) ** 7
    D, root = c.xt * W / (W + sigma**2), (sigma**2 + d**2) ** 0.5
    return {"$s(t)$": 1, r"$\sigma(t)$": sigma, r"$D(x / s; \sigma)$": D,
            r"$(x / s - D) / \sigma$": (c.xt - D) / sigma, r"$\sigma_{\text{data}}$": 0.5,
            r"$c_{\text{noise}} = \frac14 \ln \sigma$": np.log(sigma) / 4,
            r"$(x_0 - c_{\text{skip}} x) / c_{\text{out}}$":
                (c.x0 - (d / root) ** 2 * c.xt) / (sigma * d / root), r"$\sigma_i$": sigma}


def karras_vp(c):
    """Their table 1 for Song et al.'s process: s is 1/sqrt(sigma² + 1)."""
    sigma = (1 / c.alpha**2 - 1) ** 0.5
    y = c.xt * (1 + sigma**2) ** 0.5
    D = y * W / (W + sigma**2)
    return {"$s(t)$": (1 + sigma**2) ** -0.5, r"$\sigma(t)$": sigma, r"$D(x / s; \sigma)$": D,
            r"$(x / s - D) / \sigma$": (y - D) / sigma,
            r"$c_{\text{noise}} = \frac14 \ln \sigma$": np.log(sigma) / 4}


def lipman(c):
    t, x_1, x_0 = 1 - c.t / 100, c.x0, c.eps
    x = t * x_1 + (1 - t) * x_0
    mean = t * W / (t**2 * W + (1 - t) ** 2) * x  # of x_1, for one who sees x
    return {"$t$": t, "$x_1$": x_1, "$x_0$": x_0, "$t x_1 + (1 - t) x_0$": x,
            r"$\frac{x_1 - x}{1 - t}$": (x_1 - x) / (1 - t), "$u_t(x)$": (mean - x) / (1 - t)}


def more(c):
    bar, before = c.alpha**2, c.alpha_s**2
    guided = denoise.guided(lambda x, t: (x, c.eps_hat), silent, c.w)(c.xt, c.t)[1]
    return {r"$\alpha_t$, in Song, Meng and Ermon (2021a)": bar,
            r"$\sigma_t(\eta)$, there":
                c.eta * ((1 - before) / (1 - bar)) ** 0.5 * (1 - bar / before) ** 0.5,
            r"$\lambda_t$, in the DPM-Solver papers": np.log(c.alpha / c.sigma),
            "$v$, in Salimans and Ho (2022)": c.alpha * c.eps - c.sigma * c.x0,
            "$w$, in Ho and Salimans (2022)":  # guided = (1 + w)·told - w·untold
                np.median((guided - c.eps_hat) / (c.eps_hat - c.xt)),
            r"$\epsilon$, in Song and Ermon (2019b)": 2 * c.eta}


OURS = {  # the column "Here"; a symbol that isn't here has its code in the first part
    r"$1 - \beta_t$": lambda c: 1 - c.beta, r"$\beta_t T$": lambda c: c.beta * c.T,
    "$c_0 x_0 + c_t x_t$": lambda c: c.c0 * c.x0 + c.ct * c.xt, "$x_t$": lambda c: c.xt,
    "$v$ of section 4.2": lambda c: c.v, "$h^2$, small": lambda c: c.v,
    "$h^2$, large": lambda c: c.b2, "$f x$": lambda c: np.log(c.a) * c.T * c.xt,
    "$g$": lambda c: (c.b2 * c.T) ** 0.5, r"$-\hat\varepsilon / \sigma_t$":
    lambda c: -c.eps_hat / c.sigma, "weight of a step in the bound":
    lambda c: c.c0**2 / (2 * c.v), r"$-\lambda$": lambda c: -c.log_snr,
    r"$-\lambda / 8$": lambda c: -c.log_snr / 8, r"$\frac12 \lambda$": lambda c: c.log_snr / 2,
    "$d$ of section 3.5": lambda c: c.data_scale, "$y$ of kind edm": lambda c: (
        c.sigma / c.data_scale * c.x0 - c.data_scale * c.eps) / np.hypot(c.sigma, c.data_scale),
    r"$\sigma_{T - i}$ of `schedule.karras()`": lambda c: c.sigma,
    r"$1 - \tau$": lambda c: 1 - c.t / c.T, r"$-u = x_0 - \varepsilon$": lambda c: c.x0 - c.eps,
    r"$-\bar u$": lambda c: c.x0_hat - c.eps_hat, "$w - 1$": lambda c: c.w - 1,
    r"$g = \eta \sqrt v$": lambda c: c.eta * c.v**0.5, r"$2 \eta$ of section 2.3":
    lambda c: 2 * c.eta, "$v$": lambda c: c.alpha * c.eps - c.sigma * c.x0,
}
PAPERS = [("Ho et al. (2020)", ho, schedule.linear(), 500),
          ("Song et al. (2021b)", song, schedule.linear(), 500),
          ("Kingma et al. (2021)", kingma, schedule.cosine(), 400),
          ("Karras et al. (2022)", karras, schedule.karras(), 25),
          ("Karras et al. (2022)", karras_vp, schedule.linear(), 300),
          ("Lipman et al. (2023)", lipman, schedule.flow(), 30),
          ("And a few more", more, schedule.linear(), 200)]


@pytest.mark.parametrize("paper, theirs, table, t", PAPERS,
                         ids=[theirs.__name__ for _, theirs, _, _ in PAPERS])
def test_the_dictionary_says_three_times_the_same(paper, theirs, table, t):
    c, rows = known(table, t), tables(OTHERS)[paper]
    said, rtol = theirs(c), 1e-2 if theirs is song else 1e-8
    assert theirs is karras_vp or sorted(said) == sorted(row[0] for row in rows)
    for they, here, code in rows:
        if they in said:
            ours = OURS[here](c) if here in OURS else say(beside(here), table, t)
            for one in (said[they], say(code.strip("`"), table, t)):
                np.testing.assert_allclose(one, ours, rtol=rtol, atol=1e-12, err_msg=they)


LEVELS = {  # at SNR 9 and 1/4, by hand, and the log-SNR by the formula on the page
    r"$\ln \frac{\bar\alpha}{1 - \bar\alpha}$": (0.9, 0.2, lambda y: np.log(y / (1 - y))),
    "$-\\ln(e^B - 1)$": (np.log(10 / 9), np.log(5), lambda y: -np.log(np.exp(y) - 1)),
    r"$-\gamma$": (-np.log(9), np.log(4), lambda y: -y),
    r"$-2 \ln \sigma$": (1 / 3, 2, lambda y: -2 * np.log(y)),
    r"$2 \ln \frac{t}{1 - t}$": (3 / 4, 1 / 3, lambda y: 2 * np.log(y / (1 - y))),
    r"$2 \ln \frac{1 - t}{t}$": (1 / 4, 2 / 3, lambda y: 2 * np.log((1 - y) / y)),
    r"$2 \lambda$": (np.log(3), -np.log(2), lambda y: 2 * y),
}
NAMES = [r"\bar\alpha", "B", r"\gamma", r"\sigma", "t", "t", r"\lambda"]


def test_levels_are_log_snrs():
    rows = tables(OTHERS)["Noise levels"]
    assert [row[2] for row in rows] == list(LEVELS) and {len(row) for row in rows} == {4}
    for (_, level, formula, code), name in zip(rows, NAMES):
        assert tokens(MATH.search(level)[2])[:len(tokens(name))] == tokens(name)
        *values, log_snr = LEVELS[formula]
        for value, right in zip(values, (np.log(9), -np.log(4))):
            assert log_snr(value) == pytest.approx(right)
            said = say(code.strip("`"), schedule.linear(), 9, value=value)
            assert said == pytest.approx(right)


def test_conventions_hold():
    assert elbo.bits(2 * np.log(2), 2) == pytest.approx(1)
    for table in (schedule.linear(), schedule.cosine(), schedule.karras(), schedule.flow()):
        assert (table.alpha[0], table.sigma[0]) == (1, 0) and (np.diff(table.log_snr) < 0).all()
    told, x = eight_gaussians().denoiser(schedule.linear()), np.ones((3, 2))
    for w, plain in ((1, told), (0, silent)):
        np.testing.assert_allclose(denoise.guided(told, silent, w)(x, 500), plain(x, 500))
    with pytest.raises(ValueError, match="row 0"):
        told(x, 0)
    wide, thin = (GaussianMixture([1.0], np.zeros((1, d)), W * np.eye(d)[None]) for d in (2, 1))
    losses, bounds = zip(*((noise_loss(g, 0.6, 0.8)[0], elbo.least(g, schedule.cosine(8))[0].sum())
                           for g in (wide, thin)))  # a mean is the same for both, a sum twice
    assert losses[0] == pytest.approx(losses[1]) and bounds[0] == pytest.approx(2 * bounds[1])
