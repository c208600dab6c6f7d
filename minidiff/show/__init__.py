"""Plots and widgets: pictures that are pure functions of their state, and controls around them."""

from minidiff.show.attention import attention
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.features import features
from minidiff.show.field import field
from minidiff.show.guess import guess
from minidiff.show.langevin import langevin
from minidiff.show.noising import noising
from minidiff.show.objectives import objectives
from minidiff.show.picture import Picture
from minidiff.show.reverse import reverse
from minidiff.show.solvers import solvers
from minidiff.show.stochastic import stochastic
from minidiff.show.style import DATA, GROUPS, LEARNED, NOISE, SIGNAL, style
from minidiff.show.tape import tape
from minidiff.show.training import training
from minidiff.show.trajectories import trajectories
from minidiff.show.walk import walk

__all__ = ["DATA", "GROUPS", "LEARNED", "NOISE", "SIGNAL", "Choice", "Explorable", "Picture",
           "Slider", "attention", "features", "field", "guess", "langevin", "noising",
           "objectives", "reverse", "solvers", "stochastic", "style", "tape", "training",
           "trajectories", "walk"]
