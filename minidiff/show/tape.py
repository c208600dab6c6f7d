"""The tape of a small computation: values are made forwards, slopes come back, move by move."""

import numpy as np

from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, NOISE, SIGNAL, blank, look, place

GIVEN = {"w": -1.2, "x": 0.9, "b": 0.3, "y": 0.5}  # one unit of a network, and what it should say
MEET = ("add", "overwrite")
PLACES = {"w": (0, 2), "x": (0, 0), "p": (1, 1), "b": (1, -0.5), "a": (2, 1), "g": (3, 2.2),
          "z": (4, 1), "y": (4, -0.5), "e": (5, 1), "L": (6, 1)}


def gate(a):
    """SiLU's gate, 1/(1 + exp(-a))."""
    return 1 / (1 + np.exp(-a))


TAPE = (  # name, formula, sources, value of them, slope by each of them and their own values
    ("p", "w·x", "wx", lambda w, x: w * x, lambda w, x: (x, w)),
    ("a", "p + b", "pb", lambda p, b: p + b, lambda p, b: (1.0, 1.0)),
    ("g", "gate(a)", "a", gate, lambda a: (gate(a) * (1 - gate(a)),)),
    ("z", "a·g", "ag", lambda a, g: a * g, lambda a, g: (g, a)),
    ("e", "z - y", "zy", lambda z, y: z - y, lambda z, y: (1.0, -1.0)),
    ("L", "e²", "e", lambda e: e**2, lambda e: (2 * e,)),
)
MOVES = 2 * len(TAPE) + 1  # forwards, a 1 at L, and back


def run(move, meet="add", **changed):
    """After so many moves: values and slopes by name, and the words on the move just made."""
    values, slopes, words = {**GIVEN, **changed}, {}, "given: w, x, b and y"
    for name, formula, sources, make, _ in TAPE[:move]:
        values[name] = make(*(values[s] for s in sources))
        words = f"forwards: {name} = {formula}"
    if move > len(TAPE):
        slopes["L"], words = 1.0, "back: the slope of L by itself is 1"
    for name, formula, sources, _, slope in TAPE[::-1][:max(0, move - len(TAPE) - 1)]:
        factors = slope(*(values[s] for s in sources))
        parts = []
        for source, factor in zip(sources, factors):
            met = source in slopes
            old = slopes.get(source, 0.0) if meet == "add" else 0.0
            slopes[source] = old + factor * slopes[name]
            plus = "+" if met and meet == "add" else ""
            parts.append(f"to {source}: {plus}{factor:.2f} · {slopes[name]:.2f}".replace("+-", "-"))
        words = f"back through {name} = {formula}:   " + "   ".join(parts)
    return values, slopes, words


def true_slopes(h=1e-5):
    """dL by each number that is given, by central differences."""
    ends = {name: [run(len(TAPE), **{name: GIVEN[name] + d})[0]["L"] for d in (-h, h)]
            for name in GIVEN}
    return {name: float(up - down) / (2 * h) for name, (down, up) in ends.items()}


def active(move):
    """The name of the operation at work, if any."""
    if 0 < move <= len(TAPE):
        return TAPE[move - 1][0]
    return TAPE[MOVES - move][0] if move > len(TAPE) + 1 else None


@look()
def tape():
    """Move through a computation: six operations forwards, then back through the same six.

    Every box holds a value (blue) and, on the way back, the slope of L by it (orange). a is used
    twice; where the two ways meet, their slopes are added, or the later one overwrites: a bug.
    The numbers: loss and slope_w, by the tape, NaN while unknown; true_w, by differences; so_far,
    slope_w in words.
    """
    truth = true_slopes()
    figure = blank(8.6, 4.1)
    axes = place(figure, 0.05, 0.05, 8.5, 4.0, xlim=(-0.55, 6.6), ylim=(-1.65, 3.15))
    axes.set_axis_off()
    fork = place(figure, 2.5, 1.65, 3.6, 2.4, facecolor="none")  # what the film strip shows
    fork.set_axis_off()
    arrows = {}
    for name, formula, sources, *_ in TAPE:
        for source in sources:
            start, end = np.array(PLACES[source], float), np.array(PLACES[name], float)
            axes.annotate("", end, start, zorder=0, arrowprops=dict(
                arrowstyle="-|>", color="0.75", shrinkA=26, shrinkB=26, linewidth=1.5))
            for way, colour in (("on", SIGNAL), ("back", NOISE)):
                ends = (end, start) if way == "on" else (start, end)
                arrows[way, source, name] = axes.annotate(
                    "", *ends, zorder=1, animated=True, arrowprops=dict(
                        arrowstyle="-|>", color=colour, shrinkA=26, shrinkB=26, linewidth=3,
                        mutation_scale=18))
    formulas = {name: formula for name, formula, *_ in TAPE}
    above, below = {}, {}
    for name, (i, j) in PLACES.items():
        axes.plot(i, j, "s", markersize=46, color="white", zorder=2,
                  markeredgecolor=DATA if name in formulas else "0.6")
        label = f"{name} = {formulas[name]}" if name in formulas else name
        axes.text(i, j + 0.53, label, ha="center", color=DATA, fontsize=12)
        text = dict(ha="center", va="center", fontsize=13, zorder=3, animated=True)
        above[name] = axes.text(i, j + 0.16, "", color=SIGNAL, **text)
        below[name] = axes.text(i, j - 0.18, "", color=NOISE, **text)
    line = axes.text(3.0, -1.5, "", ha="center", color=DATA, fontsize=13, animated=True)
    i, j = PLACES["a"]
    rule = axes.text(i - 0.1, j - 0.55, "", color=NOISE, fontsize=11, animated=True)
    axes.text(5.1, 2.75, "value", color=SIGNAL, fontsize=13)
    axes.text(5.1, 2.4, "slope of L by it", color=NOISE, fontsize=13)

    def move(move, meet):
        values, slopes, words = run(move, meet)
        for name in PLACES:
            above[name].set_text(f"{values[name]:.2f}" if name in values else "")
            below[name].set_text(f"{slopes[name]:.3f}" if name in slopes else "")
        for (way, source, name), arrow in arrows.items():
            arrow.set_visible(name == active(move) and (way == "on") == (move <= len(TAPE)))
        line.set_text(words)
        rule.set_text("two slopes: " + meet)
        slope = float(slopes.get("w", np.nan))
        return {"loss": float(values.get("L", np.nan)), "slope_w": slope, "true_w": truth["w"],
                "so_far": f"{slope:.3f}" if "w" in slopes else "not yet known"}

    return Explorable(
        "tape", Picture(figure, move),
        {"move": Slider("move", 0, MOVES, 1, MOVES),
         "meet": Choice("where ways meet", MEET, "add")},
        readout="move {move} of 13, slopes {meet}: the slope of L by w is {so_far} by the tape, "
                "{true_w:.3f} by differences",
        alt="A graph of six operations from w, x and b to the loss L: values are filled in from "
            "left to right, slopes from right to left; two ways meet at a, where slopes are added.",
        film=[(meet, fork, {"meet": meet}) for meet in MEET], cuts=())
