"""How the chapters number their sections and exercises: the one place that reads a heading."""

import re

HEADING = re.compile(r"^##+ (Exercise )?(\d+\.\d+) (?:· )?(.+)$", re.MULTILINE)


def kind(heading):
    """Of what the heading is that matched: "section" or "exercise"."""
    return "exercise" if heading[1] else "section"


def with_sections(cells):
    """(cell, the heading of the section that it stands in, or None) of each of a chapter's cells."""
    section = None
    for cell in cells:
        if cell.cell_type == "markdown":
            found = [h for h in HEADING.finditer(cell.source) if kind(h) == "section"]
            section = [section, *found][-1]
        yield cell, section
