"""Where the book is and what its mathematics is called, for all tests."""

import re
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

from minidiff.book import load

ROOT = Path(__file__).resolve().parent.parent
BOOK = load(ROOT / "book.toml")
CHAPTERS = ROOT / BOOK.src
MATHEMATICS = ("denoise", "elbo", "likelihood", "mixture", "mlp", "process", "quadrature", "rosetta",
               "sampler", "schedule")

matplotlib.use("Agg")  # not by the environment: nbval's kernels would inherit that
sys.path.insert(0, str(ROOT / "tools"))


def code_cells(nb, *wanted):
    """The notebook's code cells, or only those with a tag that starts with one of `wanted`."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    return [cell for cell in cells if not wanted or any(
        tag.startswith(wanted) for tag in cell.metadata.get("tags", []))]


def redraw_seconds(widget):
    """CPU time of a widget's redraw, the median over the stops of the slider that plays."""
    name, slider = widget.axis
    times = []
    for stop in slider.stops:
        start = time.process_time()
        widget.draw(**{name: stop})
        times.append(time.process_time() - start)
    return np.median(times)


def check_pictures(widget, make, states):
    """Each state has a picture of its own, which depends on the state alone."""
    first = widget.draw(**states[0])
    assert len({widget.draw(**state) for state in states}) == len(states)
    assert widget.draw(**states[0]) == first == make().draw(**states[0])


def check_quick(widget, make):
    """Made within 1.5 s of CPU time, redrawn within 60 ms."""
    start = time.process_time()
    make()
    assert time.process_time() - start < 1.5
    assert redraw_seconds(widget) <= 0.060


def lively_unet(config, strength):
    """A U-Net that hasn't been trained, and whose zero layers aren't zero."""
    import torch

    from minidiff.nn import UNet

    network, generator = UNet(config), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(strength * torch.randn(weight.shape, generator=generator)
                        / weight[0].numel() ** 0.5)
    return network.eval()


def check_forms(widget):
    """A widget has three forms, and the saved one is small and tells what it shows."""
    bundle = widget._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert bundle["text/plain"] == f"Explorable({widget.name!r})"
    assert len(bundle["text/html"].encode()) <= 400_000
    assert re.search(r'<img alt="[^"]{40,}"', bundle["text/html"])
    for control in widget.plain.values():
        assert control.value in control.stops, "a saved page can show how it began"
