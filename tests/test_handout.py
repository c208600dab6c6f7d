"""The handout: a class gets every chapter and whatever runs it, and no answers."""

import subprocess
import sys

import nbformat
import pytest
from conftest import BOOK, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_book import GOOD

import handout
import normalise
from normal_form import dumps, normal_form, read

STUB = 'def kick(a, v):\n    """The kick."""\n    ...\n\n\ncheck.kick(kick)'
SOLVED = 'def kick(a, v):\n    """The b."""\n    return (v * (1 - a**2)) ** 0.5\n\n\ncheck.kick(kick)'
ANSWER = "<details>\n<summary><b>A</b></summary>\n\nThe root was lost.\n</details>"


def exercise(source, said="Not yet: put your answer in the place of the dots."):
    return new_code_cell(source, id="check-kick", execution_count=1, metadata={
        "tags": ["exercise"]}, outputs=[new_output("stream", text=said)])


def chapter(*cells):
    return normal_form(new_notebook(cells=[new_markdown_cell("# 1. One", id="title"), *cells]))


@pytest.fixture
def root(tmp_path):
    """A small book of one chapter, with its solution."""
    root = tmp_path / "book"
    (root / "chapters/solutions").mkdir(parents=True)
    (root / "chapters/records").mkdir()
    (root / "chapters/notation.md").write_text("# Notation\n")
    (root / "chapters/records/runs.csv").write_text("seed,loss\n")
    (root / "minidiff/__pycache__").mkdir(parents=True)
    (root / "minidiff/__pycache__/x.pyc").write_text("compiled")
    (root / "minidiff/__init__.py").write_text('"""The package."""\n')
    for file in handout.FILES:
        (root / file).write_text(f"{file}\n")
    (root / "book.toml").write_text(GOOD.rpartition("[[part]]")[0], encoding="utf-8")
    save(root, chapter(
        new_markdown_cell(f"Guess.\n\n{ANSWER}\n\n{ANSWER}\n\nGo on.", id="diagnosis"),
        new_markdown_cell("Do it.\n\nSee [them](solutions/01_one.ipynb).", id="intro"),
        exercise(STUB)))
    nbformat.write(chapter(exercise(SOLVED, "Right. Indeed.")),
                   root / "chapters/solutions/01_one.ipynb")
    return root


def save(root, nb):
    nbformat.write(nb, root / "chapters/01_one.ipynb")


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def test_handout_has_what_a_student_needs_and_no_answers(root, capsys):
    before = files(root)
    assert handout.main([], root) == 0
    made = files(root / "handout")
    assert set(made) == {*handout.FILES, "README.md", "minidiff/__init__.py",
                         "chapters/01_one.ipynb", "chapters/checksums.txt",
                         "chapters/records/runs.csv", "chapters/notation.md"}
    assert {name: before[name] for name in handout.FILES} == {
        name: made[name] for name in handout.FILES}
    assert all(name.startswith("handout/") or before[name] == data
               for name, data in files(root).items())
    nb = read(root / "handout/chapters/01_one.ipynb")
    assert [cell.source for cell in nb.cells] == [
        "# 1. One", "Guess.\n\n*Your answer:*\n\n*Your answer:*\n\nGo on.", "Do it.", STUB]
    assert nb.cells[-1].outputs[0].text.startswith("Not yet")
    assert dumps(nb) == dumps(normal_form(nb))
    assert "chapters/01_one.ipynb" in made["README.md"].decode()
    assert "handout" in capsys.readouterr().out


def test_handout_is_written_anew_where_it_was(root):
    handout.main([], root)
    first = files(root / "handout")
    (root / "handout/chapters/00_gone.ipynb").write_text("an old chapter")
    (root / "handout/.venv").mkdir()
    assert handout.main([], root) == 0
    assert files(root / "handout") == first and (root / "handout/.venv").exists()


@pytest.mark.parametrize("name", ["other", "a file", "chapters/handout", "minidiff", ".", ".."])
def test_other_folders_are_left_alone(root, name, capsys):
    (root / "other").mkdir()
    (root / "other/README.md").write_text("my own\n")
    (root / "a file").write_text("mine\n")
    before = files(root.parent)
    assert handout.main([name], root) == 1
    assert files(root.parent) == before and not (root / "chapters/handout").exists()
    assert "folder must be" in capsys.readouterr().err


def test_an_empty_folder_anywhere_will_do(root, tmp_path):
    (tmp_path / "class").mkdir()
    assert handout.main([str(tmp_path / "class")], root) == 0
    assert (tmp_path / "class/chapters/01_one.ipynb").exists()


@pytest.mark.parametrize("words, cell", [
    ("an exercise to be done", exercise(STUB.replace("...", "return 2"), "Right. Indeed.")),
    ("without the solution", exercise(SOLVED.replace('"""The b."""', "# mine"))),
    ("without the solution", new_code_cell(SOLVED.partition("\n\n\n")[0], id="check-kick")),
    ("unclosed", new_markdown_cell("<details>\nIt is 3.", id="check-kick")),
])
def test_a_chapter_with_an_answer_is_refused(root, words, cell, capsys):
    save(root, chapter(cell))
    assert handout.main([], root) == 1
    report = capsys.readouterr().err
    assert "01_one.ipynb: cell check-kick must be" in report and words in report
    assert not (root / "handout").exists()


def test_the_book_itself_can_be_handed_out(tmp_path):
    folder = tmp_path / "class"
    assert handout.main([str(folder)]) == 0
    assert sorted(p.name for p in folder.glob("chapters/*")) == sorted(
        [c.file for c in BOOK.chapters] + ["checksums.txt", "notation.md", "records", "weights"])
    assert normalise.checksums(folder / "chapters") == (
        folder / "chapters/checksums.txt").read_text("utf-8")
    for path in folder.rglob("*.ipynb"):
        text = path.read_text("utf-8")
        assert "<details" not in text and "solutions/" not in text
        whole = read(ROOT / BOOK.src / path.name)
        assert [cell.id for cell in read(path).cells] == [cell.id for cell in whole.cells]
    assert all((folder / name).is_file() for name in ("book.py", "book.toml", "pins.txt",
                                                      "pyproject.toml", "minidiff/show/saved.js"))
    code = "import minidiff.checks.noise, minidiff.show; print(minidiff.__file__)"
    where = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, text=True,
                           capture_output=True).stdout
    assert str(folder) in where
