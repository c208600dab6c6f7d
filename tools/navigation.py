"""What the manifest says to a reader: lines at a chapter's head and foot, the README's contents."""

import re

from nbformat.v4 import new_markdown_cell

CONTENTS = "../README.md#contents"
BLOCK = re.compile("(<!-- contents -->\n).*(<!-- /contents -->)", re.DOTALL)


def head(book, chapter):
    """Markdown for the chapter's first cell: where to go, what to know, how long it takes."""
    return f"{_links(book, chapter)}\n\n*{facts(book, chapter)}*"


def facts(book, chapter):
    """A line of Markdown: what to know before, and how long it takes."""
    titles = {c.file: _link(c) for c in book.chapters}
    needed = ", ".join(titles[file] for file in chapter.prerequisites) or "no earlier chapter"
    where = "one CPU thread" if chapter.device == "cpu" else "one GPU"
    return (f"Prerequisites: {needed} · about {chapter.read_minutes:g} min to read · "
            f"runs in {_duration(chapter.run_s)} on {where}")


def foot(book, chapter):
    """Markdown for the chapter's last cell."""
    return f"---\n\n{_links(book, chapter)}"


def with_navigation(cells, book, chapter):
    """The chapter's cells between its navigation cells, which replace any that it has."""
    body = [cell for cell in cells if "navigation" not in cell.metadata.get("tags", [])]
    return [_cell("nav-head", head(book, chapter)), *body, _cell("nav-foot", foot(book, chapter))]


def contents(book):
    """The README's table of contents, in Markdown."""
    return "\n".join(_part(book, part) for part in book.parts)


def with_contents(readme, book):
    """The README's text with its contents, between the markers, made anew."""
    if not BLOCK.search(readme):
        raise ValueError("README.md must have the lines <!-- contents --> and <!-- /contents -->")
    return BLOCK.sub(lambda match: f"{match[1]}\n{contents(book)}\n{match[2]}", readme)


def _links(book, chapter):
    at = book.chapters.index(chapter)
    before, after = book.chapters[max(at - 1, 0):at], book.chapters[at + 1:at + 2]
    return " · ".join([*(_link(c, "← {}") for c in before), f"[Contents]({CONTENTS})",
                       *(_link(c, "{} →") for c in after)])


def _link(chapter, form="{}"):
    return f"[{form.format(f'{chapter.number}. {chapter.title}')}]({chapter.file})"


def _cell(name, text):
    return new_markdown_cell(text, id=name, metadata={"tags": ["navigation"]})


def _part(book, part):
    rows = "".join(_row(book, chapter) for chapter in part.chapters)
    return (f"### {part.title}\n\n| | Chapter | | Read | Run |\n"
            f"|--:|:--|:--|--:|--:|\n{rows}")


def _row(book, chapter):
    summary = chapter.summary.replace("|", r"\|")
    return (f"| {chapter.number} | [{chapter.title}]({book.src}/{chapter.file}) | {summary} "
            f"| {chapter.read_minutes:g} min | {_duration(chapter.run_s)} |\n")


def _duration(seconds):
    return f"{seconds:g} s" if seconds < 100 else f"{seconds / 60:.0f} min"
