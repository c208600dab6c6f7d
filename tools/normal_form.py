"""A notebook's normal form: what is saved depends on the chapter, not on who ran it or when."""

import base64
import io
import re

import nbformat
from PIL import Image, ImageChops, ImageStat

METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"}}
VIEW = "application/vnd.jupyter.widget-view+json"
VISIBLE = 0.5  # grey levels of 255, on average over a picture
VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]{27})?")  # as nbformat and JupyterLab draw them


def read(path):
    """The notebook at `path`, in nbformat 4.5."""
    return nbformat.read(path, as_version=4)


def dumps(nb):
    """The notebook's text, as saved. Raises `ValidationError` if it isn't a valid notebook."""
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def normal_form(nb):
    """A copy of the notebook with lasting cell ids and nothing but what a reader needs."""
    taken = set()
    cells = [_cell(cell, taken) for cell in nb.cells]
    return nbformat.from_dict(
        {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def _cell(cell, taken):
    source = "\n".join(line.rstrip() for line in cell.source.split("\n")).strip("\n")
    fresh = {"cell_type": cell.cell_type, "id": _id(cell.get("id", ""), source, taken),
             "metadata": _metadata(cell.metadata), "source": source}
    if "attachments" in cell:
        fresh["attachments"] = cell.attachments
    if cell.cell_type == "code":
        fresh |= {"execution_count": cell.execution_count, "outputs": _outputs(cell)}
    return fresh


def _id(old, source, taken):
    """The old id where somebody chose it, else the first line's words; numbered where taken."""
    keep = VALID_ID.fullmatch(old) and not RANDOM_ID.fullmatch(old)
    words = re.sub(r"[^a-z0-9]+", "-", source.split("\n")[0].lower())[:40].strip("-")
    base = old if keep else words or "cell"
    name, n = base, 1
    while name in taken:
        n += 1
        name = f"{base}-{n}"
    taken.add(name)
    return name


def _metadata(metadata):
    fresh = {"tags": metadata["tags"]} if metadata.get("tags") else {}
    if metadata.get("jupyter", {}).get("source_hidden"):
        fresh["jupyter"] = {"source_hidden": True}
    return fresh


def _outputs(cell):
    fresh, streams = [], {}
    for output in cell.outputs:
        if output.output_type != "stream":
            fresh.append(_output(output, cell.execution_count))
        elif output.name in streams:
            streams[output.name]["text"] += output.text
        else:
            streams[output.name] = {"output_type": "stream", "name": output.name,
                                    "text": output.text}
            fresh.append(streams[output.name])
    return fresh


def _output(output, count):
    if output.output_type == "error":
        return output
    data = {mime: _small_png(value) if mime == "image/png" else value
            for mime, value in output.data.items()
            if not (mime == VIEW and "text/html" in output.data)}
    sizes = {mime: {key: size[key] for key in ("width", "height") if key in size}
             for mime, size in output.metadata.items() if mime in data and "width" in size}
    fresh = {"output_type": output.output_type, "data": data, "metadata": sizes}
    return fresh | ({"execution_count": count} if output.output_type == "execute_result" else {})


def _small_png(text):
    """A base64 PNG without notes on who wrote it and when, in 256 colours where that can't be seen.

    Most plots shrink to a third; a photo keeps its colours. One without notes has been here before
    and is left alone, for another machine's compressor may write other bytes.
    """
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    if not image.info:
        return text
    image = image.convert("RGB")
    few = image.quantize(256, dither=Image.Dither.NONE)
    off = ImageStat.Stat(ImageChops.difference(image, few.convert("RGB"))).mean
    image = few if max(off) < VISIBLE else image
    image.info.clear()
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
