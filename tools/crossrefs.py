"""Words that mean a place become links: "section 5.3", "chapters 1 to 4", "equation (2.5)".

The chapters say such words plainly, since JupyterLab has no links for them. In the HTML book a
Sphinx transform finds them in running prose, not in code, mathematics, titles or other links, and
a place that does not exist is a warning, which fails the build. So are mentions of a paper that is
not in the chapter's list.
"""

import re

from docutils import nodes
from sphinx.util import logging

import bibliography
from headings import HEADING, kind
from minidiff.errors import require

TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
NUMBER = r"\(?\d+(?:\.\d+)?\)?"
LIST = rf"{NUMBER}(?:(?:, | and | or | to ){NUMBER})*".replace(" ", r"\s+")
PLACE = re.compile(rf"\b(chapter|section|exercise|equation)s?\s+({LIST})", re.IGNORECASE)
# "(Kingma et al., 2021, section 5.1)" and "their section 3.2" are the paper's own.
ELSEWHERE = re.compile(r"\btheir\s+$|(?:19|20)\d\d[a-z]?\)?,\s+$|\([^()]*(?:19|20)\d\d[^()]*$")
THEIRS = "references"  # a list of papers, whose sections are not ours
NOT_PROSE = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw,
             nodes.reference, nodes.title, nodes.Invisible)
log = logging.getLogger(__name__)


def places(book, texts):
    """Address and title: {("section", "5.3"): ("05_continuous.html#section-5.3", "Turning...")}.

    `texts` maps a chapter's file to the Markdown of its cells, joined.
    Raises `ValueError` if a number is given twice.
    """
    found = {("chapter", str(c.number)): (f"{c.stem}.html", c.title) for c in book.chapters}
    for chapter in book.chapters:
        text = texts[chapter.file]
        named = [(kind(heading), heading[2], heading[3]) for heading in HEADING.finditer(text)]
        for what, number, title in named + [("equation", n, "") for n in TAG.findall(text)]:
            require((what, number) not in found, f"{chapter.file}: {what} {number}",
                    "one of a kind", title)
            found[what, number] = f"{chapter.stem}.html#{what}-{number}", title
    return found


def setup(app):
    """The Sphinx extension; it asks for a `crossrefs` value: places, works and names."""
    app.add_config_value("crossrefs", {}, "env")
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True}


def link(app, doctree):
    """Give sections and equations their anchors, and make links of the words that mean them."""
    anchor(doctree)
    known, here = app.config.crossrefs, app.env.docname
    linked = set()
    for text in [t for t in doctree.findall(nodes.Text) if in_prose(t)]:
        spans = list(mentions(str(text), known["places"]))
        if here in known["works"]:
            spans += citations(str(text), known["works"][here])
        replace(text, sorted(spans), linked)
    for literal in list(doctree.findall(nodes.literal)):
        target = known["names"].get(literal.astext().removeprefix("minidiff.").removesuffix("()"))
        if target and in_prose(literal):
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), internal=True,
                                                 refuri=target, classes=["name"]))


def anchor(doctree):
    """Ids that stay when a title changes: `section-5.3`, `exercise-5.4`, `equation-5.2`."""
    for section in doctree.findall(nodes.section):
        if section[0].astext() == "References":
            section["classes"].append(THEIRS)
        found = HEADING.match(f"## {section[0].astext()}")
        if found:
            section["ids"].insert(0, f"{kind(found)}-{found[2]}")
    for block in doctree.findall(nodes.math_block):
        block["ids"] += [f"equation-{number}" for number in TAG.findall(block.astext())]


def in_prose(node):
    """Whether the node stands in running text of the book's own."""
    while node := node.parent:
        if isinstance(node, NOT_PROSE) or THEIRS in node["classes"]:
            return False
    return True


def mentions(text, known):
    """(start, end, address, title) of each place that the text names."""
    for found in PLACE.finditer(text):
        if ELSEWHERE.search(text[:found.start()]):
            continue
        numbers = list(re.finditer(NUMBER, found[2]))
        for number in numbers:
            place = found[1].lower(), number[0].strip("()")
            if (place[0] == "chapter") == ("." in place[1]):
                continue  # "in their section 4": our sections have a dot
            if place not in known:
                log.warning("there is no %s %s: %r", *place, found[0])
                continue
            start = found.start(2) + number.start()
            yield start if numbers[1:] else found.start(), start + len(number[0]), *known[place]


def citations(text, works):
    """(start, end, address, title) of each paper that the text mentions."""
    for found in bibliography.MENTION.finditer(text):
        try:
            work = bibliography.cite(found["name"], found["year"], works)
        except ValueError as error:
            log.warning("%s", error)
        else:
            yield found.start(), found.end(), f"references.html#{work.key}", work.title


def replace(text, spans, linked):
    """Put links in the place of these spans of a text node, but for those `linked` in its block.

    A second link to a place in one paragraph helps nobody.
    """
    block, parts, at = text.parent, [], 0
    while isinstance(block, nodes.Inline):
        block = block.parent
    for start, end, address, title in spans:
        if (id(block), address) in linked:
            continue
        linked.add((id(block), address))
        options = {"reftitle": title} if title else {}
        parts += [nodes.Text(text[at:start]), nodes.reference(
            "", text[start:end], refuri=address, internal=True, **options)]
        at = end
    if parts:
        parts = [*parts, nodes.Text(text[at:])]
        text.parent.replace(text, [part for part in parts if part.astext()])
