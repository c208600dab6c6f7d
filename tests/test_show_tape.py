"""The widget of chapter 7: its slopes are derivatives, its bug is one, its pictures are pure."""

import numpy as np
import pytest
from conftest import check_forms, check_quick

from minidiff import show
from minidiff.show.tape import GIVEN, MOVES, TAPE, run, tape, true_slopes

STATES = [{"move": 3}, {"move": 10}, {"move": 11}, {"move": 11, "meet": "overwrite"}]


@pytest.fixture(scope="module")
def widget():
    return tape()


def by_hand(w, x, b, y):
    """The loss of one unit and its slopes by w, x, b and y, from chapter 3's formulas."""
    a = w * x + b
    g = 1 / (1 + np.exp(-a))
    z = a * g
    delta = 2 * (z - y) * (1 - (1 - z) * (1 - g))
    return (z - y) ** 2, {"w": delta * x, "x": delta * w, "b": delta, "y": -2 * (z - y)}


def test_the_values_and_slopes_are_those_of_chapter_3():
    loss, slopes = by_hand(**GIVEN)
    values, found, _ = run(MOVES)
    assert values["L"] == pytest.approx(loss, rel=1e-14)
    for name, slope in slopes.items():
        assert found[name] == pytest.approx(slope, rel=1e-12)
        assert true_slopes()[name] == pytest.approx(slope, abs=1e-9)


def test_overwriting_is_wrong_by_what_came_first():
    right, wrong = (run(MOVES, meet)[1] for meet in ("add", "overwrite"))
    first = run(MOVES - 3)[1]["a"]  # z = a·g has sent its part, the gate hasn't yet
    assert wrong["a"] == pytest.approx(right["a"] - first, rel=1e-12)
    assert wrong["w"] * right["w"] < 0, "the picture says that the sign is wrong"
    assert all(wrong[name] == right[name] for name in ("L", "e", "z", "g", "y"))


def test_every_move_makes_one_operation_known():
    seen = [run(move) for move in range(MOVES + 1)]
    for k in range(1, len(TAPE) + 1):
        assert len(seen[k][0]) == len(seen[k - 1][0]) + 1 and not seen[k][1]
    assert seen[len(TAPE) + 1][1] == {"L": 1.0}
    for before, after in zip(seen[len(TAPE) + 1:], seen[len(TAPE) + 2:]):
        assert before[0] == after[0] and set(before[1]) <= set(after[1])
    assert set(seen[-1][1]) == set(seen[-1][0])
    assert len({words for *_, words in seen}) == MOVES + 1


def test_a_picture_depends_on_its_state_alone(widget):
    first = widget.draw(move=3)
    pictures = [widget.draw(**state) for state in STATES]
    assert len(set(pictures)) == len(STATES)
    assert widget.draw(move=3) == first == tape().draw(move=3)


def test_moving_the_controls_moves_the_numbers(widget):
    truth = by_hand(**GIVEN)[1]["w"]
    widget.controls["move"].value = 2
    assert np.isnan(widget.numbers["loss"]) and np.isnan(widget.numbers["slope_w"])
    assert "is not yet known by the tape" in widget.describe(widget.state, widget.numbers)
    widget.controls["move"].value = MOVES
    for meet, fine in (("overwrite", False), ("add", True)):
        widget.controls["meet"].value = meet
        assert (abs(widget.numbers["slope_w"] - truth) < 1e-9) == fine
        assert widget.numbers["true_w"] == pytest.approx(truth, abs=1e-9)
    assert [type(number) for number in widget.numbers.values()] == [float, float, float, str]


def test_it_has_three_forms_is_small_and_quick(widget):
    check_quick(widget, tape)
    check_forms(widget)


def test_it_is_the_books():
    assert show.tape is tape
