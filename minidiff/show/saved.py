"""The saved form of an `Explorable`: HTML that holds all it needs and asks the network for nothing.

Where scripts don't run a reader sees the film strip, an `<img>`; saved.js puts the working picture
in its place. Whatever differs from machine to machine stands in the `<img>`'s data or in the one
line of the payload.
"""

import base64
import html as markup
import json
from dataclasses import asdict
from importlib import resources
from itertools import product

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from minidiff.show.picture import png
from minidiff.show.style import blank


def html(explorable):
    """The whole `<figure>`: film strip, payload, script."""
    script = resources.files(__package__).joinpath("saved.js").read_text(encoding="utf-8")
    payload = json.dumps(_payload(explorable), ensure_ascii=False).replace("<", "\\u003c")
    strip = uri(png(_film(explorable), colours=128, level=9))
    return (f'<figure class="minidiff">\n'
            f'<img alt="{markup.escape(explorable.alt)}" style="max-width: 100%" src="{strip}">\n'
            f'<script type="application/json" class="minidiff-payload">{payload}</script>\n'
            f"<script>\n(() => {{\n{script}}})();\n</script>\n</figure>")


def frames(explorable):
    """At every stop of every control, the pixels that differ from the background, and the line."""
    images, lines = [], []
    background = explorable.picture.background
    for values in product(*(control.stops for control in explorable.plain.values())):
        state = dict(zip(explorable.plain, values))
        pixels, numbers = explorable.pixels(**state)
        red, green, blue = np.moveaxis(pixels != background, -1, 0)
        moved = (red | green | blue)[..., None]  # a third of the time of any(axis=-1)
        layer = np.concatenate([pixels * moved, moved.astype(np.uint8) * 255], axis=-1)
        images.append(uri(png(layer, colours=24, level=9)))
        lines.append(explorable.describe(state, numbers))
    return {"images": images, "lines": lines}


def pack(array, dtype="int16"):
    """Numbers for saved.js: bytes in base64, their type, and the scale that they go by."""
    kind, numbers, scale = np.dtype(dtype).newbyteorder("<"), np.asarray(array, np.float64), 1.0
    if kind.kind == "i":
        scale = float(np.abs(numbers).max() / np.iinfo(kind).max)
        numbers = np.rint(numbers / scale)
    return {"type": dtype, "scale": scale,
            "bytes": base64.b64encode(numbers.astype(kind).tobytes()).decode()}


def uri(image):
    """PNG bytes as an address that needs no request."""
    return "data:image/png;base64," + base64.b64encode(image).decode()


def _payload(explorable):
    size = explorable.picture.background.shape[1::-1]
    controls = [{"name": name, **asdict(control)} for name, control in explorable.plain.items()]
    return {"name": explorable.name, "alt": explorable.alt, "size": size, "cuts": explorable.cuts,
            "controls": controls, "readout": explorable.readout,
            "background": uri(png(explorable.picture.sharp(), colours=32, level=9)),
            "renderer": explorable.renderer, "data": explorable.data()}


def _film(explorable, count=6, gap=8, margin=44):
    """A row of `count` cut-outs for each entry of `explorable.film`, with labels."""
    name, slider = explorable.axis
    grid = slider.min + slider.step * np.arange(round((slider.max - slider.min) / slider.step) + 1)
    stops = [grid[i].item() for i in np.rint(np.linspace(0, len(grid) - 1, count)).astype(int)]
    windows = [explorable.picture.window(axes) for _, axes, _ in explorable.film]
    wide, high = (max(w[i] for w in windows) + gap for i in (2, 3))
    width, height = margin + count * wide, margin + len(windows) * high
    figure = blank(width / 100, height / 100)
    font = {"fontsize": width / 72, "ha": "center", "va": "center"}
    rows = zip(explorable.film, windows)
    for row, ((label, _, fixed), (left, top, w, h)) in enumerate(rows):
        y = height - margin - (row + 1) * high
        figure.text(margin / 2 / width, (y + high / 2) / height, label, rotation=90, **font)
        for column, stop in enumerate(stops):
            pixels, _ = explorable.pixels(**{name: stop, **fixed})
            figure.figimage(pixels[top:top + h, left:left + w], margin + column * wide, y + gap)
    for column, stop in enumerate(stops):
        figure.text((margin + (column + 0.5) * wide) / width, 1 - margin / 2 / height,
                    f"{name} = {stop:g}", **font)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
