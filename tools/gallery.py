"""The chapters' own figures, picked: the HTML book's gallery, and a mosaic for README.md.

usage: python tools/gallery.py     (writes pictures/gallery.png)

A cell tagged `gallery` has its figure on the page; each chapter has one that is tagged `cover`,
too, and the mosaic is made of these.
"""

import base64
import html
import io
import sys
from collections import namedtuple
from pathlib import Path

from PIL import Image

from headings import with_sections
from minidiff.book import load
from minidiff.errors import require
from normal_form import read

ROOT = Path(__file__).resolve().parent.parent
BOX, GAP, COLUMNS = (470, 250), 20, 3  # of the mosaic, in pixels
Figure = namedtuple("Figure", "chapter section title cell png cover")
START = """# Gallery

Every figure is drawn by the chapter that it leads to, from scratch, whenever that chapter is run.
"""


def chosen(book, notebooks):
    """The tagged `Figure`s in reading order; `notebooks` maps a chapter's file to its notebook.

    Raises `ValueError` where a chapter has no cover, or several, or a tagged cell no figure.
    """
    found = []
    for chapter in book.chapters:
        figures = list(_figures(chapter, notebooks[chapter.file]))
        covers = [figure.cell for figure in figures if figure.cover]
        require(len(covers) == 1, f"{chapter.file}: cells tagged cover", "one", covers)
        found += figures
    return found


def _figures(chapter, nb):
    for cell, section in with_sections(nb.cells):
        tags = cell.metadata.get("tags", [])
        if "gallery" in tags:
            pngs = [output.data["image/png"] for output in cell.get("outputs", [])
                    if "image/png" in output.get("data", {})]
            if not pngs or not section:
                raise ValueError(f"{chapter.file}: cell {cell.id} must have a figure and a section "
                                 "to be in the gallery")
            yield Figure(chapter, section[2], section[3], cell.id, base64.b64decode(pngs[0]),
                         "cover" in tags)


def gallery(figures, folder):
    """The page in Markdown; the figures' files are written into `folder`/gallery."""
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    cards = []
    for figure in figures:
        file = f"gallery/{figure.chapter.stem}-{figure.cell}.png"
        (folder / file).write_bytes(figure.png)
        width, height = Image.open(io.BytesIO(figure.png)).size
        title = html.escape(f"{figure.section} {figure.title}")
        cards.append(f'<a href="{figure.chapter.stem}.html#figure-{figure.cell}">'
                     f'<img src="{file}" width="{width}" height="{height}" loading="lazy" '
                     f'alt="A figure of section {title}"><span>{title}</span></a>')
    return START + '\n<div class="gallery">\n' + "\n".join(cards) + "\n</div>\n"


def mosaic(figures):
    """The covers in rows, as one image."""
    covers = [Image.open(io.BytesIO(f.png)).convert("RGB") for f in figures if f.cover]
    rows, (w, h) = -(-len(covers) // COLUMNS), BOX
    sheet = Image.new("RGB", (COLUMNS * (w + GAP) + GAP, rows * (h + GAP) + GAP), "white")
    for n, cover in enumerate(covers):
        scale = min(w / cover.width, h / cover.height)
        cover = cover.resize((round(cover.width * scale), round(cover.height * scale)),
                             Image.Resampling.LANCZOS)
        left, top = (GAP + k * (size + GAP) for k, size in zip((n % COLUMNS, n // COLUMNS), BOX))
        sheet.paste(cover, (left + (w - cover.width) // 2, top + (h - cover.height) // 2))
    return sheet


def main():
    book = load(ROOT / "book.toml")
    notebooks = {c.file: read(ROOT / book.src / c.file) for c in book.chapters}
    path = ROOT / "pictures" / "gallery.png"
    few = mosaic(chosen(book, notebooks)).quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
