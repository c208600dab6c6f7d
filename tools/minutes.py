"""The chapters' measured seconds, written where readers find them: in book.toml, the README and the
chapters' heads. No chapter is run for it."""

import math
import re

import navigation
import normalise
from files import write_whole
from minidiff.book import load
from normal_form import dumps, read

CHAPTER = re.compile(r"^(?=\[\[part\.chapter\]\])", re.MULTILINE)


def measured(rows):
    """{file: seconds} of the rows of bench_book; NaN for a chapter that failed."""
    return {row.who: row.value for row in rows if row.what == "chapter"}


def settled(book, seconds):
    """`(whole, left)`: {file: whole seconds, rounded up}, and {file: why it is left alone}."""
    whole, left = {}, {}
    for chapter in book.chapters:
        s = seconds.get(chapter.file, math.nan)
        if math.isnan(s):
            left[chapter.file] = "was not measured"
        elif math.ceil(s) > chapter.budget_s:
            left[chapter.file] = f"took {s:.1f} s of its {chapter.budget_s:g} s"
        else:
            whole[chapter.file] = math.ceil(s)
    return whole, left


def with_minutes(text, whole):
    """The text of book.toml with these as the chapters' `run_s`, and all else as it is."""
    return "".join(_table(table, whole) for table in CHAPTER.split(text))


def _table(text, whole):
    file = re.search(r'^file *= *"(.*)"', text, re.MULTILINE)
    if not file or file[1] not in whole:
        return text
    return re.sub(r"^(run_s *= *)[^\s#]+", rf"\g<1>{whole[file[1]]}", text, flags=re.MULTILINE)


def write(seconds, root=normalise.ROOT):
    """Write {file: seconds} into the book; {file: why it is left alone}."""
    path = root / "book.toml"
    whole, left = settled(load(path), seconds)
    write_whole(path, with_minutes(path.read_bytes().decode("utf-8"), whole))
    book = load(path)
    for chapter in book.chapters:
        _head(root / book.src / chapter.file, book, chapter)
    normalise.tables(root, book)
    return left


def _head(path, book, chapter):
    nb = read(path)
    cells = navigation.with_navigation(nb.cells, book, chapter)
    if cells != nb.cells:
        nb.cells = cells
        write_whole(path, dumps(nb))
