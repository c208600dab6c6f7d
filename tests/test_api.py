"""The package's page: every public name once, with its author's words and where it is built."""

import ast
import html
import re
from textwrap import dedent
from types import SimpleNamespace

import nbformat
import pytest
from conftest import BOOK, ROOT, code_cells
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_parity import NOTEBOOKS, TAGGED, exports

import api
from normal_form import read

TRAPS = [  # docstrings that are no Markdown
    "2*x*y and a_b_c, *all* of __init__, x[0], [a](b), ![c](d), [e]: f and (n, d).",
    "a < b > c, <b>, &amp; & $x$, $$y$$, 5 $ or 6 $, a\\b, \\alpha, \\* and an odd ` tick",
    "- no list\n- at all,\n+ nor this\n1. nor that\n> and no quote",
    "# no heading\n===\nnor here\n---\n***\n\n    and code\n\n# again",
    "(label)= and {math}`x`, {ref}`nowhere`\n% no comment\n+++\n::: no fence\n```",
    "|a - b|² of `a | b` and `x*y*z`, `two\nlines` of it.",
    ":no-index:\n:option: none, http://example.org, ~~no~~, a^b^ and 'one' \"two\" -- ...",
    "|no|table|\n|:--|--|\n|a|b|",
    "Use it so:\n    x = f(1)\n    for y in x:\n        f(y * `2`)\nand\n\n    g(*x)\n\nno more.",
    "<details>\n\n</details>\n<!-- no comment -->",
]
INNER = '''"""The inner `parts` <of> it. They are many."""
raise RuntimeError("imported")

class Thing(Base):
    """A thing."""
    def __init__(self, size, *, scale=1e-4): pass
    def __call__(self, x):
        """What it says."""
    def __len__(self): pass
    def go(self, n=1_000): pass
    def _hide(self): pass
    @property
    def wide(self):
        """How wide."""
    @functools.cached_property
    def deep(self): pass
    @staticmethod
    def free(x): pass
    @classmethod
    def of(cls, x): pass

def make(kind="v", rule=lambda x: -x): pass

def left():
    """Left (Ho et al. 2020)."""

def _hidden(): pass
LOUD = 3
'''
CODE = re.compile("`([^`]+)`")
FILES = {
    "README.md": "| `zebra.py`, `deep/` | and `python pack.py` |",
    "pack/__init__.py": '"""The whole."""\nfrom pack import apple, deep\n',
    "pack/zebra.py": '"""Stripes. And more."""\n@dataclass(frozen=True)\nclass Row:\n    a: int\n'
                     "    b: float = 2e-3\n\nclass Pair(NamedTuple):\n    c: int\n",
    "pack/apple.py": '"""A `a | b` and | c (He et al. 2016). Good."""\n' + "\n\n".join(
        f"def trap{n}():\n    {doc!r}" for n, doc in enumerate(TRAPS)),
    "pack/deep/__init__.py": '"""Deep."""\nfrom pack.deep.tiny import small\n'
                             "from pack.deep.inner import Thing, make as build\n"
                             "from pack.deep import inner\n",
    "pack/deep/inner.py": INNER,
    "pack/deep/tiny.py": '"""One sentence (of et al. 3)."""\ndef small(): pass\n',
    "pack/deep/said.py": '"""One thing. And another."""\n',
}
CELLS = {
    "01_one.ipynb": ["## 1.1 Begin", ("import numpy as np\nfrom pack.apple import trap0 as t",),
                     ("from pack import deep\ndef use():\n    return deep.build(np.pi).trap1",),
                     "## 1.2 Go on\n\n### Deeper",
                     ("class Thing: pass", "imports", "parity:pack.deep.inner.Thing")],
    "02_two.ipynb": ["# 2. Two", "## 2.10 Here", "## Unnumbered", ("trap2 = 3",),
                     ("def trap3(): pass", "parity:pack.apple.trap3"),
                     ("from pack import apple as a, deep as d\na.trap0(a.trap1, a.trap3, trap2)\n"
                      "from pack.deep.inner import Thing, make\nd.inner.left()\n"
                      "from pack.deep.tiny import small",)],
}


def save(folder, cells):
    """The book of these chapters; a cell is Markdown, or code and its tags."""
    for file, sources in cells.items():
        made = [new_code_cell(source[0], metadata={"tags": source[1:]})
                if isinstance(source, tuple) else new_markdown_cell(source) for source in sources]
        nbformat.write(new_notebook(cells=made), folder / file)
    return SimpleNamespace(chapters=[SimpleNamespace(file=file, number=n)
                                     for n, file in enumerate(cells, 1)])


@pytest.fixture
def root(tmp_path):
    """A small package beside a README; its chapters are `CELLS`."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def stored(root, book):
    return {chapter.file: read(root / chapter.file) for chapter in book.chapters}


def small_page(root, *source, cells=CELLS):
    book = save(root, cells)
    return api.page(api.names(root / "pack"), book, stored(root, book), *source)


def entries(page):
    """{full name: (kind, signature, the Markdown under it)} of the page's directives, in order."""
    found, module, owner, name = {}, None, None, None
    for line in page.split("\n"):
        directive = re.match(r"(:{3,})\{py:(\w+)\} ([\w.]+)(.*)", line)
        if directive and directive[2] == "currentmodule":
            module = directive[3]
        elif directive:
            top = len(directive[1]) == 5
            name = f"{module if top else owner}.{directive[3]}"
            owner = name if top else owner
            assert name not in found, f"{name} is on the page twice"
            found[name] = directive[2], directive[4], ""
        elif line == ":" * 5:
            name = None
        elif name and not line.startswith(":"):
            kind, signature, text = found[name]
            found[name] = kind, signature, f"{text}{line}\n"
    return found


def notes(page):
    """{full name: the line that says where it is built, and its source}."""
    line = re.compile(r"^(?:Built in section|First used in chapter|\[source\]\().*", re.MULTILINE)
    return {name: "".join(line.findall(text)) for name, (_, _, text) in entries(page).items()}


def words(text):
    """The words that a reader sees."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("`", "").split()


def test_names_are_what_is_public_under_its_shortest_path(root):
    modules = api.names(root / "pack")
    assert [m.name for m in modules] == ["pack.zebra", "pack.deep", "pack.apple"]  # as in README
    zebra, deep, apple = modules
    assert [f"{n.kind} {n.name}" for n in deep.members] == [
        "function pack.deep.small", "class pack.deep.Thing", "function pack.deep.build",
        "module pack.deep.inner", "module pack.deep.said"]
    thing, build, inner = deep.members[1:4]
    assert (thing.home, thing.file) == ("pack.deep.inner.Thing", "pack/deep/inner.py")
    assert INNER.split("\n")[thing.line - 1].startswith("class Thing")
    assert [n.name for n in inner.members] == ["pack.deep.inner.left"]
    assert [n.signature for n in zebra.members] == ["(a, b=2e-3)", "(c)"]
    assert (thing.signature, build.signature) == ("(size, *, scale=1e-4)",
                                                  "(kind='v', rule=lambda x: -x)")
    assert [(m.kind, m.name.removeprefix("pack.deep.Thing."), m.signature, m.doc)
            for m in thing.members] == [
        ("method", "__call__", "(x)", "What it says."), ("method", "go", "(n=1_000)", ""),
        ("property", "wide", "", "How wide."), ("property", "deep", "", ""),
        ("staticmethod", "free", "(x)", ""), ("classmethod", "of", "(x)", "")]
    assert [n.doc for n in apple.members] == TRAPS


def test_names_that_the_package_itself_hands_out_are_its_own(root):
    (root / "pack/__init__.py").write_text("from pack.deep import Thing\nfrom pack import apple\n")
    whole, zebra, deep, apple = api.names(root / "pack")
    assert [(n.name, n.home) for n in whole.members] == [("pack.Thing", "pack.deep.inner.Thing")]
    assert "pack.deep.Thing" not in [n.name for n in deep.members]
    page = small_page(root)
    assert "(module)=\n## `pack`" in page and page.count("Thing(size") == 1
    assert "Built in section 1.2." in entries(page)["pack.Thing"][2]


def test_where_names_are_built_and_first_used(root):
    chapters = save(root, CELLS)
    notebooks = stored(root, chapters)
    assert api.builders(chapters, notebooks) == {"pack.deep.inner.Thing": (1, "1.2 Go on"),
                                            "pack.apple.trap3": (2, "2.10 Here")}
    uses = {name: chapter for name, chapter in api.first_uses(chapters, notebooks).items()
            if name.startswith("pack.")}
    assert uses == {"pack.apple.trap0": 1, "pack.deep": 1, "pack.deep.build": 1,
                    "pack.apple": 2, "pack.apple.trap1": 2,
                    "pack.apple.trap3": 2, "pack.deep.inner": 2, "pack.deep.inner.left": 2,
                    "pack.deep.inner.Thing": 2, "pack.deep.inner.make": 2,
                    "pack.deep.tiny.small": 2}


def test_a_tagged_cell_is_in_a_section(root):
    chapters = save(root, {"01_one.ipynb": ["# 1. One", ("x = 1", "parity:pack.apple.trap1")]})
    with pytest.raises(ValueError, match="01_one.ipynb: cell .* must be in a section"):
        api.builders(chapters, stored(root, chapters))


def test_page_says_where_a_name_comes_from(root):
    told = {name: line for name, line in notes(small_page(root)).items() if line}
    assert told == {"pack.deep.Thing": "Built in section 1.2.",
                    "pack.deep.build": "First used in chapter 1.",
                    "pack.deep.inner.left": "First used in chapter 2.",
                    "pack.deep.small": "First used in chapter 2.",
                    "pack.apple.trap0": "First used in chapter 1.",
                    "pack.apple.trap1": "First used in chapter 2.",
                    "pack.apple.trap3": "Built in section 2.10."}


def test_page_leads_to_the_source_where_there_is_one(root):
    told = notes(small_page(
        root, lambda file, line: f"/{file}#L{line}" if "apple" not in file else None))
    assert told["pack.deep.Thing"] == "Built in section 1.2. [source](/pack/deep/inner.py#L4)"
    assert told["pack.zebra.Row"] == "[source](/pack/zebra.py#L3)"
    assert told["pack.deep.Thing.go"] == told["pack.apple.trap2"] == ""


def test_a_module_is_open_where_a_chapter_builds_something_in_it(root):
    assert '<details class="module" id="module-deep-inner">' in small_page(root)
    cells = {"01_one.ipynb": ["## 1.1 A", ("def left(): pass", "parity:pack.deep.inner.left")]}
    page = small_page(root, cells=cells)
    assert '<details class="module" id="module-deep-inner" open>' in page
    assert '<details class="module" id="module-deep-said">' in page


def test_anchors_are_of_every_way_to_write_a_name(root):
    (root / "pack/apple.py").write_text("class Other:\n    def go(self): pass\n")
    (root / "pack/deep/said.py").write_text("class Other:\n    def go(self): pass\n")
    (root / "pack/deep/tiny.py").write_text('"""Small. Too."""\ndef tiny(): pass\n')
    (root / "pack/deep/__init__.py").write_text("from pack.deep.tiny import tiny\n")
    found = api.anchors(api.names(root / "pack"))
    assert {key: place.removeprefix("package.html#") for key, place in found.items()
            if "zebra" not in key and ("Thing" not in key or key.endswith("go"))} == {
        "deep.inner.Thing.go": "pack.deep.inner.Thing.go", "Thing.go": "pack.deep.inner.Thing.go",
        "apple.Other": "pack.apple.Other", "apple.Other.go": "pack.apple.Other.go",
        "deep.said.Other": "pack.deep.said.Other", "deep.said.Other.go": "pack.deep.said.Other.go",
        "deep.inner.make": "pack.deep.inner.make", "deep.inner.left": "pack.deep.inner.left",
        "deep.inner": "module-deep-inner", "deep.said": "module-deep-said",
        "deep.tiny": "pack.deep.tiny", "deep.tiny.tiny": "pack.deep.tiny"}


def test_sphinx_shows_what_the_authors_wrote(root):
    """Built with warnings as errors: no docstring is taken for Markdown."""
    pytest.importorskip("myst_nb")
    from docutils import nodes
    from sphinx import addnodes
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    (root / "source").mkdir()
    (root / "source/package.md").write_text(small_page(root), encoding="utf-8")
    settings = {"extensions": ["myst_nb"], "root_doc": "package", "smartquotes": False,
                "myst_enable_extensions": ["dollarmath", "colon_fence", "attrs_block"]}
    with patch_docutils(), docutils_namespace():
        sphinx = Sphinx(root / "source", None, root / "site", root / "cache", "dummy", settings,
                        status=None, warningiserror=True)
        sphinx.build()
        assert sphinx.statuscode == 0
    tree = sphinx.env.get_doctree("package")
    shown = {d[0]["ids"][0]: d for d in tree.findall(addnodes.desc)}
    for n, doc in enumerate(TRAPS):
        body = shown[f"pack.apple.trap{n}"][1]
        for container in list(body.findall(nodes.container)):
            container.parent.remove(container)
        blocks = re.findall(r"(?m)(?:^    .*\n?)+", doc)
        assert [b.astext().rstrip() for b in body.findall(nodes.literal_block)] == [
            dedent(block).rstrip() for block in blocks]
        code = [] if blocks else CODE.findall(doc.replace("\n", " "))
        assert [c.astext() for c in body.findall(nodes.literal)] == code
        assert body.astext().split() == (doc if blocks else CODE.sub(r"\1", doc)).split()
    assert "pack.deep.Thing.of" in shown and "pack.deep.inner.left" in shown
    rows = [row.astext().split("\n\n") for row in tree.findall(nodes.row)]
    assert rows[1:] == [["zebra", "Stripes."], ["deep", "Deep."],
                        ["apple", "A a | b and | c (He et al. 2016)."]]
    said = "".join(raw.astext() for raw in tree.findall(nodes.raw))
    assert "The inner <code>parts</code> &lt;of&gt; it.</span>" in said
    assert "They are many." in tree.astext() and "And another." in tree.astext()


# The real package.

NAMES = api.names(ROOT / "minidiff")
PAGE = api.page(NAMES, BOOK, NOTEBOOKS)
ENTRIES = entries(PAGE)
HOMES = {name.home: name.name for name in api.every(NAMES)}


def test_every_export_is_on_the_page():
    assert set(exports()) <= set(ENTRIES)


def definitions(tree):
    return [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and node.name[0] != "_"]


def test_every_definition_is_on_the_page_with_its_words():
    for path in ROOT.glob("minidiff/**/*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in definitions(ast.parse(path.read_text("utf-8"))):
            name = HOMES[f"{module}.{node.name}"]
            inner = definitions(node) if isinstance(node, ast.ClassDef) else []
            for entry, part in [(name, node), *((f"{name}.{m.name}", m) for m in inner)]:
                doc = (ast.get_docstring(part) or "").replace("`", "").split()
                kind, _, text = ENTRIES[entry]
                assert words(text)[:len(doc)] == doc, entry
                assert (kind == "class") == isinstance(part, ast.ClassDef)


def test_every_module_says_what_it_is():
    page = " ".join(words(html.unescape(re.sub("</?(?:code|span|summary)[^>]*>|:::.*", "", PAGE))))
    for name in api.every(NAMES):
        if name.kind == "module":
            doc = re.sub(r"(\w-)\n", r"\1", name.doc.replace("`", ""))  # a word cut in two is whole
            assert " ".join(doc.split()) in page


def test_every_tagged_name_says_its_section():
    told = notes(PAGE)
    for file, name in TAGGED:
        cells = NOTEBOOKS[file].cells
        at = next(n for n, cell in enumerate(cells)
                  if f"parity:{name}" in cell.metadata.get("tags", ()))
        above = "\n".join(cell.source for cell in cells[:at] if cell.cell_type == "markdown")
        number = re.findall(r"(?m)^## (\d+\.\d+) ", above)[-1]
        assert number.split(".")[0] == str(int(file[:2]))
        assert told[HOMES[name]] == f"Built in section {number}."


def test_every_first_use_is_one():
    code = {chapter.number: "\n".join(cell.source for cell in code_cells(NOTEBOOKS[chapter.file]))
            for chapter in BOOK.chapters}
    told = {name: line for name, line in notes(PAGE).items() if line.startswith("First")}
    assert told["minidiff.show.noising"] == "First used in chapter 1."
    assert told["minidiff.checks.unet.mistake_a"] == "First used in chapter 8."
    for name, line in told.items():
        number, short = int(line.split()[-1].strip(".")), name.rpartition(".")[2]
        assert re.search(rf"\b{short}\b", code[number]), f"{name}: {line}"
        module = name.split(".")[-2]
        for earlier in range(1, number):
            assert not re.search(rf"\b{module}\.{short}\(", code[earlier]), f"{name}: {line}"


def test_every_anchor_is_on_the_page():
    ids = set(ENTRIES) | set(re.findall(r'id="([\w-]+)"', PAGE)) | set(
        re.findall(r"(?m)^\(([\w-]+)\)=$", PAGE))
    found = api.anchors(NAMES)
    assert {place.removeprefix("package.html#") for place in found.values()} <= ids
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= ids
    assert found["nn.unet.UNet"] == found["nn.UNet"] == "package.html#minidiff.nn.UNet"
    assert found["Schedule.respaced"] == "package.html#minidiff.schedule.Schedule.respaced"
    assert found["data.cifar10"] == "package.html#minidiff.data.cifar10"
    assert found["nn.checkpoint"] == "package.html#module-nn-checkpoint"


def test_the_page_begins_as_the_readme_does():
    tops = re.findall(r"(?m)^## `minidiff\.(\w+)`", PAGE)
    assert tops[:3] == ["schedule", "process", "denoise"] and tops[-2:] == ["book", "errors"]
    assert [*re.findall(r"(?m)^\| \[`(\w+)`\]", PAGE)] == tops
