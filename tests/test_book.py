"""The manifest: it is read as written, agrees with the chapters' folder, and refuses nonsense."""

import pytest
from conftest import BOOK, CHAPTERS, ROOT

import navigation
from minidiff.book import load

GOOD = """
[book]
title = "A book"
authors = ["Ann", "Bob"]
description = "What it is."
language = "en"
src = "chapters"

[[part]]
title = "First part"

[[part.chapter]]
file = "01_one.ipynb"
title = "One"
summary = "How it begins."
prerequisites = []
read_minutes = 60
run_s = 9.5
budget_s = 20
device = "cpu"
torch = false

[[part]]
title = "Second part"

[[part.chapter]]
file = "02_two.ipynb"
title = "Two"
summary = "How it | ends."
prerequisites = ["01_one.ipynb"]
read_minutes = 45
run_s = 240
budget_s = 300
device = "cuda"
torch = true
"""

BAD = {  # what is replaced in GOOD, by what, and words the error must have
    "not TOML": ("title = \"A book\"", "title = ", "must be TOML", "line 3"),
    "unknown table": ("[book]", "[boook]", "key must be one of book, part", "'boook'"),
    "book not a table": ("[book]\n", "[[book]]\n", "book must be a table"),
    "unknown key in book": ("language", "lang", "book: key must be one of", "'lang'"),
    "missing key in book": ('language = "en"', "", "book: language must be present"),
    "no parts": (GOOD, "[book]", "part must be present"),
    "part not a list": (GOOD, 'part = "x"\n[book]', "part must be one or more tables", "'x'"),
    "part an empty list": (GOOD, "part = []\n[book]", "part must be one or more tables", "[]"),
    "part not a table": (GOOD, 'part = ["x"]\n[book]', "part 1 must be a table", "'x'"),
    "part without title": ('title = "Second part"', "", "part 2: title must be present"),
    "part with empty title": ('"Second part"', '" "', "part 2: title must be a line", "' '"),
    "part without chapters": ("[[part.chapter]]\nfile = \"02", "[[part.chapters]]\nfile = \"02",
                              "part 2: key must be one of title, chapter", "'chapters'"),
    "unknown key": ("summary = \"How it b", "sumary = \"How it b",
                    "part 1, chapter 1: key must be one of file, title", "'sumary'"),
    "missing key": ('device = "cuda"', "", "part 2, chapter 1: device must be present"),
    "wrong type of text": ('title = "One"', "title = 1", "title must be a line of text", "1"),
    "text of two lines": ('"How it begins."', r'"How\nit"', "summary must be a line of text"),
    "wrong type of list": ('["01_one.ipynb"]', '"01_one.ipynb"', "prerequisites must be a list"),
    "wrong type in a list": ('["Ann", "Bob"]', '["Ann", 2]', "authors must be a list", "2"),
    "wrong type of truth": ("torch = false", "torch = 0", "torch must be true or false", "0"),
    "time as text": ("run_s = 9.5", 'run_s = "9"', "run_s must be a positive number", "'9'"),
    "time as truth": ("read_minutes = 60", "read_minutes = true", "read_minutes must be a"),
    "no budget": ("budget_s = 20", "budget_s = 0", "budget_s must be a positive number", "0"),
    "negative budget": ("budget_s = 20", "budget_s = -1", "budget_s must be a positive", "-1"),
    "endless budget": ("budget_s = 20", "budget_s = inf", "budget_s must be a positive", "inf"),
    "over budget": ("run_s = 9.5", "run_s = 21", "run_s must be within budget_s = 20", "21"),
    "file misnamed": ("01_one.ipynb\"\ntitle", "one.ipynb\"\ntitle", "chapter 1: file",
                      "'one.ipynb'"),
    "file elsewhere": ("01_one.ipynb\"\ntitle", "../01_one.ipynb\"\ntitle", "chapter 1: file"),
    "file twice": ("02_two", "01_one", "chapter 2: file must be 02_name.ipynb", "'01_one.ipynb'"),
    "file out of order": ("02_two", "03_two", "chapter 2: file must be 02_name.ipynb"),
    "prerequisite unknown": ('["01_one.ipynb"]', '["00.ipynb"]', "files of earlier", "'00.ipynb'"),
    "prerequisite later": ("prerequisites = []", 'prerequisites = ["02_two.ipynb"]',
                           "chapter 1: prerequisites must be files of earlier", "'02_two.ipynb'"),
    "prerequisite itself": ('["01_one.ipynb"]', '["02_two.ipynb"]', "chapter 2: prerequisites"),
    "unknown device": ('"cpu"', '"tpu"', "chapter 1: device must be cpu or cuda", "'tpu'"),
    "cuda without torch": ("torch = true", "torch = false", "chapter 2: torch must be true"),
}


def parsed(tmp_path, text):
    path = tmp_path / "book.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def test_is_read_as_written(tmp_path):
    book = parsed(tmp_path, GOOD)
    assert (book.title, book.authors, book.src) == ("A book", ("Ann", "Bob"), "chapters")
    assert [part.title for part in book.parts] == ["First part", "Second part"]
    assert [chapter.file for chapter in book.chapters] == ["01_one.ipynb", "02_two.ipynb"]
    two = book.chapters[1]
    assert (two.number, two.title, two.prerequisites) == (2, "Two", ("01_one.ipynb",))
    assert (two.read_minutes, two.run_s, two.budget_s, two.device, two.torch) == (
        45, 240, 300, "cuda", True)


@pytest.mark.parametrize("case", BAD)
def test_bad_manifest_is_refused_by_name(tmp_path, case):
    old, new, *words = BAD[case]
    assert GOOD.count(old) >= 1
    with pytest.raises(ValueError) as error:
        parsed(tmp_path, GOOD.replace(old, new))
    assert [word for word in words if word not in str(error.value)] == []


def test_manifest_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "book.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(ValueError, match="UTF-8"):
        load(tmp_path / "book.toml")


def test_manifest_and_folder_name_the_same_chapters():
    assert sorted(path.name for path in CHAPTERS.glob("*.ipynb")) == [
        chapter.file for chapter in BOOK.chapters]


def test_solutions_are_of_chapters():
    files = {chapter.file for chapter in BOOK.chapters}
    assert {path.name for path in CHAPTERS.glob("solutions/*.ipynb")} <= files


def test_navigation_follows_the_manifest(tmp_path):
    book = parsed(tmp_path, GOOD)
    one, two = book.chapters
    to_contents = "[Contents](../README.md#contents)"
    assert navigation.foot(book, one) == f"---\n\n{to_contents} · [2. Two →](02_two.ipynb)"
    assert navigation.foot(book, two) == f"---\n\n[← 1. One](01_one.ipynb) · {to_contents}"
    assert navigation.head(book, one).endswith(
        "*Prerequisites: no earlier chapter · about 60 min to read · "
        "runs in 9.5 s on one CPU thread*")
    assert navigation.head(book, two).endswith(
        "*Prerequisites: [1. One](01_one.ipynb) · about 45 min to read · runs in 4 min on one GPU*")


def test_contents_follow_the_manifest(tmp_path):
    book = parsed(tmp_path, GOOD)
    readme = "# Top\n\n<!-- contents -->\nold\n<!-- /contents -->\n\nEnd\n"
    text = navigation.with_contents(readme, book)
    assert text.startswith("# Top\n\n<!-- contents -->\n\n### First part\n")
    assert text.endswith("|\n\n<!-- /contents -->\n\nEnd\n") and "old" not in text
    assert "| 1 | [One](chapters/01_one.ipynb) | How it begins. | 60 min | 9.5 s |\n" in text
    assert r"| 2 | [Two](chapters/02_two.ipynb) | How it \| ends. | 45 min | 4 min |" in text
    assert navigation.with_contents(text, book) == text
    with pytest.raises(ValueError, match="<!-- contents -->"):
        navigation.with_contents("# Top\n", book)


def test_readme_has_these_contents():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == navigation.with_contents(readme, BOOK), "run: python book.py normalise"
