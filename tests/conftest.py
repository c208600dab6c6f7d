"""Where the book is and what its mathematics is called, for all tests."""

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
