"""The sources of the HTML book's pages, made of the notebooks, README.md and the manifest."""

import re
import shutil

from nbformat.v4 import new_markdown_cell

import api
import bibliography
import gallery
import navigation
from crossrefs import places
from headings import HEADING, kind
from normal_form import dumps, read

SEE = re.compile(r"\*\*What you should see\.\*\*(.*)")
SOLUTIONS = re.compile(r"^.*\]\((solutions/.*\.ipynb)\).*$", re.MULTILINE)  # the way to them
FOLDED = r'Worked solutions are folded in under each, and <a href="{}/\1" download>a notebook</a>.'
PICTURE = re.compile(r"^!\[.*\]\(pictures/noising\.gif\)\n\n.*?\n\n", re.MULTILINE | re.DOTALL)
TRY = "*Move the slider, or let it play, forwards and back: three kinds of data dissolve into noise.*"
COVER = '"name": "noising"'  # the widget of the front page
WIDGET = '<figure class="minidiff">'
FOLD = '<details class="solution">\n<summary>Solution</summary>'
HUB, BINDER = "https://github.com", "https://mybinder.org/v2/gh"
EXTRA = "extra"  # what is copied into the site as it is


def write(source, book, root, repository):
    """Write every page's source into the folder; what the extension `crossrefs` has to know.

    `repository` is "owner/name" at GitHub, or None.
    """
    folder, extra = root / book.src, source / EXTRA / book.src
    shutil.copytree(folder, extra, ignore=lambda _, names: [
        name for name in names if not name.endswith(".ipynb") and name != "solutions"])
    chapters = {c.file: read(folder / c.file) for c in book.chapters}
    texts = {file: "\n\n".join(markdown(nb)) for file, nb in chapters.items()}
    lists = {file: references(nb) for file, nb in chapters.items()}
    entries = bibliography.bibliography(lists)
    pictures = gallery.chosen(book, chapters)
    names = api.names(root / "minidiff")

    (source / "pictures").mkdir()
    for name in ("LICENSE", "LICENSE-TEXT", "CITATION.cff", "pictures/gallery.png"):
        shutil.copy(root / name, source / name)
    put(source, "index.md", front(root, book, chapters))
    put(source, "notation.md", (folder / "notation.md").read_text("utf-8"))
    put(source, "references.md", bibliography.page(entries, book))
    put(source, f"{EXTRA}/references.bib", bibliography.bibtex(entries))
    put(source, "package.md", api.page(names, book, chapters, lambda path, line: repository and
                                       f"{HUB}/{repository}/blob/HEAD/{path}#L{line}"))
    put(source, "gallery.md", gallery.gallery(pictures, source / EXTRA))
    for chapter in book.chapters:
        solutions = by_exercise(read(folder / "solutions" / chapter.file))
        nb = chapter_page(chapters[chapter.file], solutions, book, chapter,
                          leads(f"{book.src}/{chapter.file}", repository))
        put(source, chapter.file, dumps(nb))
    works = {c.stem: bibliography.works(lists[c.file]) for c in book.chapters}
    works["notation"] = [work for work, _ in entries]
    return {"places": places(book, texts), "names": api.anchors(names), "works": works}


def put(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8", newline="\n")


def markdown(nb):
    return [cell.source for cell in nb.cells if cell.cell_type == "markdown"]


def references(nb):
    """The chapter's own list of papers."""
    return next(cell.source for cell in nb.cells if cell.id == "references")


def leads(file, repository):
    """A line of Markdown: the ways to this notebook itself."""
    links = [f'<a href="{file}" download>Download the notebook</a>']
    if repository:
        links += [f'<a href="{HUB}/{repository}/blob/HEAD/{file}">on GitHub</a>',
                  f'<a href="{BINDER}/{repository}/HEAD?labpath={file}">run it on Binder</a>']
    return " · ".join(links)


def front(root, book, chapters):
    """The front page: README.md, with a working widget in the place of its picture."""
    text = navigation.with_contents((root / "README.md").read_text("utf-8"), book)
    text = text.replace(f"]({book.src}/", "](")
    widget = next(w for nb in chapters.values() for w in saved(nb) if COVER in w)
    text = PICTURE.sub(lambda _: f"`````{{raw}} html\n{widget}\n`````\n\n{TRY}\n\n", text)
    return f"{text}\n\n{trees(book)}"


def saved(nb):
    """The saved forms of the notebook's widgets."""
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            text = output.get("data", {}).get("text/html", "")
            if WIDGET in text:
                yield text


def trees(book):
    """The side bar: each part's chapters, then what one looks things up in."""
    parts = [(part.title, [f"{c.number}. {c.title} <{c.stem}>" for c in part.chapters])
             for part in book.parts]
    parts.append(("To look things up", ["notation", "package", "references", "gallery"]))
    return "\n\n".join(":::{toctree}\n:hidden:\n:caption: %s\n\n%s\n:::" % (title, "\n".join(lines))
                       for title, lines in parts)


def chapter_page(nb, solutions, book, chapter, links):
    """The notebook as its page shows it: facts under the title, solutions folded in.

    `solutions` maps an exercise's number to the cells of its solution.
    """
    cells = [c for c in nb.cells if "navigation" not in c.metadata.get("tags", [])]
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = (f"{title}\n\n{{.facts}}\n{navigation.facts(book, chapter)}\n\n"
                       f"{{.facts}}\n{links}\n{rest}")
    for cell, after in zip(cells, cells[1:]):
        if cell.cell_type == "code":
            describe(cell, after)
        else:
            cell.source = SOLUTIONS.sub(FOLDED.format(book.src), cell.source)
    nb.cells = list(with_solutions(cells, solutions))
    return nb


def describe(cell, after):
    """Tell those who can't see the cell's figures what the next cell says is in them."""
    seen = SEE.match(after.source) if after.cell_type == "markdown" else None
    words = re.sub(r"[*$`\\{}]", "", seen[1]).strip() if seen else "A figure of the text around it"
    cell.metadata["mystnb"] = {"image": {"alt": words}}


def with_solutions(cells, solutions):
    """The cells, each exercise's own followed by its solution, folded."""
    number = None
    for cell in cells:
        heading = cell.cell_type == "markdown" and cell.source.startswith("##")
        if heading and number:
            yield from folded(solutions[number])
        if heading:
            number = exercise(cell)
        if "gallery" in cell.metadata.get("tags", []):
            yield new_markdown_cell(f'<div id="figure-{cell.id}"></div>')
        yield cell
    if number:
        yield from folded(solutions[number])


def exercise(cell):
    """The number of the exercise that the cell's heading is of, or None."""
    heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
    return heading[2] if heading and kind(heading) == "exercise" else None


def folded(cells):
    yield new_markdown_cell(FOLD)
    yield from cells
    yield new_markdown_cell("</details>")


def by_exercise(nb):
    """{"5.1": the cells of its solution} of a notebook of solutions, without the headings."""
    found, cells = {}, []
    for cell in nb.cells:
        number = exercise(cell)
        if number:
            cells = found[number] = []
            cell.source = cell.source.partition("\n")[2].lstrip()
        cell.id = f"solution-{cell.id}"
        cells.append(cell)
    return found
