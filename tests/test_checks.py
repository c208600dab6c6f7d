"""The exercises' checks: they tell right from wrong, name the error, and are calm at nonsense."""

import contextlib
import importlib
import inspect
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import BOOK, CHAPTERS, code_cells

import minidiff.checks
from minidiff.checks import cifar10, noise, unet
from minidiff.checks.judge import Exercise
from minidiff.checks.reply import outcome
from minidiff.denoise import clipped, guided
from normal_form import read

MODULES = {path.stem for path in Path(minidiff.checks.__file__).parent.glob("*.py")} - {
    "__init__", "judge", "reply"}


def exercises(module):
    """{name: check} of a module of checks, in its order."""
    members = vars(importlib.import_module(f"minidiff.checks.{module}"))
    return {name: value for name, value in members.items() if isinstance(value, Exercise)}


ALL = {f"{module}.{name}": exercise for module in sorted(MODULES)
       for name, exercise in exercises(module).items()}
FUNCTIONS = [name for name in ALL if callable(ALL[name].right)]
VALUES = [name for name in ALL if name not in FUNCTIONS]
TYPICAL = [(name, n) for name in ALL for n in range(len(ALL[name].typical))]


def then(answer, change):
    """The answer, or what the answer as a function gives, changed."""
    if not callable(answer):
        return change(answer)
    names = ", ".join(inspect.signature(answer).parameters)
    return eval(f"lambda {names}: change(answer({names}))", {"answer": answer, "change": change})


def example(exercise, answer):
    """What an answer gives in the first case."""
    return outcome(answer, next(iter((exercise.cases or {"": ()}).values())))


# Right answers.

FORMS = {
    "as it is": lambda x: x,
    "list": lambda x: list(x) if isinstance(x, tuple) else np.asarray(x).tolist(),
    "arrays": lambda x: tuple(map(np.array, x)) if isinstance(x, tuple) else np.array(x),
    "float32": lambda x: tuple(map(np.float32, x)) if isinstance(x, tuple) else np.float32(x),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALL)
def test_right_is_right_in_any_form(name, form):
    exercise = ALL[name]
    assert exercise.verdict(then(exercise.right, FORMS[form])) == f"Right. {exercise.praise}"


def test_slider_is_read_to_five_steps():
    def right(*answer):
        return noise.crossing.verdict(answer).startswith("Right.")
    assert right(254, 491) and right(264, 501) and right(259.5, 500)
    assert not (right(249, 496) or right(270, 496) or right(259, 480) or right(259, 512))


def test_noise_of_another_generator_is_right_and_two_percent_too_much_is_not():
    for seed in range(10):
        def noised(schedule, x0, t, rng, own=np.random.default_rng(seed)):
            return noise.noised.right(schedule, x0, t, own)
        assert noise.noised.verdict(noised).startswith("Right.")
    loud = noise.noised_with(np.sqrt, lambda v: 1.02 * np.sqrt(v), noise.normal)
    assert "your noise's variance is off by 4 %." in noise.noised.verdict(loud)


# Typical errors.

NUMBER = r"-?[\d.]+(e-\d+)?"
AMOUNT = re.compile(
    rf"(Your [\w' ]+ is right\. )*(At .+, y|Y)our [\w' ]+ is "
    rf"({NUMBER} times what it should be|{NUMBER} and should be {NUMBER}|off by {NUMBER} %)\.")


def parts_of(exercise, wrong):
    """A wrong answer; of a tuple one for each part that it speaks of, where only that is wrong."""
    first = example(exercise, wrong)
    if not isinstance(first, tuple):
        return [wrong]

    def only(i, *inputs):
        both = zip(outcome(wrong, inputs), outcome(exercise.right, inputs))
        return tuple(w if i == j else r for j, (w, r) in enumerate(both))

    touched = [i for i, part in enumerate(first) if not np.isnan(part).any()]
    if not callable(wrong):
        return [only(i) for i in touched]
    return [lambda *inputs, i=i: only(i, *inputs) for i in touched]


@pytest.mark.parametrize("name, n", TYPICAL)
def test_typical_error_is_named_with_its_amount(name, n):
    exercise = ALL[name]
    wrong, sentence = exercise.typical[n]
    for answer in parts_of(exercise, wrong):
        verdict = exercise.verdict(answer)
        assert verdict.endswith(f" {sentence}") and AMOUNT.fullmatch(
            verdict.removesuffix(f" {sentence}")), verdict


@pytest.mark.parametrize("name", ALL)
def test_typical_errors_have_each_its_sentence(name):
    sentences = [sentence for _, sentence in ALL[name].typical]
    assert len(set(sentences)) == len(sentences) >= 3


# Nonsense.

def raises(*inputs):
    raise KeyError("no such thing")


def endless(*inputs):
    return endless(*inputs)


NO_FUNCTION = {"None": (None, "dots"), "dots": (..., "dots"), **{
    str(type(thing).__name__): (thing, "wants the function itself")
    for thing in ("text", 7, (1, 2), np.zeros(3), {})}}
BAD_FUNCTION = {
    "a stub": (lambda *_: None, "gives nothing back"),
    "a stub of dots": (lambda *_: ..., "gives nothing back"),
    "no arguments": (lambda: 1, r"should take \d arguments: \w"),
    "an exception": (raises, r"stops with KeyError: 'no such thing'"),
    "a bare exception": (lambda *_: next(iter(())), r"stops with StopIteration$"),
    "endless": (endless, "stops with RecursionError"),
    "compiled": (dict.fromkeys, "stops with TypeError|you have|should take"),
    "text": (lambda *_: "text", "you have text"),
    "a dict": (lambda *_: {}, "you have something of type dict"),
    "complex": (lambda *_: np.full((1, 1), 1j), "wanted"),
    "ragged": (lambda *_: [1, [2, [3]]], "numbers are wanted|results are wanted"),
    "wrong shape": (lambda *_: np.zeros((2, 3)), r"is of shape \(\d|results are wanted"),
    "too many": (lambda *_: (1, 2, 3), "results are wanted|shape"),
    "a generator": (lambda *_: (x for x in "ab"), "you have something of type generator"),
}
BAD_VALUE = {
    "text": ("text", "you have text"), "a function": (abs, "wants numbers"),
    "a dict": ({}, "you have something of type dict"), "complex": (1j, "wanted"),
    "too many": ((1, 2, 3), "results are wanted|shape"), "a truth value": (True, "a truth value"),
    "None": (None, "dots"), "dots": (..., "dots"),
}


def said(exercise, answer, capsys):
    """What a check prints; it returns nothing, so that a cell shows only that."""
    assert exercise(answer) is None
    printed, warned = capsys.readouterr()
    assert warned == "" and max(map(len, printed.splitlines())) < 80
    return " ".join(printed.split())


@pytest.mark.parametrize("case", [*NO_FUNCTION, *BAD_FUNCTION])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nonsense_for_a_function_gets_a_word(name, case, capsys):
    answer, words = {**NO_FUNCTION, **BAD_FUNCTION}[case]
    verdict = said(ALL[name], answer, capsys)
    assert re.search(words, verdict) and not verdict.startswith("Right"), verdict


@pytest.mark.parametrize("case", BAD_VALUE)
@pytest.mark.parametrize("name", VALUES)
def test_nonsense_for_a_value_gets_a_word(name, case, capsys):
    answer, words = BAD_VALUE[case]
    verdict = said(ALL[name], answer, capsys)
    assert re.search(words, verdict) and verdict.startswith(("Not yet", "Your")), verdict


@pytest.mark.parametrize("name", ALL)
def test_nan_gets_a_word(name, capsys):
    def nan(x):
        return tuple(map(nan, x)) if isinstance(x, tuple) else np.nan * x
    verdict = said(ALL[name], then(ALL[name].right, nan), capsys)
    assert "is nan: a division by zero" in verdict and "usual errors" not in verdict


@pytest.mark.parametrize("name", VALUES)
def test_a_dot_left_over_is_seen(name):
    answer = then(ALL[name].right, lambda x: (*x[:-1], ...) if isinstance(x, tuple) else ...)
    assert ALL[name].verdict(answer).startswith("Not yet: put your answer in the place of the dots")


# What an answer looks like when it is no typical one.

X = np.array([[0.2, 0.5, 0.7], [0.9, 0.1, 0.3]])
TOY = Exercise(right=lambda x: x, typical=((lambda x: x + x**2, "Squared."),), praise="Yes.",
               cases={"small": (X,), "large": (10 * X,)}, parts=("x",))
PATTERNS = {
    "sign": (lambda x: -x, "At small, in place [1, 0], your x is -0.9 and should be 0.9. The size "),
    "inverse": (lambda x: 1 / x, "one over the right"),
    "complement": (lambda x: 1 - x, "one minus the right"),
    "root": (np.sqrt, "square root of the right"),
    "square": (lambda x: x**2, "square of the right"),
    "factor": (lambda x: 3 * x, "your x is 3 times what it should be. The factor is the same"),
    "offset": (lambda x: x + 3, "The difference is the same"),
    "transposed": (lambda x: x.T, "is of shape (3, 2) and should be of shape (2, 3). It is transp"),
    "one case": (lambda x: x.clip(0, 1), "At large, in place [1, 0], your x is 0.11 times what it "
                 "should be. But it is right at small. What is special there?"),
    "no pattern": (lambda x: x**3, "pencil and paper"),
    "infinite": (lambda x: x / 0, "At small, in place [0, 0], your x is inf: a division by zero"),
    "a NaN": (lambda x: np.where(x == 0.1, np.nan, x), "At small, in place [1, 1], your x is nan: "
              "a division by zero, or the root or logarithm of a negative number? But it is right "
              "at large."),
    "one row": (lambda x: x[0], "At small, your x is of shape (3,) and should be of shape (2, 3)."),
    "a number": (lambda x: 0.5, "your x is a single number and should be of shape (2, 3)."),
    "typical": (lambda x: x + x**2, "At large, in place [1, 0], your x is 10 times what it should "
                "be. Squared."),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_pattern_is_seen(case):
    answer, words = PATTERNS[case]
    with warnings.catch_warnings(action="error"):
        assert words in TOY.verdict(answer)


def test_one_number_is_not_called_off_by_a_factor():
    verdict = Exercise(right=0.4, typical=(), praise="").verdict(0.7)
    assert verdict.startswith("Your answer is 1.7 times") and "everywhere" not in verdict


def test_an_answer_cannot_disturb_the_check():
    def writes(x):
        result = x.copy()
        x[:] = 0
        return result

    buffer = np.empty_like(X)

    def reuses(x):
        buffer[:] = x
        return buffer

    for _ in range(2):
        assert TOY.verdict(writes) == TOY.verdict(reuses) == "Right. Yes."


# Chapter 8's guided step, which its prose says two things of.

def test_guided_step_is_the_packages():
    for told, untold, table, w, x, s, t in unet.guided_step.cases.values():
        x0, eps = clipped(guided(told, untold, w), table)(x, t)
        alpha, sigma = table.at(s, x)
        mine = unet.guided_step.right(told, untold, table, w, x, s, t)
        assert np.allclose(mine, alpha * x0 + sigma * eps, rtol=0, atol=1e-12)


def test_the_chapters_broken_step_is_recognised():
    def broken(told, untold, schedule, w, x, s, t):
        x0, eps = told(x, t)
        other_x0, other_eps = untold(x, t)
        x0, other_x0 = x0.clip(-1, 1), other_x0.clip(-1, 1)
        x0 = x0 + w * (x0 - other_x0)
        eps = eps + w * (eps - other_eps)
        alpha, sigma = schedule.at(s, x)
        return alpha * x0 + sigma * eps

    verdict = unet.guided_step.verdict(broken)
    assert all(words in verdict for words in ("At w = 1", "goes out again", "your eps don't make x"))


# Chapter 9's answers, beside what they are about.

def test_cost_is_what_pytorch_counts():
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    from torch.utils.flop_counter import FlopCounterMode

    from minidiff.nn.blocks import Attention, Residual
    E = 8
    for size, n, m in cifar10.cost.cases.values():
        with torch.device("meta"):
            blocks = (Residual(n, m, E, 4, 0.0), Attention(m, 4, 2))
            given = ((torch.empty(1, n, size, size), torch.empty(1, E)),
                     (torch.empty(1, m, size, size),))
        counted = []
        for block, arguments in zip(blocks, given):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                block(*arguments)
            counted.append(counter.get_total_flops())
        assert (counted[0] - 2 * E * m, counted[1]) == cifar10.cost.right(size, n, m)


def test_weights_are_min_snr_of_v():
    pytest.importorskip("torch", reason="the torch extra is not installed")
    from minidiff.recipes import min_snr
    from minidiff.schedule import cosine

    table = cosine(100)
    for gamma in (0.5, 5.0):
        of_eps, capped = cifar10.weights.right(table.alpha[1:], table.sigma[1:], gamma)
        assert np.allclose(capped, min_snr(table, "v", gamma)[1:], rtol=1e-9, atol=0)
        assert np.allclose(of_eps, min_snr(table, "v", np.inf)[1:], rtol=1e-9, atol=0)


def by_pieces(mean_a, cov_a, mean_b, cov_b):
    """Through the symmetric product, with each sum written out."""
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    mixed = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root)).sum()
    return sum((mean_a - mean_b) ** 2) + sum(np.diag(cov_a + cov_b)) - 2 * mixed


FRECHET = {
    "the symmetric product": by_pieces,
    "eigenvalues": lambda a, A, b, B: (
        np.linalg.norm(a - b) ** 2
        + np.trace(A + B) - 2 * np.sqrt(np.linalg.eigvals(A @ B).real).sum()),
    "SciPy's root": lambda a, A, b, B: (
        (a - b) @ (a - b) + np.trace(
            A + B - 2 * pytest.importorskip("scipy.linalg").sqrtm(A @ B).real)),
    "Cholesky and singular values": lambda a, A, b, B: (
        (a - b) @ (a - b) + np.trace(A) + np.trace(B) - 2 * np.linalg.svd(
            np.linalg.cholesky(A).T @ np.linalg.cholesky(B), compute_uv=False).sum()),
}


@pytest.mark.parametrize("way", FRECHET)
def test_frechet_is_right_by_any_way(way):
    assert cifar10.frechet.verdict(FRECHET[way]).startswith("Right. ")


def test_scaled_takes_whole_numbers():
    def whole(*given):
        steps, warmup, lr, half_life = cifar10.scaled.right(*given)
        return round(steps), round(warmup), lr, round(half_life)

    assert cifar10.scaled.verdict(whole).startswith("Right. ")


# Its two mistakes: what is said of them, and that they are no more than that.

def test_mistake_a_takes_neighbours_of_a_colour_for_a_pixels_colours():
    raw = np.arange(2 * 3072).reshape(2, 3072)
    images = cifar10.mistake_a(raw)
    assert images.shape == (2, 3, 32, 32)
    assert np.array_equal(images[1, :, 0, 0], raw[1, :3])
    assert np.array_equal(np.sort(images.reshape(2, -1)), raw)


def test_mistake_b_leaves_out_the_last_row():
    torch = pytest.importorskip("torch", reason="the torch extra is not installed")
    from minidiff.recipes import TINY
    asked = []

    def network(x, c, labels):
        asked.append(float(c))
        return torch.zeros_like(x)

    cifar10.mistake_b(network, TINY, None, torch.ones(1, 1, 8, 8), steps=5)
    assert np.allclose(asked, TINY.levels[[800, 600, 400, 200]])


# The chapters: an exercise has a check and a solution, and the other way round.

def answers(path):
    """[(check, what it says)] of the notebook's exercises, which are run one after the other."""
    namespace, found = {}, []
    for cell in code_cells(read(path), "imports", "exercise"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(cell.source, namespace)
        if "exercise" in cell.metadata.tags:
            call, = re.findall(r"^check\.(\w+)\(", cell.source, re.MULTILINE)
            found.append((call, printed.getvalue()))
    return found


@pytest.mark.parametrize("chapter", BOOK.chapters, ids=lambda chapter: chapter.file)
def test_exercise_check_and_solution_belong_together(chapter):
    subject = chapter.file[3:].removesuffix(".ipynb")
    assert subject in MODULES
    empty = answers(CHAPTERS / chapter.file)
    solved = answers(CHAPTERS / "solutions" / chapter.file)
    assert 3 <= len(empty) <= 5
    assert [name for name, _ in empty] == [name for name, _ in solved] == list(exercises(subject))
    assert all(words.startswith("Not yet: ") for _, words in empty)
    assert all("Right. " in words for _, words in solved)


def test_all_checks_and_solutions_are_of_chapters():
    files = {chapter.file for chapter in BOOK.chapters}
    assert MODULES <= {file[3:].removesuffix(".ipynb") for file in files}
    assert {path.name for path in CHAPTERS.glob("solutions/*.ipynb")} <= files
