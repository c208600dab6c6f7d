"""The package's floors: imports only point down, the lower ones need little, and all is small."""

import ast
import io
import os
import subprocess
import sys
import tokenize
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import BOOK, CHAPTERS, MATHEMATICS, ROOT, code_cells

from normal_form import read

FLOORS = (  # from the top; within a floor modules may use each other, without a cycle
    ("minidiff",),
    ("show",),
    ("checks", "book"),
    ("train", "recipes", "run", "trained", "metrics", "classifier", "evaluate"),
    ("nn", "data"),
    MATHEMATICS,
    ("errors",),
)
NEEDS = {  # what a floor's modules may import beside the standard library, wherever they do it
    "minidiff": set(), "errors": set(), "book": set(),
    **dict.fromkeys(MATHEMATICS, {"numpy"}),
    "data": {"numpy", "sklearn", "matplotlib", "PIL", "tqdm"},
    "nn": {"numpy", "torch", "safetensors"},
    **dict.fromkeys(("train", "recipes", "run", "classifier"), {"numpy", "torch"}),
    "trained": {"numpy", "torch", "PIL"}, "metrics": {"numpy", "scipy", "sklearn"},
    "evaluate": {"numpy", "scipy"},
    "checks": {"numpy"},
    "show": {"numpy", "matplotlib", "PIL", "ipywidgets", "IPython"},
}
MOST_LINES = 300       # of any file
MOST_CODE_LINES = 2320  # of the package apart from show/ and checks/
MOST_IMPORT_S = 0.25   # of CPU time, for `import minidiff` once NumPy is there
LEVEL = {name: level for level, names in enumerate(reversed(FLOORS)) for name in names}


def modules(root):
    """{full name: path} of the package's modules."""
    paths = {path.relative_to(root).with_suffix(""): path for path in root.glob("minidiff/**/*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def imported(source, known=(), package=""):
    """Full names of the modules that the source imports, at its top or in a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{package}: imports must name minidiff in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def floor_of(name):
    """The part of the package, or the library, that a full name belongs to."""
    top, _, rest = name.partition(".")
    return rest.split(".")[0] or top if top == "minidiff" else top


def floor_faults(root):
    """What breaks the floors in the package under `root`, one string a fault."""
    known = modules(root)
    graph = {name: {n for n in imported(path.read_text("utf-8"), known, name) if n != name}
             for name, path in known.items()}
    for name, uses in graph.items():
        here = floor_of(name)
        if here not in LEVEL:
            yield f"{name} stands on no floor"
            continue
        for used in uses:
            there = floor_of(used)
            if used.split(".")[0] == "minidiff":
                if LEVEL.get(there, -1) > LEVEL[here]:
                    yield f"{name} imports {used}, which is above it"
            elif there not in NEEDS[here] and there not in sys.stdlib_module_names:
                yield f"{name} imports {used}, which its floor does without"
    inside = {name: {n for n in uses if n in known} for name, uses in graph.items()}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        yield f"imports go round: {' -> '.join(error.args[1])}"


def code_lines(source):
    """Lines of code: not blank, not comment, not docstring."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
                              tokenize.DEDENT, tokenize.ENDMARKER):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node) is not None:
                lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def python(code):
    """What a fresh Python prints that runs the code beside the chapters."""
    done = subprocess.run([sys.executable, "-c", code], cwd=CHAPTERS, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_only_point_down():
    assert list(floor_faults(ROOT)) == []


def test_no_file_is_long():
    long = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules(ROOT).items()}
    assert {name: n for name, n in long.items() if n > MOST_LINES} == {}


def test_package_is_small(capsys):
    counts = {name: code_lines(path.read_text("utf-8")) for name, path in modules(ROOT).items()}
    total = sum(n for name, n in counts.items() if floor_of(name) not in ("show", "checks"))
    with capsys.disabled():
        print(f"\nminidiff: {total} lines of code apart from show/ and checks/, "
              f"{sum(counts.values())} with them")
    assert total < MOST_CODE_LINES


def test_import_is_light_and_quick():
    code = ("import numpy, sys, time; start = time.process_time(); import minidiff; "
            "print(time.process_time() - start, {'torch', 'matplotlib'} & set(sys.modules))")
    seconds, heavy = zip(*(python(code).split(maxsplit=1) for _ in range(3)))
    assert {text.strip() for text in heavy} == {"set()"}
    assert min(map(float, seconds)) <= MOST_IMPORT_S


@pytest.mark.parametrize("chapter", [c for c in BOOK.chapters if not c.torch], ids=lambda c: c.file)
def test_numpy_chapter_runs_without_torch(chapter):
    nb = read(CHAPTERS / chapter.file)
    assert [name for cell in code_cells(nb) for name in imported(cell.source, modules(ROOT))
            if floor_of(name) in ("torch", "nn", "train")] == []
    imports = [cell.source for cell in code_cells(nb, "imports")]
    assert imports, "a chapter's import cell has the tag `imports`"
    python("\n".join(["import sys; sys.modules['torch'] = None", *imports]))


# The rest shows that the checks above can fail.

PACKAGE = {
    "__init__": "from minidiff import process",
    "errors": "import math",
    "schedule": "import numpy as np\nfrom minidiff.errors import require",
    "process": "from minidiff.schedule import read",
    "data/__init__": "from minidiff.data.clouds import moons",
    "data/clouds": "import numpy as np\nfrom minidiff import process",
    "show/__init__": "import matplotlib.pyplot as plt\nfrom minidiff.data import moons",
}
BROKEN = {
    "an arrow up": ("process", "from minidiff import data", "minidiff.data, which is above it"),
    "an arrow up in a function": ("errors", "def f():\n    import minidiff.schedule", "above it"),
    "an arrow to the roof": ("schedule", "from minidiff import __version__", "above it"),
    "torch in mathematics": ("process", "def f():\n    import torch.nn", "floor does without"),
    "matplotlib in mathematics": ("schedule", "from matplotlib import cm", "floor does without"),
    "a circle": ("schedule", "from minidiff.process import diffuse", "imports go round"),
    "a module without a floor": ("utils", "x = 1", "stands on no floor"),
}


def package_with(root, **changed):
    for name, source in {**PACKAGE, **changed}.items():
        path = root / "minidiff" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_a_sound_package_has_no_fault(tmp_path):
    assert list(floor_faults(package_with(tmp_path))) == []


@pytest.mark.parametrize("case", BROKEN)
def test_floors_notice(tmp_path, case):
    name, source, words = BROKEN[case]
    found = list(floor_faults(package_with(tmp_path, **{name: source})))
    assert words in " | ".join(found)


def test_code_lines_are_counted():
    assert code_lines('"""Doc\n\nstring."""\n\n# why\nx = (1,\n\n     2)  # two\n\n\n'
                      'def f():\n    "Doc."\n    return """a\n\nb"""\n') == 6
