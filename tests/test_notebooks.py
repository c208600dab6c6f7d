"""Chapters and solutions are as the normaliser leaves them, and fit to be read and compared."""

import ast
import base64
import copy
import io
import re
import sys

import nbformat
import numpy as np
import pytest
from conftest import BOOK, CHAPTERS, ROOT, code_cells
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_book import GOOD

import navigation
import normalise
from normal_form import VIEW, dumps, normal_form, read

NOTEBOOKS = normalise.notebooks(CHAPTERS)
TAGS = re.compile(r"imports|navigation|exercise|gallery|cover|parity:minidiff(\.\w+){2,}")
NOT_COMPARED = {}  # (file, cell id) of the cells that nbval may skip or not compare -> reason
MARKER = re.compile(r"(?mi)^\s*#\s*(nbval_\w+|pytest_validate_\w+)")
MACHINE = re.compile(
    r"(?<!\w)/(home|Users|root|tmp|usr|opt)/|\b[A-Z]:\\(Users|Windows)|\b0x[0-9a-f]{6,}")
SANITIZE = get_sanitize_patterns((ROOT / "tests/nbval_sanitize.cfg").read_text("utf-8"))


def sanitized(text):
    for regex, replacement in SANITIZE:
        text = re.sub(regex, replacement, text)
    return text


def faults(nb, name=""):
    """What is wrong with a notebook, one string a fault."""
    code = code_cells(nb)
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts aren't 1..n: nbval would not compare"
    for cell in nb.cells:
        where = f"cell {cell.id}"
        if cell.cell_type not in ("code", "markdown"):
            yield f"{where}: is neither code nor Markdown"
        tags = cell.metadata.get("tags", [])
        yield from (f"{where}: unknown tag {tag}" for tag in tags if not TAGS.fullmatch(tag)
                    and (name, cell.id) not in NOT_COMPARED)
        if MACHINE.search(cell.source):
            yield f"{where}: names a place on one machine"
        if cell.cell_type == "code":
            yield from (f"{where}: {fault}" for fault in code_faults(cell))
            if MARKER.search(cell.source) and (name, cell.id) not in NOT_COMPARED:
                yield f"{where}: is kept from nbval"
            for output in cell.outputs:
                yield from (f"{where}: {fault}" for fault in output_faults(cell, output))


def code_faults(cell):
    lines = cell.source.split("\n")
    if max(map(len, lines)) > 88:
        yield "code is wider than 88 columns"
    try:
        ast.parse(cell.source)
    except SyntaxError:
        yield "isn't plain Python"


def output_faults(cell, output):
    if output.output_type == "error" or output.get("name") == "stderr":
        yield "ends in an error or a warning"
        return
    data = output.get("data", {"text/plain": output.get("text")})
    if VIEW in data:
        yield "shows a widget that is dead without a kernel"
    if "image/png" in data and "plt.show()" not in cell.source:
        yield "draws a figure without plt.show()"
    if "matplotlib" in data.get("text/plain", "") and output.output_type == "execute_result":
        yield "ends in a plotting call, whose result is no news"
    text = "".join(sanitized(data.get(mime, "")) for mime in ("text/plain", "text/html"))
    if MACHINE.search(text):
        yield "shows an address or path of one machine"


def chapter_faults(nb, book, chapter):
    """What is wrong with a notebook as a chapter of the book."""
    if not 20 <= len(nb.cells) <= 170:  # the longest is the U-Net's, for three lectures
        yield f"has {len(nb.cells)} cells, not 20 to 170"
    navigated = navigation.with_navigation(nb.cells, book, chapter)
    if nb.cells != navigated:
        yield "navigation isn't the manifest's"
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    titles = [line for line in text.split("\n") if line.startswith("# ")]
    if len(titles) != 1 or not titles[0].endswith(chapter.title):
        yield f"its title isn't the manifest's: {titles}"
    tags = re.findall(r"\\tag\{(.*?)\}", text)
    if tags != [f"{chapter.number}.{i}" for i in range(1, len(tags) + 1)]:
        yield f"its equations aren't numbered one by one: {tags}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_fit(path):
    assert list(faults(read(path), path.name)) == []
    assert path.stat().st_size < 1.5e6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_in_normal_form(path):
    text = path.read_bytes().decode("utf-8")
    assert dumps(normal_form(read(path))) == text, "run: python book.py normalise"


@pytest.mark.parametrize("chapter", BOOK.chapters, ids=lambda chapter: chapter.file)
def test_chapter_is_of_the_book(chapter):
    assert list(chapter_faults(read(CHAPTERS / chapter.file), BOOK, chapter)) == []


def test_checksums_are_of_these_notebooks():
    written = (CHAPTERS / "checksums.txt").read_bytes().decode("utf-8")
    assert written == normalise.checksums(CHAPTERS), "run: python book.py normalise"


# The rest shows that the checks above, and the normaliser, do what they say.

def png(image):
    """The image as base64 PNG with a note, as matplotlib writes them."""
    file, notes = io.BytesIO(), PngInfo()
    notes.add_text("Software", "Matplotlib 9")
    image.save(file, "png", pnginfo=notes)
    return base64.b64encode(file.getvalue()).decode()


PLOT = Image.new("RGB", (40, 30), "white")
PLOT.paste("#0072B2", (5, 5, 20, 20))
PHOTO = Image.frombytes("RGB", (64, 64), np.random.default_rng(0).bytes(64 * 64 * 3))
PNG = png(PLOT)


def cell(source="1 + 1", outputs=(), count=1, **metadata):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def shown(kind="display_data", **data):
    names = {"png": "image/png", "text": "text/plain", "html": "text/html", "view": VIEW}
    return new_output(kind, {names[key]: value for key, value in data.items()})


FAULTY = {
    "not run": (cell(count=None), "execution counts"),
    "run out of order": (cell(count=7), "execution counts"),
    "raw cell": (nbformat.v4.new_raw_cell("x"), "neither code nor"),
    "misspelt tag": (cell(tags=["parity minidiff.schedule.linear"]), "unknown tag"),
    "skipped by tag": (cell(tags=["nbval-skip"]), "unknown tag nbval-skip"),
    "skipped by comment": (cell("# NBVAL_IGNORE_OUTPUT\n1"), "kept from nbval"),
    "wide": (cell("x = 1" + 84 * "0"), "88 columns"),
    "magic": (cell("%timeit 1"), "plain Python"),
    "path in code": (cell("open('/home/ann/x')"), "one machine"),
    "path in text": (new_markdown_cell(r"see C:\Users"), "one machine"),
    "path in output": (cell(outputs=[new_output("stream", text="/tmp/a.py:1: hm")]), "one machine"),
    "address": (cell(outputs=[shown(text="<f at 0x7f66f12a>")]), "one machine"),
    "warning": (cell(outputs=[new_output("stream", name="stderr", text="hm")]), "a warning"),
    "error": (cell(outputs=[new_output("error", ename="E", evalue="", traceback=[])]), "an error"),
    "figure by itself": (cell("plt.plot(x);", [shown(png=PNG, text="<Figure>")]), "plt.show()"),
    "figure and junk": (cell("plt.show()\nplt.plot(x)", [shown(png=PNG, text="<Figure>"), shown(
        "execute_result", text="[<matplotlib.lines.Line2D>]")]), "no news"),
    "dead widget": (cell(outputs=[shown(view={}, text="x")]), "dead"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_each_fault_is_found(case):
    bad, words = FAULTY[case]
    found = list(faults(new_notebook(cells=[bad])))
    assert len(found) == 1 and words in found[0]


def test_no_fault_where_there_is_none():
    good = [new_markdown_cell(r"$F:\mathbb{R}$, [at home](https://a.org/home/x)"),
            cell(tags=["imports"]),
            cell("plt.plot(x)\nplt.show()", [shown(png=PNG, text="<Figure>")], 2),
            cell("slider", [shown(html="<img src='data:image/png;base64,/tmp/'>", text="s")], 3,
                 tags=["parity:minidiff.schedule.linear"])]
    assert list(faults(new_notebook(cells=good))) == []


def test_each_fault_of_a_chapter_is_found():
    chapter = BOOK.chapters[0]
    body = [new_markdown_cell(f"# {chapter.number}. {chapter.title}"), *(cell() for _ in range(20))]
    good = normal_form(new_notebook(cells=navigation.with_navigation(body, BOOK, chapter)))
    assert list(chapter_faults(good, BOOK, chapter)) == []

    def found(cells):
        nb = nbformat.from_dict(good | {"cells": cells})
        return " ".join(chapter_faults(nb, BOOK, chapter))

    assert "has 23 cells" not in found(good.cells) and "has 12 cells" in found(good.cells[:12])
    assert "navigation" in found(good.cells[1:]) and "navigation" in found(good.cells[:-1])
    assert "title" in found([c for c in good.cells if not c.source.startswith("# ")])
    assert "title" in found([*good.cells, new_markdown_cell("# Another")])
    tagged = {n: new_markdown_cell(rf"$$x \tag{{{chapter.number}.{n}}}$$") for n in (1, 2, 3)}
    assert found([*good.cells, tagged[1], tagged[2]]) == found([*good.cells, cell(), cell()])
    for order in ((2,), (1, 3), (2, 1), (1, 1)):
        assert "equations" in found([*good.cells, *(tagged[n] for n in order)])


def test_normal_form_keeps_what_a_reader_needs():
    messy = new_notebook(metadata={"widgets": {}, "kernelspec": {"name": "", "display_name": ""}})
    messy.cells = [
        new_markdown_cell("# Noise: a walk  \n\ntext \n", id="0c5e3a77", metadata={"x": 1}),
        cell("x = 1  \n", [new_output("stream", text="a\n"), shown(png=PNG, text="fig"),
                           new_output("stream", text="b\n")], tags=["imports"], scrolled=True),
        cell("x = 1", [shown("execute_result", view={"model_id": "1"}, html="<p>", text="w")],
             execution={"started": "now"}, jupyter={"source_hidden": True, "y": 1}),
    ]
    messy.cells[2].outputs[0].metadata = {"text/html": {"isolated": True}}
    before = copy.deepcopy(messy)
    nb = normal_form(messy)
    assert messy == before
    assert nb.metadata == {"kernelspec": {"name": "python3", "display_name": "Python 3",
                                          "language": "python"},
                           "language_info": {"name": "python"}}
    assert [c.id for c in nb.cells] == ["noise-a-walk", "x-1", "x-1-2"]
    assert [c.source for c in nb.cells] == ["# Noise: a walk\n\ntext", "x = 1", "x = 1"]
    assert [c.metadata for c in nb.cells] == [
        {}, {"tags": ["imports"]}, {"jupyter": {"source_hidden": True}}]
    stream, figure = nb.cells[1].outputs
    assert stream.text == "a\nb\n" and figure.data["text/plain"] == "fig"
    bare = figure.data["image/png"]
    assert b"tEXt" in base64.b64decode(PNG) and b"tEXt" not in base64.b64decode(bare)
    assert nb.cells[2].outputs[0].data == {"text/html": "<p>", "text/plain": "w"}
    assert nb.cells[2].outputs[0].metadata == {} and nb.cells[2].outputs[0].execution_count == 1
    assert dumps(normal_form(nb)) == dumps(nb)


def test_ids_somebody_chose_stay_and_are_unique():
    nb = new_notebook()
    nb.cells = [new_markdown_cell("b", id="my-Id_1"), new_markdown_cell("c", id="c"),
                new_markdown_cell("c", id="c"), new_markdown_cell("αβ")]
    assert [c.id for c in normal_form(nb).cells] == ["my-Id_1", "c", "c-2", "cell"]


WIDGET = """# A slider
display({"text/plain": "Slider()", "text/html": "<p>slider</p>",
         "application/vnd.jupyter.widget-view+json": {"model_id": str(id(display))}}, raw=True)"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A small book after `normalise` has run over it once: its root."""
    root = tmp_path_factory.mktemp("book")
    (root / "chapters/solutions").mkdir(parents=True)
    first_part, _, _ = GOOD.rpartition("[[part]]")
    (root / "book.toml").write_text(first_part, encoding="utf-8")
    (root / "README.md").write_text("<!-- contents -->\n<!-- /contents -->\n", encoding="utf-8")
    cells = [new_markdown_cell("# 1. One"), new_code_cell(WIDGET),
             new_code_cell("import os, sys\nos.getcwd().endswith('chapters'), sys.executable,"
                           " os.environ['OMP_NUM_THREADS']")]
    nbformat.write(new_notebook(cells=cells), root / "chapters/01_one.ipynb")
    nbformat.write(new_notebook(cells=[new_code_cell("print('so')")]),
                   root / "chapters/solutions/01_one.ipynb")
    assert normalise.main([], root) == 0
    return root


def test_normalise_runs_navigates_and_sums(scratch):
    nb = read(scratch / "chapters/01_one.ipynb")
    assert [c.id for c in nb.cells] == [
        "nav-head", "1-one", "a-slider", "import-os-sys", "nav-foot"]
    assert [c.execution_count for c in code_cells(nb)] == [1, 2]
    assert nb.cells[2].outputs[0].data == {"text/plain": "Slider()", "text/html": "<p>slider</p>"}
    assert ast.literal_eval(nb.cells[3].outputs[0].data["text/plain"]) == (
        True, sys.executable, "1")
    solution = read(scratch / "chapters/solutions/01_one.ipynb")
    assert [c.outputs[0].text for c in solution.cells] == ["so\n"]
    sums = (scratch / "chapters/checksums.txt").read_text("utf-8")
    assert sums == normalise.checksums(scratch / "chapters")
    assert [line[64:] for line in sums.splitlines()] == [
        "  01_one.ipynb", "  solutions/01_one.ipynb"]
    assert "How it begins." in (scratch / "README.md").read_text("utf-8")


def test_normalise_twice_changes_no_byte(scratch):
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in files]
    assert normalise.main([], scratch) == 0
    assert sorted(path for path in scratch.rglob("*") if path.is_file()) == files
    assert [path.read_bytes() for path in files] == before


def test_normalise_leaves_a_failing_chapter_alone(scratch, capsys):
    path = scratch / "chapters/01_one.ipynb"
    good = path.read_bytes()
    try:
        nb = read(path)
        nb.cells.insert(3, new_code_cell("1 / 0", id="oops"))
        nbformat.write(nb, path)
        before = path.read_bytes()
        assert normalise.main([str(path)], scratch) == 1
        assert path.read_bytes() == before and not list(scratch.rglob("*.part"))
        report = capsys.readouterr().err
        assert "01_one.ipynb: cell 4 (oops)" in report and "ZeroDivisionError" in report
    finally:
        path.write_bytes(good)


def test_normalise_names_a_file_it_cannot_read(scratch, capsys):
    (scratch / "bad.ipynb").write_text("{", encoding="utf-8")
    assert normalise.main([str(scratch / "bad.ipynb"), str(scratch / "no.ipynb")], scratch) == 1
    report = capsys.readouterr().err
    assert "bad.ipynb: " in report and "no.ipynb: " in report and "Traceback" not in report


def test_nbval_compares_widgets_without_their_pixels():
    page = ('<img alt="strip" src="data:image/png;base64,{0}"><script type="application/json" '
            'class="minidiff-payload">{{"frames":["{0}"]}}</script><script>run({1})</script>')
    assert sanitized(page.format("iVBO+/==", 1)) == sanitized(page.format("AAAA", 1))
    assert sanitized(page.format("iVBO+/==", 1)) != sanitized(page.format("iVBO+/==", 2))
    assert 'alt="strip"' in sanitized(page.format("iVBO", 1))


@pytest.mark.parametrize("picture, mode", [(PLOT, "P"), (PHOTO, "RGB")])
def test_a_picture_gets_smaller_where_that_cannot_be_seen(picture, mode):
    """A plot of few colours gets a palette, a photo keeps all of its own; both keep their pixels."""
    nb = new_notebook(cells=[cell("x", [shown(png=png(picture))])])
    small = base64.b64decode(normal_form(nb).cells[0].outputs[0].data["image/png"])
    image = Image.open(io.BytesIO(small))
    assert image.mode == mode and not image.info
    assert image.convert("RGB").tobytes() == picture.tobytes()
