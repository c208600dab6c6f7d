"""The book's look: one palette that colour-blind readers can tell apart (Okabe and Ito, 2008)."""

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

# A colour that stands for a role means the same in every chapter.
SIGNAL, NOISE, DATA, LEARNED = "#0072B2", "#D55E00", "#333333", "#009E73"
# A colour that stands for a group says where a point came from. The first two clash with no role.
GROUPS = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#A39600", "#0072B2", "#D55E00", "#777777")

RC = {
    "figure.figsize": (9.6, 3.6),
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=[SIGNAL, NOISE, LEARNED, *GROUPS[:3]]),
    "legend.frameon": False,
    "lines.linewidth": 2,
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
}


def style():
    """Give the plots of a chapter the book's look; call it once, at the top."""
    matplotlib.rcParams.update(RC)


def look():
    """A context, or decorator, in which figures get the book's look whatever the reader has set."""
    return matplotlib.style.context(["default", RC])


def blank(width, height):
    """A `Figure` of so many inches, at 100 dots each, which pyplot knows nothing of."""
    return Figure(figsize=(width, height), dpi=100, facecolor="white", layout="none")


def place(figure, left, bottom, width, height, **properties):
    """Axes at a place given in inches, so that nothing shifts when the text in it changes."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h), **properties)
