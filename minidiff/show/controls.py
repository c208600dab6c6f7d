"""What a reader can move, as plain data; `widget()` makes the live control of it."""

from dataclasses import dataclass
from numbers import Real

import ipywidgets

from minidiff.errors import require


@dataclass(frozen=True)
class Slider:
    """A number from `min` to `max` in steps of `step`, an int where all of them are ints.

    Playing goes by `stride`, a multiple of `step`; so do the pictures kept in a saved page.
    Raises `ValueError` unless `value`, `max` and every stride lie on the grid.
    """

    label: str
    min: float
    max: float
    step: float
    value: float
    stride: float = None

    def __post_init__(self):
        if self.stride is None:
            object.__setattr__(self, "stride", self.step)
        require(self.min < self.max, "max", f"above min = {self.min}", self.max)
        require(self.step > 0, "step", "> 0", self.step)
        require(self.stride >= self.step and _whole(self.stride / self.step), "stride",
                f"a multiple of step = {self.step}", self.stride)
        require(_whole((self.max - self.min) / self.stride), "stride",
                "such that whole strides lead from min to max", self.stride)
        self.check(self.value, "value")

    def check(self, value, name):
        """Raise `ValueError` unless `value` is one that the slider can show."""
        require(isinstance(value, Real) and self.min <= value <= self.max
                and _whole((value - self.min) / self.step), name,
                f"between {self.min} and {self.max} in steps of {self.step}", value)

    @property
    def stops(self):
        """The values at which playing stops, `min` and `max` among them."""
        count = round((self.max - self.min) / self.stride)
        return [self.min + i * self.stride for i in range(count + 1)]

    def widget(self):
        """The live slider."""
        whole = all(isinstance(n, int) for n in (self.min, self.max, self.step, self.value))
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        return kind(self.value, min=self.min, max=self.max, step=self.step, description=self.label,
                    style={"description_width": "initial"}, layout={"width": "420px"})


@dataclass(frozen=True)
class Choice:
    """One of a few named `options`. Raises `ValueError` unless they differ and `value` is one."""

    label: str
    options: tuple
    value: str

    def __post_init__(self):
        require(len(self.options) >= 2 and len(set(self.options)) == len(self.options),
                "options", "two or more different names", self.options)
        self.check(self.value, "value")

    def check(self, value, name):
        """Raise `ValueError` unless `value` is one of the options."""
        require(value in self.options, name, f"one of {tuple(self.options)}", value)

    @property
    def stops(self):
        """All options."""
        return list(self.options)

    def widget(self):
        """The live row of buttons."""
        return ipywidgets.ToggleButtons(options=self.options, value=self.value,
                                        description=self.label, layout={"width": "max-content"},
                                        style={"button_width": "auto",
                                               "description_width": "initial"})


def _whole(ratio):
    return abs(ratio - round(ratio)) < 1e-9
