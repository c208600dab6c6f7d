"""The page "The package": every public name of minidiff, what it does, and where it is built.

All is read from the source as text. Nothing is imported, so no torch is needed.
"""

import ast
import html
import re
from dataclasses import dataclass, replace
from itertools import groupby
from textwrap import dedent, indent

from headings import with_sections
from minidiff.errors import require

PREFIX = "parity:"
IN_README = re.compile(r"`(\w+)(?:\.py|/)`")  # `sampler.py` or `nn/`
SENTENCE = re.compile(r".*?(?:[.!?](?=\s+[A-Z`])|(?=\n\n)|\Z)", re.DOTALL)  # "al. (2020)" goes on
CODE = re.compile(r"(`[^`]+`)")
MARK = re.compile(r"([!-/:-@\[-`{-~])")  # what Markdown may read as something else than itself
KINDS = ("property", "cached_property", "staticmethod", "classmethod")  # a decorator may say
UNLISTED = "\n:no-contents-entry:"  # not in the page's own table of contents
HEAD = """# The package

Every public function and class of `minidiff`, and where the book builds it or uses it first.
What a section builds before your eyes and what the package has are the same: a test runs both.

All names in alphabetical order: {ref}`genindex`.

| Module | What it holds |
|:--|:--|
"""


@dataclass(frozen=True)
class Name:
    """A module, a function, a class, or what one can ask of a class."""

    kind: str       # "module", or Sphinx's word: "function", "class", "method", "property", ...
    name: str       # as a reader writes it: "minidiff.nn.UNet"
    home: str       # where it is defined: "minidiff.nn.unet.UNet"
    signature: str  # "(config, generator=None)"; "" where nothing is called
    doc: str        # "" where there is none
    file: str       # "minidiff/nn/unet.py"
    line: int
    members: tuple = ()

    @property
    def short(self):
        """The name without its owner's."""
        return self.name.rpartition(".")[2]


def names(folder):
    """The modules of the package in this folder, with all that is public in them.

    They come in the order in which the README beside the folder mentions them. What a package
    hands out is its own; a module in it with nothing left, and no more than a sentence to say, is
    left out.
    """
    trees = {path: _parse(path) for path in sorted(folder.rglob("*.py"))}
    modules = [_module(path, tree, folder.parent) for path, tree in trees.items()]
    defined = {name.home: name for module in modules for name in module.members}
    found = [_renamed(defined[home], path) for home, path in _shown(modules, trees.values())]

    def filled(module):
        own = [name for name in found if name.name == f"{module.name}.{name.short}"]
        inner = [filled(m) for m in modules if m.name == f"{module.name}.{m.short}"]
        said = [m for m in inner if m.members or m.doc != first_sentence(m.doc)]
        return replace(module, members=(*own, *said))

    top = filled(next(module for module in modules if module.name == folder.name))
    own = tuple(name for name in top.members if name.kind != "module")
    first = IN_README.findall((folder.parent / "README.md").read_text("utf-8"))
    inner = sorted((name for name in top.members if name.kind == "module"),
                   key=lambda module: ([*first, module.short].index(module.short), module.name))
    return [replace(top, members=own), *inner] if own else inner


def _parse(path):
    """The file's tree, its numbers as they are written: 1e-4, and not 0.0001."""
    source = path.read_bytes()
    lines, numbers = source.splitlines(), ast.NodeTransformer()
    numbers.visit_Constant = lambda node: ast.Name(
        lines[node.lineno - 1][node.col_offset:node.end_col_offset].decode("utf-8", "replace")
    ) if type(node.value) in (int, float) else node
    return numbers.visit(ast.parse(source))


def _module(path, tree, root):
    """A module with what it defines."""
    file = path.relative_to(root).as_posix()
    home = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    doc, members = ast.get_docstring(tree) or "", _definitions(tree, home, file, "function")
    return Name("module", home, home, "", doc, file, 1, members)


def _definitions(tree, owner, file, kind):
    """The public ones in a module or class; `__call__` is public where it has a docstring."""
    return tuple(_definition(node, owner, file, kind) for node in tree.body
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and
                 (node.name[0] != "_" or node.name == "__call__" and ast.get_docstring(node)))


def _definition(node, owner, file, kind):
    """A class, or a function of this kind unless a decorator makes another of it."""
    home, doc, members = f"{owner}.{node.name}", ast.get_docstring(node) or "", ()
    if isinstance(node, ast.ClassDef):
        kind, signature = "class", _call(node)
        members = _definitions(node, home, file, "method")
    else:
        marks = [ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list]
        kind = next((mark.removeprefix("cached_") for mark in marks if mark in KINDS), kind)
        signature = "" if kind == "property" else _arguments(node, kind)
    return Name(kind, home, home, signature, doc, file, node.lineno, members)


def _arguments(node, kind):
    """The function's arguments in parentheses, less the one that Python gives."""
    given, text = kind in ("method", "classmethod"), ast.unparse(node.args)
    return f"({text.partition(', ')[2] if given else text})"


def _call(node):
    """How the class is called: with its fields, or as its `__init__` has it."""
    marks = " ".join(map(ast.unparse, [*node.decorator_list, *node.bases]))
    if "dataclass" in marks or "NamedTuple" in marks:
        fields = [(f.target, f.value) for f in node.body if isinstance(f, ast.AnnAssign)]
        return "({})".format(", ".join("=".join(map(ast.unparse, filter(None, f))) for f in fields))
    return next((_arguments(m, "method") for m in node.body
                 if getattr(m, "name", "") == "__init__"), "")


def _shown(modules, trees):
    """(home, shortest path) of all that the modules define; first what the packages hand out."""
    paths = {name.home: name.home for module in modules for name in module.members}
    for module, tree in sorted(zip(modules, trees), key=lambda pair: -pair[0].name.count(".")):
        if module.file.endswith("__init__.py"):
            paths |= {f"{module.name}.{a.asname or a.name}": paths[f"{node.module}.{a.name}"]
                      for node in tree.body if isinstance(node, ast.ImportFrom)
                      for a in node.names if f"{node.module}.{a.name}" in paths}
    shown = {}
    for path, home in sorted(paths.items(), key=lambda pair: pair[0].count(".")):
        shown.setdefault(home, path)
    return shown.items()


def _renamed(name, path):
    members = tuple(_renamed(member, f"{path}.{member.short}") for member in name.members)
    return replace(name, name=path, members=members)


def every(names):
    """All of these, and their members with theirs."""
    for name in names:
        yield name
        yield from every(name.members)


def builders(book, notebooks):
    """{full name: (chapter, "6.1 Its title")} of all that a tagged cell of a chapter builds.

    `notebooks` maps a chapter's file to its notebook. Raises `ValueError` for such a cell that
    stands in no section.
    """
    found = {}
    for chapter in book.chapters:
        for cell, section in with_sections(notebooks[chapter.file].cells):
            for tag in cell.metadata.get("tags", ()):
                if tag.startswith(PREFIX):
                    require(section, f"{chapter.file}: cell {cell.id}", "in a section", section)
                    found[tag.removeprefix(PREFIX)] = chapter.number, f"{section[2]} {section[3]}"
    return found


def first_uses(book, notebooks):
    """{full name: the first chapter whose code imports it, or reaches it by a dot}."""
    found = {}
    for chapter in book.chapters:
        code = "\n".join(cell.source for cell in notebooks[chapter.file].cells
                         if cell.cell_type == "code")
        found = dict.fromkeys(_reached(ast.parse(code)), chapter.number) | found
    return found


def _reached(tree):
    """The full names that the code imports from a module, or reaches from what it imports."""
    known, nodes = {}, list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def full(node):
        if isinstance(node, ast.Attribute):
            return (path := full(node.value)) and f"{path}.{node.attr}"
        return known.get(node.id) if isinstance(node, ast.Name) else None

    return {*known.values(), *filter(None, map(full, nodes))}


def page(names, book, notebooks, source=lambda file, line: None):
    """The page in Markdown, MyST's; `notebooks` maps a chapter's file to its notebook.

    `source(file, line)` is the address of a line of the package's source, or None.
    """
    built, used = builders(book, notebooks), first_uses(book, notebooks)
    notes = {name.home: note(name, built, used, source) for name in every(names)}
    sections = [f"({anchor(m)})=\n## `{m.name}`\n\n{body(m, m.doc, notes)}" for m in names]
    return "\n\n".join([HEAD + "\n".join(map(row, names)), *sections]) + "\n"


def anchors(names):
    """{"nn.UNet": its address} for every way to write a name, less "minidiff." before it.

    A method goes by its class alone too, as "Schedule.at", where one class only is called so.
    """
    ranked = sorted(every(names), key=lambda name: name.kind != "module")  # a function wins
    found = {path.partition(".")[2]: name for name in ranked for path in (name.home, name.name)}
    classes = [name for name in ranked if name.kind == "class"]
    once = [c for c in classes if [other.short for other in classes].count(c.short) == 1]
    found |= {f"{c.short}.{m.short}": m for c in once for m in c.members}
    return {key: f"package.html#{anchor(name)}" for key, name in found.items()
            if "." in key}  # `run`, or `denoise`, may mean anything


def anchor(name):
    """The id of a name on the page."""
    parts = name.name.split(".")
    return "-".join(["module", *parts[1:]]) if name.kind == "module" else name.name


def row(module):
    """A module's line in the table at the top."""
    words = re.sub(r"(?<!\\)\|", r"\|", prose(first_sentence(module.doc)))  # no end of a cell
    return f"| [`{module.short}`](#{anchor(module)}) | {words} |"


def note(name, built, used, source):
    """The line under a name: the section that builds it, or the first chapter to use it."""
    chapters = [used[path] for path in (name.home, name.name) if path in used]
    words = [f"Built in section {built[name.home][1].split()[0]}."] if name.home in built else [
        f"First used in chapter {min(chapters)}."] if chapters else []
    if name.kind in ("function", "class") and (url := source(name.file, name.line)):
        words.append(f"[source]({url})")
    return f":::{{container}} facts\n{' '.join(words)}\n:::" if words else ""


def body(module, doc, notes, options=""):
    """A module's text and members; the modules in it are folded."""
    members = [fold(name, notes) if name.kind == "module" else entry(name, notes, options)
               for name in module.members]
    here = f":::{{py:currentmodule}} {module.name}\n:::"
    return "\n\n".join([markdown(doc), here, *members])


def fold(module, notes):
    """A module in a package; it stands open if a chapter builds something of it."""
    state = " open" if any("Built" in notes[name.home] for name in module.members) else ""
    first = first_sentence(module.doc)
    words = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(first, quote=False))
    return (f'<details class="module" id="{anchor(module)}"{state}>\n'
            f'<summary><code>{module.name}</code> <span class="facts">{words}</span></summary>\n\n'
            f"{body(module, module.doc.removeprefix(first), notes, UNLISTED)}\n\n</details>")


def entry(name, notes, options="", fence=":::::"):
    """A function, or a class with its methods, in a form that Sphinx's index and search know."""
    members = [entry(member, notes, UNLISTED, fence[1:]) for member in name.members]
    return "\n\n".join([f"{fence}{{py:{name.kind}}} {name.short}{name.signature}{options}",
                        markdown(name.doc), notes[name.home], *members, fence])


def first_sentence(doc):
    """The docstring's first sentence, or its first paragraph where that has no end."""
    return SENTENCE.match(doc)[0]


def markdown(doc):
    """A docstring as Markdown that shows what its author wrote.

    A docstring is prose with `code` in backticks, and indented blocks, which are code. Nothing
    else in it means anything: a star is a star.
    """
    blocks = []
    for paragraph in re.split(r"\n\s*\n", doc):
        for indented, lines in groupby(paragraph.split("\n"), lambda line: line[:1] == " "):
            text = "\n".join(lines)
            blocks.append(indent(dedent(text), "    ") if indented else prose(text))
    return "\n\n".join(blocks)


def prose(text):
    """A docstring's prose on one line of Markdown."""
    parts = CODE.split(" ".join(re.sub(r"(\w-)\n\s*", r"\1", text).split()))
    return "".join(part if CODE.fullmatch(part) else MARK.sub(r"\\\1", part) for part in parts)
