"""Write the book for a class: every chapter without its folded answers, and no solutions.

usage: python tools/handout.py [folder]     (default: handout, beside book.py)

What a student needs is in the folder: `python book.py lab` opens it on any machine. A folder that
an earlier call made is written anew; any other that isn't empty is left alone.
"""

import argparse
import ast
import re
import shutil
import sys
from pathlib import Path

import navigation
from files import write_whole
from minidiff.book import load
from minidiff.errors import require
from normal_form import dumps, normal_form, read
from normalise import checksums

ROOT = Path(__file__).resolve().parent.parent
FILES = ("book.py", "book.toml", "environment.yml", "pins.txt", "pyproject.toml",
         "LICENSE", "LICENSE-TEXT")
FOLDED = re.compile(r"<details\b.*?</details>", re.DOTALL)
SOLUTIONS = re.compile(r"^.*\]\(solutions/.*\n?", re.MULTILINE)  # a line with a link to them
MADE = "<!-- made by `python book.py handout` -->"
README = """# {title}
{made}

{description}

You need Python 3.11 or newer. This sets everything up and opens chapter 1:

```sh
python book.py lab
```

The exercises at the end of a chapter have dots in them. Put your answer there, run the cell, and it
tells you what it thinks.

## Contents

{contents}
What the symbols mean is on one page, [Notation](chapters/notation.md)."""


def handout(folder, root=ROOT):
    """Write the handout of the book in `root` into the folder.

    Raises `ValueError` if the folder holds other things, or a chapter the answer to an exercise.
    """
    require(folder.parent == root or root not in folder.parents, "folder",
            "outside the book's folder, or directly in it", str(folder))
    require(is_free(folder), "folder", "new, empty, or an earlier handout", str(folder))
    book = load(root / "book.toml")
    source, target = root / book.src, folder / book.src
    chapters = {c.file: for_class(source, c.file) for c in book.chapters}

    for old in (target, folder / "minidiff"):
        if old.exists():
            shutil.rmtree(old)
    shutil.copytree(root / "minidiff", folder / "minidiff",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(root / file, folder)
    target.mkdir()
    shutil.copy(source / "notation.md", target)
    for name in ("records", "weights"):  # what was measured, or trained, once
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
    for file, nb in chapters.items():
        write_whole(target / file, dumps(nb))
    write_whole(target / "checksums.txt", checksums(target))
    write_whole(folder / "README.md", README.format(
        title=book.title, made=MADE, description=book.description,
        contents=navigation.contents(book)))


def is_free(folder):
    """Whether nothing of anyone's would be lost there."""
    readme = folder / "README.md"
    if readme.is_file():
        return MADE in readme.read_text("utf-8")
    return not folder.exists() or folder.is_dir() and not any(folder.iterdir())


def for_class(source, file):
    """The chapter without folded answers. Raises `ValueError` if an exercise has been answered."""
    nb, solution = read(source / file), source / "solutions" / file
    known = [s for cell in exercises(read(solution)) for s in statements(cell)] if (
        solution.exists()) else []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTIONS.sub("", FOLDED.sub("*Your answer:*", cell.source))
            require("<details" not in cell.source, f"{file}: cell {cell.id}",
                    "free of unclosed or nested <details>", cell.source)
        else:
            require(not any(s in known for s in statements(cell)), f"{file}: cell {cell.id}",
                    "without the solution", cell.source)
    for cell in exercises(nb):
        said = "".join(output.get("text", "") for output in cell.outputs)
        require("Right. " not in said, f"{file}: cell {cell.id}", "an exercise to be done", said)
    return normal_form(nb)


def exercises(nb):
    return [cell for cell in nb.cells if "exercise" in cell.metadata.get("tags", [])]


def statements(cell):
    """The cell's definitions and assignments, without docstrings and layout."""
    found = []
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if isinstance(node, (ast.FunctionDef, ast.Assign)):
            found.append(ast.dump(node))
    return found


def main(arguments, root=ROOT):
    """Write the handout; 0 if there is one now."""
    parser = argparse.ArgumentParser("book.py handout", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default="handout", type=lambda name: root / name,
                        help="where to; a handout that is there already is written anew")
    folder = parser.parse_args(arguments).folder.resolve()
    try:
        handout(folder, root)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The handout is in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
