"""What the bench has measured, kept: a record for each device, and the README's lines of them.

A record is chapters/records/bench-DEVICE.json: {section: {"machine", "rounds", "rows"}}. A section
that is measured again takes its old one's place, and the others stay.
"""

import json
import math
import re
from dataclasses import asdict
from itertools import groupby

import minutes
from bench import Row, machine, shown, slug
from files import write_whole
from minidiff.errors import require
from normalise import ROOT

BLOCK = re.compile("(<!-- bench -->\n).*(<!-- /bench -->)", re.DOTALL)
TITLES = {"toy": "chapter 3's network", "unet": "U-Net", "data": "data", "solvers": "evaluations",
          "book": "the book"}
LEFT_OUT = ("chapter", "peak memory", "redraw")
VERSIONS = ("numpy", "torch")


def path(about, root=ROOT):
    """Where the record of this machine's device stands."""
    return root / "chapters" / "records" / f"bench-{slug(about['gpu'] or 'cpu')}.json"


def keep(path, sections, rounds):
    """Put {section: its `Row`s} into the record; what it has of other sections stays."""
    new = {name: {"machine": machine(), "rounds": rounds, "rows": [_bare(row) for row in rows]}
           for name, rows in sections.items()}
    record = {**(_stored(path) if path.exists() else {}), **new}
    in_order = {name: record[name] for name in TITLES if name in record}
    write_whole(path, json.dumps(in_order, indent=1, ensure_ascii=False) + "\n")


def read(path):
    """{section: {"machine", "rounds", "rows": its `Row`s}}; `ValueError` for another file."""
    return {name: {**kept, "rows": [_row(row) for row in kept["rows"]]}
            for name, kept in _stored(path).items()}


def _stored(path):
    record = json.loads(path.read_text("utf-8"))
    require(isinstance(record, dict) and set(record) <= set(TITLES), str(path),
            f"a record with sections of {tuple(TITLES)}", f"{str(record):.100}")
    return record


def _bare(row):
    """A row as JSON has it, which knows no NaN: what does not apply is left out."""
    return {key: value for key, value in asdict(row).items() if value == value and value != ""}


def _row(kept):
    return Row(**{"who": "", "unit": "", "value": math.nan, **kept})


def publish(sections, rounds, out=None, write=False, root=ROOT):
    """Put {section: its `Row`s} into the record `out`, if there shall be one; and, if `write`, into
    the book: its record, the README's lines, and of section book the chapters' seconds.

    Returns {file: why its chapter's seconds stay}.
    """
    if out:
        keep(out, sections, rounds)
    if not write:
        return {}
    keep(path(machine(), root), sections, rounds)
    readme = root / "README.md"
    write_whole(readme, with_costs(readme.read_text("utf-8"), root))
    return minutes.write(minutes.measured(sections["book"]), root) if "book" in sections else {}


def with_costs(readme, root=ROOT):
    """The README's text with the lines of all records, between the markers, made anew."""
    require(BLOCK.search(readme), "README.md", "with <!-- bench --> and <!-- /bench -->", "none")
    records = sorted((root / "chapters" / "records").glob("bench-*.json"))
    text = "\n\n".join(lines(read(record)) for record in records)
    return BLOCK.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", readme)


def lines(record):
    """A record in Markdown: what was measured of whom, in short, and on what machine."""
    table = [f"| {TITLES[name]} | {what} | {measured} |" for name, kept in record.items()
             for what, measured in told(kept["rows"])]
    return "\n".join(["| of | what | measured |", "|:--|:--|:--|", *table, "", *sorted(set(abouts(record)))])


def told(rows):
    """(what, what each took) of what has a unit and was measured; of redraws the slowest."""
    rows = [row for row in rows if row.unit and not row.note.startswith(("skipped", "failed"))]
    for what, group in groupby(rows, lambda row: row.what):
        if what not in LEFT_OUT:
            yield what, _each(list(group))
    redraws = [row for row in rows if row.what == "redraw"]
    if redraws:
        slowest = max(redraws, key=lambda row: row.value)
        yield f"slowest redraw of {len(redraws)} widgets", f"{slowest.who}: {_shown(slowest)}"


def _each(rows):
    """Ours, and how many times as long the others took; or each one's own number."""
    first, *others = rows
    if first.who == "ours" and first.ratio == 1:
        rest = "; ".join(f"{row.who} × {shown(row.ratio)}" for row in others)
        return f"{_shown(first)}; {rest}" if rest else _shown(first)
    return "; ".join(f"{row.who} {_shown(row)}" for row in rows)


def _shown(row):
    if math.isnan(row.value):  # the note tells why: "more than 247: ..."
        return row.note.split(":")[0]
    if row.unit == "evaluations":  # a count, and the line says of what
        return f"{row.value:.0f}"
    return shown(row.value, row.unit)


def abouts(record):
    """A line for each machine that the sections were measured on."""
    for kept in record.values():
        about = kept["machine"]
        versions = ", ".join(f"{name} {about['versions'][name]}" for name in VERSIONS
                             if name in about["versions"])
        yield (f"*{about['gpu'] or about['processor']}, {about['cores']} cores, threads: "
               f"{about['threads']}; Python {about['python']}, {versions}; medians of "
               f"{kept['rounds']} rounds. × 2 says: twice as long as ours.*")
