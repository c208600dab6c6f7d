"""A picture with controls: live in a notebook, working in a saved page, a film strip elsewhere."""

from functools import cached_property
from html import escape

import ipywidgets

from minidiff.errors import require
from minidiff.show import saved
from minidiff.show.controls import Slider
from minidiff.show.picture import png


class Explorable:
    """What a reader explores: a `Picture`, and the controls whose values are the picture's state.

    `controls` maps the state's names to `Slider`s and `Choice`s; afterwards the attribute of that
    name holds the live ones, so `e.controls["t"].value = 300` moves the picture, `e.state` says
    where it stands and `e.numbers` what it measured. `readout` is a format string over both.
    The film strip has a row for each `(label, axes, fixed state)` of `film`. A narrow page cuts the
    picture at the pixel columns `cuts`. `renderer` names the function of saved.js that draws
    `data()` in a saved page; `"frames"` keeps pictures.
    """

    def __init__(self, name, picture, controls, *, readout, alt, film, cuts=(),
                 renderer="frames", data=None):
        require(any(isinstance(c, Slider) for c in controls.values()), "controls",
                "such that one is a Slider", controls)
        self.name, self.picture, self.readout, self.alt = name, picture, readout, alt
        self.film, self.cuts, self.renderer = film, cuts, renderer
        self.data = data or (lambda: saved.frames(self))
        self.plain = dict(controls)
        self.numbers = {}
        self.controls = {key: control.widget() for key, control in controls.items()}
        width = f"{picture.background.shape[1]}px"
        self._image = ipywidgets.Image(format="png", layout={"width": "100%", "max_width": width})
        self._line = ipywidgets.HTML()
        self._move()
        for control in self.controls.values():
            control.observe(self._move, "value")
        self.shell = ipywidgets.VBox([
            ipywidgets.HBox([self._player(), *self.controls.values()],
                            layout={"flex_flow": "row wrap", "align_items": "center"}),
            self._image, self._line])

    @property
    def state(self):
        """The controls' values by name."""
        return {key: control.value for key, control in self.controls.items()}

    @property
    def start(self):
        """The state at which the controls began."""
        return {key: control.value for key, control in self.plain.items()}

    @property
    def axis(self):
        """Name and `Slider` of the control that plays."""
        return next((k, c) for k, c in self.plain.items() if isinstance(c, Slider))

    def pixels(self, **state):
        """The picture, (height, width, 3) uint8, and its numbers; keys left out are as at first."""
        require(state.keys() <= self.plain.keys(), "state", f"by the names {tuple(self.plain)}",
                tuple(state))
        for key, value in state.items():
            self.plain[key].check(value, key)
        return self.picture.pixels(**{**self.start, **state})

    def draw(self, **state):
        """The picture at this state, as PNG bytes: the same state, the same bytes."""
        return png(self.pixels(**state)[0])

    def describe(self, state, numbers):
        """The line under the picture."""
        return self.readout.format(**state, **numbers)

    def _move(self, change=None):
        pixels, self.numbers = self.pixels(**self.state)
        self._image.value = png(pixels)
        line = escape(self.describe(self.state, self.numbers))
        self._line.value = f'<span style="font-size: 15px">{line}</span>'

    def _player(self):
        """A button that plays forwards to the slider's end, and backwards to its start."""
        key, slider = self.axis
        live, stops = self.controls[key], slider.stops
        last = len(stops) - 1
        play = ipywidgets.Play(min=0, max=2 * last, interval=100, show_repeat=False,
                               tooltip="Play to the end and back")

        def at():
            return last - abs(last - play.value)

        def near():
            return round((live.value - slider.min) / slider.stride)

        def lead(_):
            if at() != near():
                live.value = stops[at()]

        def follow(_):
            if at() != near():
                play.value = near()

        follow(None)
        play.observe(lead, "value")
        live.observe(follow, "value")
        return play

    @cached_property
    def html(self):
        """The saved form; see saved.py."""
        return saved.html(self)

    def __repr__(self):
        return f"Explorable({self.name!r})"

    def _repr_mimebundle_(self, **_):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.shell.model_id}
        return {"text/plain": repr(self), "text/html": self.html,
                "application/vnd.jupyter.widget-view+json": view}
