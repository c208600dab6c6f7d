"""What a chapter builds before the reader's eyes is what the package has.

A cell tagged `parity:minidiff.<module>.<name>` defines that name and nothing else. It runs with
the chapter's `imports` cells and its other tagged ones; then both are tried on the same inputs.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping

import minidiff
import numpy as np
import pytest
from conftest import BOOK, CHAPTERS, MATHEMATICS, code_cells
from nbformat.v4 import new_code_cell, new_notebook
from parity_inputs import TRIALS

from normal_form import read

PREFIX = "parity:"
TOLERANCE = 1e-12
NOT_BUILT = {  # what these modules export and no chapter builds -> why
    "minidiff.data.cifar10": "a loader: an archive and its bytes",
    "minidiff.data.digits": "a loader: scikit-learn has the work and the merit",
    "minidiff.data.eight_gaussians": "a list of means: nothing in it to derive",
    "minidiff.data.photo": "a loader: matplotlib has the picture",
    "minidiff.data.shapes": "geometry, and nothing of diffusion",
    "minidiff.data.two_moons": "a list of means: nothing in it to derive",
    "minidiff.denoise.noisy": "a check of an argument",
    "minidiff.denoise.unmix": "the box of chapter 3, which stands in the denoiser that it builds",
    "minidiff.elbo.bits": "a unit",
    "minidiff.elbo.entropy": "one call of quadrature.expect",
    "minidiff.mixture.GaussianMixture": "a class; chapter 2 builds its score and checks it against this",
    "minidiff.process.noise_like": "one call of the library's own, NumPy's or torch's",
    "minidiff.sampler.last": "the end of a loop",
    "minidiff.schedule.Schedule": "two arrays and their checks: its docstring says it all",
    "minidiff.schedule.read": "array indexing for two libraries, no mathematics",
}


def parity_names(nb):
    """The names that the notebook's cells are tagged with, in order."""
    return [tag.removeprefix(PREFIX) for cell in code_cells(nb, PREFIX)
            for tag in cell.metadata.tags if tag.startswith(PREFIX)]


def built(nb, name):
    """The function or class that the notebook builds under this full name."""
    namespace, short, found = {"__name__": "__main__"}, name.rpartition(".")[2], None
    for cell in code_cells(nb, "imports", PREFIX):
        exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)
        if PREFIX + name in cell.metadata.tags:
            defined = [getattr(node, "name", ast.unparse(node))
                       for node in ast.parse(cell.source).body]
            assert defined == [short], f"the cell must define {short} and nothing else: {defined}"
            found = namespace[short]
    return found  # which finds the names of later cells, as in a notebook that has run to its end


def packaged(name):
    """The package's own."""
    module, _, short = name.rpartition(".")
    return getattr(importlib.import_module(module), short)


def leaves(value):
    """The arrays and words that a result is made of, in order."""
    if isinstance(value, str) or value is None:
        yield value
    elif hasattr(value, "dtype") or isinstance(value, (bool, int, float, complex)):
        yield np.asarray(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name
            yield from leaves(getattr(value, field.name))
    else:
        assert isinstance(value, Iterable), f"a trial must return something to compare, not {value}"
        for item in value:
            yield from leaves(item)


def same(a, b):
    """Whether two leaves agree: words exactly, arrays in shape and type and to 1e-12."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and np.allclose(
            a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    return type(a) is type(b) and a == b


def check(nb, name, trials=TRIALS):
    """Fail unless the notebook's and the package's `name` agree on their trial."""
    assert name in trials, f"{name} needs a line in tests/parity_inputs.py"
    ours, theirs = (list(leaves(trials[name](function, np.random.default_rng(0))))
                    for function in (built(nb, name), packaged(name)))
    assert any(isinstance(leaf, np.ndarray) and leaf.size for leaf in theirs), "nothing to compare"
    assert len(ours) == len(theirs), f"{name}: {len(ours)} values, not {len(theirs)}"
    for a, b in zip(ours, theirs):
        assert same(a, b), f"{name}: the chapter says {a}, the package {b}"


def exports(modules=(*MATHEMATICS, "data")):
    """The full names of the functions and classes that these modules define for others."""
    found = {module.name for module in pkgutil.iter_modules(minidiff.__path__)}
    for module in (importlib.import_module(f"minidiff.{m}") for m in modules if m in found):
        for short, value in vars(module).items():
            home = getattr(value, "__module__", "")
            if ((inspect.isfunction(value) or inspect.isclass(value)) and short[0] != "_"
                    and f"{home}.".startswith(f"{module.__name__}.")):
                yield f"{module.__name__}.{short}"


NOTEBOOKS = {chapter.file: read(CHAPTERS / chapter.file) for chapter in BOOK.chapters
             if (CHAPTERS / chapter.file).exists()}
TAGGED = [(file, name) for file, nb in NOTEBOOKS.items() for name in parity_names(nb)]


@pytest.mark.parametrize("file, name", TAGGED)
def test_chapter_builds_what_the_package_has(file, name):
    check(NOTEBOOKS[file], name)


def test_every_trial_is_of_something_a_chapter_builds():
    assert sorted(TRIALS) == sorted(name for _, name in TAGGED)


def test_every_export_is_built_by_a_chapter_or_has_a_reason():
    missing = set(exports()) - {name for _, name in TAGGED}
    assert missing == set(NOT_BUILT), "NOT_BUILT must hold what no chapter builds, and only that"
    assert all(NOT_BUILT.values())


# The rest shows that the checks above can fail.

IMPORTS = "import numpy as np\nfrom dataclasses import dataclass"
NOISE = "def noise_like(x, rng):\n    return rng.standard_normal(x.shape)"
POSTERIOR = """def posterior(schedule, s, t):
    scale = schedule.alpha[t] / schedule.alpha[s]
    variance = schedule.sigma[t]**2 - scale**2 * schedule.sigma[s]**2
    c0 = schedule.alpha[s] * variance / schedule.sigma[t]**2
    ct = scale * schedule.sigma[s]**2 / schedule.sigma[t]**2
    return c0, ct, variance * schedule.sigma[s]**2 / schedule.sigma[t]**2"""
TABLE = "@dataclass\nclass Schedule:\n    alpha: np.ndarray\n    sigma: np.ndarray"
NAMES = ("minidiff.process.noise_like", "minidiff.process.posterior", "minidiff.schedule.Schedule")
TRY = {
    NAMES[0]: lambda f, rng: [f(rng.random((5, 2)), rng), rng.random()],
    NAMES[1]: lambda f, rng: (f(minidiff.schedule.linear(20), t - 1, t) for t in (1, 2, 20)),
    NAMES[2]: lambda f, rng: {"table": f(np.array([1, 0.6]), np.array([0, 0.8]))},
}


def scratch(name, source):
    """A notebook with an import cell, a cell that isn't tagged, and the tagged one."""
    return new_notebook(cells=[new_code_cell(IMPORTS, metadata={"tags": ["imports"]}),
                               new_code_cell("raise RuntimeError('not tagged')"),
                               new_code_cell(source, metadata={"tags": [PREFIX + name]})])


@pytest.mark.parametrize("name, source", [*zip(NAMES, (NOISE, POSTERIOR, TABLE))])
def test_parity_of_what_is_the_same(name, source):
    nb = scratch(name, source)
    assert parity_names(nb) == [name]
    check(nb, name, TRY)


WRONG = {
    "a sign": (NAMES[1], POSTERIOR, "- scale**2", "+ scale**2", "the chapter says"),
    "a square": (NAMES[1], POSTERIOR, "variance * schedule.sigma[s]**2",
                 "variance * schedule.sigma[s]", "the chapter says"),
    "an index": (NAMES[1], POSTERIOR, "scale * schedule.sigma[s]", "scale * schedule.sigma[t]",
                 "the chapter says"),
    "a value less": (NAMES[1], POSTERIOR, "return c0, ct,", "return c0,", "values"),
    "a type": (NAMES[0], NOISE, "(x.shape)", "(x.shape, dtype=np.float32)", "the chapter says"),
    "a draw more": (NAMES[0], NOISE, "return", "rng.random(); return", "the chapter says"),
    "a field": (NAMES[2], TABLE, "sigma", "noise", "the chapter says"),
    "another name": (NAMES[0], NOISE, "noise_like", "noise", "and nothing else: .'noise'"),
    "something more": (NAMES[0], NOISE, NOISE, f"{NOISE}\nx = 1", "and nothing else: .*x = 1"),
    "an import": (NAMES[0], NOISE, NOISE, "from minidiff.process import noise_like", "import"),
}


@pytest.mark.parametrize("case", WRONG)
def test_parity_fails_on(case):
    name, source, old, new, words = WRONG[case]
    assert old in source
    with pytest.raises(AssertionError, match=words):
        check(scratch(name, source.replace(old, new)), name, TRY)


def test_parity_fails_without_a_trial_or_with_an_empty_one():
    nb = scratch(NAMES[0], NOISE)
    with pytest.raises(AssertionError, match="needs a line"):
        check(nb, NAMES[0], {})
    with pytest.raises(AssertionError, match="nothing to compare"):
        check(nb, NAMES[0], {NAMES[0]: lambda f, rng: []})
    with pytest.raises(AssertionError, match="something to compare"):
        check(nb, NAMES[0], {NAMES[0]: lambda f, rng: f})


def test_exports_are_public_and_at_home():
    names = set(exports(("schedule", "process", "data")))
    assert {"minidiff.schedule.linear", "minidiff.schedule.Schedule", "minidiff.data.digits",
            "minidiff.process.posterior"} <= names
    assert not names & {"minidiff.process._ordered", "minidiff.process.require",
                        "minidiff.schedule.dataclass"}
