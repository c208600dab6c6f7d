"""Records: files of rows, each row a NamedTuple of words and numbers, as CSV."""

import csv
import io

from files import write_whole
from minidiff.errors import require


def of(Row, fits):
    """`read(path)` and `write(path, rows)` for a record of such rows, of which `fits` is true.

    Where there is no file, no row is read; for a damaged one `read` raises a `ValueError` that
    names the line. Whenever `write` is cut off, the file is the old one or the new one, and whole.
    """
    kinds = Row.__annotations__.values()

    def read(path):
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file)) or [[]]
        require(head == list(Row._fields), str(path), f"a record with columns {Row._fields}", head)
        return [row(line, f"{path}, line {number}") for number, line in enumerate(lines, start=2)]

    def row(line, place):
        try:
            made = Row(*(kind(word) for kind, word in zip(kinds, line, strict=True)))
            whole = fits(made)
        except ValueError:
            whole = False
        require(whole, place, "a row of the record", line)
        return made

    def write(path, rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([Row._fields, *rows])
        write_whole(path, text.getvalue())

    return read, write
