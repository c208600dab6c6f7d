"""The gallery is the chapters' own figures, and README.md's mosaic is made of them."""

import base64
import io

import numpy as np
import pytest
from conftest import BOOK, CHAPTERS, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import gallery
from normal_form import read


def png(colour, size=(96, 40)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def figure(*tags, colour="red"):
    return new_code_cell("draw()", id=colour, metadata={"tags": list(tags)}, outputs=[
        new_output("display_data", data={"image/png": png(colour)})])


def chosen(*cells):
    """The gallery of a book in which every chapter is of these cells."""
    nb = new_notebook(cells=[new_markdown_cell("# One\n\n## 1.1 A step"), *cells])
    return gallery.chosen(BOOK, {chapter.file: nb for chapter in BOOK.chapters})


def test_tagged_cells_alone_are_chosen_with_their_section():
    found = chosen(figure("gallery", "cover"), figure(colour="green"),
                   new_markdown_cell("## 1.2 Two\n\nText.\n\n## 1.3 A & B"),
                   figure("gallery", colour="blue"))[:2]
    assert [(f.cell, f.section, f.title, f.cover) for f in found] == [
        ("red", "1.1", "A step", True), ("blue", "1.3", "A & B", False)]
    assert found[0].png == base64.b64decode(png("red"))


@pytest.mark.parametrize("cells", [
    [figure("gallery")],
    [figure("gallery", "cover"), figure("gallery", "cover", colour="blue")],
    [figure("gallery", "cover"), new_code_cell("1", id="plain", metadata={"tags": ["gallery"]})],
])
def test_a_chapter_has_one_cover_and_figures_where_it_says_so(cells):
    with pytest.raises(ValueError, match="cover must be one|plain must have a figure"):
        chosen(*cells)


def test_the_page_leads_to_each_figure(tmp_path):
    found = chosen(figure("gallery", "cover"), new_markdown_cell("## 1.3 A & B"),
                   figure("gallery", colour="blue"))
    text = gallery.gallery(found, tmp_path)
    name = BOOK.chapters[0].stem
    assert f'<a href="{name}.html#figure-blue"><img src="gallery/{name}-blue.png"' in text
    assert 'alt="A figure of section 1.3 A &amp; B"' in text
    assert (tmp_path / f"gallery/{name}-blue.png").read_bytes() == base64.b64decode(png("blue"))


def test_the_mosaic_in_the_repository_is_of_the_chapters_as_they_are():
    """It may differ by what one machine's resampling and palette differ from another's."""
    notebooks = {c.file: read(CHAPTERS / c.file) for c in BOOK.chapters}
    fresh = gallery.mosaic(gallery.chosen(BOOK, notebooks))
    kept = Image.open(ROOT / "pictures" / "gallery.png").convert("RGB")
    assert kept.size == fresh.size
    off = np.abs(np.asarray(kept, float) - np.asarray(fresh, float))
    boxes = off[:off.shape[0] // 10 * 10, :off.shape[1] // 10 * 10].reshape(
        off.shape[0] // 10, 10, off.shape[1] // 10, 10, 3).mean(axis=(1, 3, 4))
    assert boxes.max() < 20, "run: python tools/gallery.py"
