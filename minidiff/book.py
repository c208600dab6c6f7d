"""The book's manifest: `book.toml` alone says what chapters there are, and in what order."""

import math
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from minidiff.errors import require


@dataclass(frozen=True)
class Chapter:
    """One notebook of the book."""

    file: str                       # "01_noise.ipynb", in the folder Book.src
    title: str
    summary: str                    # one line, for a table of contents
    prerequisites: tuple[str, ...]  # files of earlier chapters
    read_minutes: float
    run_s: float                    # seconds it takes to run, as measured on one thread
    budget_s: float                 # seconds it may take
    device: str                     # "cpu" or "cuda"
    torch: bool                     # False: runs without PyTorch installed

    @property
    def number(self):
        """The chapter's number, from 1."""
        return int(self.file[:2])

    @property
    def stem(self):
        """The file's name without its ending: "01_noise"."""
        return self.file.removesuffix(".ipynb")


@dataclass(frozen=True)
class Part:
    """Chapters under one heading."""

    title: str
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Book:
    """The whole book; `src` is its chapters' folder, relative to the manifest."""

    title: str
    authors: tuple[str, ...]
    description: str
    language: str
    src: str
    parts: tuple[Part, ...]

    @property
    def chapters(self):
        """All chapters, in reading order."""
        return tuple(chapter for part in self.parts for chapter in part.chapters)


def load(path):
    """The `Book` that the manifest at `path` describes.

    Raises `ValueError` that names the key, the rule and the value found.
    """
    try:
        manifest = tomllib.loads(Path(path).read_text("utf-8"))
    except ValueError as error:  # not TOML (names the line) or not UTF-8
        raise ValueError(f"{path} must be TOML in UTF-8; {error}") from None
    _check_keys(manifest, ("book", "part"), str(path))
    parts = tuple(_part(table, f"part {n}") for n, table in _tables(manifest, "part", str(path)))
    book = _record(Book, manifest["book"], "book", parts=parts)
    _check_order(book.chapters)
    return book


def _part(table, where):
    _check_keys(table, ("title", "chapter"), where)
    chapters = tuple(_record(Chapter, chapter, f"{where}, chapter {n}")
                     for n, chapter in _tables(table, "chapter", where))
    return _record(Part, {"title": table["title"]}, where, chapters=chapters)


def _is_line(value):
    return isinstance(value, str) and value.strip() != "" and "\n" not in value


def _is_positive(value):
    return type(value) in (int, float) and 0 < value < math.inf


RULES = {
    str: ("a line of text", _is_line),
    float: ("a positive number", _is_positive),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    tuple[str, ...]: ("a list of lines of text",
                      lambda value: isinstance(value, list) and all(map(_is_line, value))),
}


def _record(kind, table, where, **nested):
    """A `kind` whose fields are the table's keys, but for the `nested` ones, which are given."""
    types = {field.name: field.type for field in fields(kind) if field.name not in nested}
    _check_keys(table, tuple(types), where)
    for key, value in table.items():
        rule, holds = RULES[types[key]]
        require(holds(value), f"{where}: {key}", rule, value)
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    return kind(**values, **nested)


def _check_keys(table, expected, where):
    require(isinstance(table, dict), where, "a table", table)
    for key in table:
        require(key in expected, f"{where}: key", f"one of {', '.join(expected)}", key)
    for key in expected:
        require(key in table, f"{where}: {key}", "present", None)


def _tables(table, key, where):
    value = table[key]
    require(isinstance(value, list) and value, f"{where}: {key}", "one or more tables", value)
    return enumerate(value, 1)


def _check_order(chapters):
    earlier = []
    for number, chapter in enumerate(chapters, 1):
        where, name = f"chapter {number}", f"{number:02d}_name.ipynb, numbered in reading order"
        require(re.fullmatch(rf"{number:02d}_[a-z0-9_]+\.ipynb", chapter.file),
                f"{where}: file", name, chapter.file)
        for file in chapter.prerequisites:
            require(file in earlier, f"{where}: prerequisites", "files of earlier chapters", file)
        require(chapter.run_s <= chapter.budget_s, f"{where}: run_s",
                f"within budget_s = {chapter.budget_s:g}", chapter.run_s)
        require(chapter.device in ("cpu", "cuda"), f"{where}: device", "cpu or cuda",
                chapter.device)
        require(chapter.torch or chapter.device == "cpu", f"{where}: torch",
                'true where device = "cuda"', chapter.torch)
        earlier.append(chapter.file)
