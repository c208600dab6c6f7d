"""How a check answers: right, or which error the answer looks like and by how much it is off."""

import textwrap
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from minidiff.checks.reply import Hindrance, arrays, outcome, require_kind

NOTHING = float("nan")  # a typical error's word on a part that it doesn't touch
REPAIRS = {  # what an answer m may be -> what would mend it, r being the right one
    "The size is right and the sign is flipped.": lambda m, r: -m,
    "That is one over the right answer.": lambda m, r: 1 / m,
    "That is one minus the right answer.": lambda m, r: 1 - m,
    "That is the square root of the right answer.": lambda m, r: m**2,
    "That is the square of the right answer.": lambda m, r: np.sqrt(m),
    "The factor is the same everywhere.": lambda m, r: m * (m @ r) / (m @ m),
    "The difference is the same everywhere.": lambda m, r: m + (r - m).mean(),
}


@dataclass(frozen=True)
class Exercise:
    """A check: called with a reader's answer, whatever that is, it prints one paragraph.

    An answer is what the exercise asks for: a value or a function. So are `right` and the first
    of each pair in `typical`: (a wrong answer, what leads to it). `cases` are the inputs of a
    function, {how to call them: arguments}. The numbers that come out are compared, under the
    names `parts`; `measure`, if given, first turns outcome and arguments into these numbers.
    Where a typical answer is NaN it says nothing of that part.
    Equal is what differs by at most `tolerance` times the case's largest right number.
    """

    right: object
    typical: tuple
    praise: str
    parts: tuple = ("answer",)
    cases: dict = None
    measure: Callable = None
    tolerance: float = 1e-5

    def __call__(self, answer):
        print(textwrap.fill(self.verdict(answer), 79, break_on_hyphens=False))

    def verdict(self, answer):
        """What there is to say about the answer, in one line."""
        try:
            require_kind(answer, self.right)
            mine = self.numbers(answer)
        except Hindrance as word:
            return f"Not yet: {word}"
        right = self.numbers(self.right)
        bounds = [self.tolerance * max(abs(part).max() for part in case) for case in zip(*right)]
        for i, name in enumerate(self.parts):
            if not alike(mine[i], right[i], bounds):
                fine = "".join(f"Your {name} is right. " for name in self.parts[:i])
                amount = how_much(name, list(self.cases or [""]), mine[i], right[i], bounds)
                return f"{fine}{amount} {self.cause(i, mine[i], right[i], bounds)}".strip()
        return f"Right. {self.praise}"

    def cause(self, i, mine, right, bounds):
        """The error that part i looks like: a typical one, or at least its pattern."""
        for answer, sentence in self.typical:
            if alike(mine, self.numbers(answer)[i], bounds):
                return sentence
        fine = [case for case, *numbers in zip(self.cases or (), mine, right, bounds)
                if same(*numbers)]
        if fine:
            return f"But it is right at {'; at '.join(fine)}. What is special there?"
        return pattern(mine, right, bounds)

    def numbers(self, answer):
        """For every part its arrays, one for each case. Raises `Hindrance` if there are none."""
        by_case = []
        for case, arguments in (self.cases or {"": ()}).items():
            model = outcome(self.right, deepcopy(arguments))
            try:  # on copies: an answer that writes on its arguments harms nobody
                found = arrays(outcome(answer, deepcopy(arguments)), model)
                if self.measure:
                    for m, r in zip(found, arrays(model, model)):
                        if m.shape != r.shape:
                            raise Hindrance(f"your answer {shapes(m, r)}")
                    with np.errstate(all="ignore"):
                        found = arrays(self.measure(*found, *arguments), self.parts)
            except Hindrance as word:
                raise Hindrance(f"{at(case)}{word}") from None
            by_case.append(found)
        return list(zip(*by_case))


def same(mine, right, bound):
    """Whether two arrays have one shape and differ by no more than the bound; NaN always does."""
    return mine.shape == right.shape and bool((abs(mine - right) <= bound).all())


def alike(mine, right, bounds):
    """Whether all cases' arrays are the same."""
    return all(map(same, mine, right, bounds))


def how_much(name, cases, mine, right, bounds):
    """A sentence on the case and place where the answer is worst: its factor, or the numbers."""
    for case, m, r in zip(cases, mine, right):
        if m.shape != r.shape:
            return sentence(f"{at(case)}your {name} {shapes(m, r)}")
    errors = [np.nan_to_num(abs(m - r) / bound, nan=np.inf)
              for m, r, bound in zip(mine, right, bounds)]
    worst = int(np.argmax([error.max() for error in errors]))
    place = np.unravel_index(errors[worst].argmax(), errors[worst].shape)
    m, r, bound = mine[worst][place], right[worst][place], bounds[worst]
    inside = f"in place [{', '.join(map(str, place))}], " if place else ""
    what = sentence(f"{at(cases[worst])}{inside}your {name} is")
    if not np.isfinite(m):
        return f"{what} {m}: a division by zero, or the root or logarithm of a negative number?"
    if min(abs(m), abs(r)) > bound and m / r > 0:
        factor = m / r
        if abs(factor - 1) < 0.1:
            return f"{what} off by {digits(100 * (factor - 1))} %."
        return f"{what} {digits(factor)} times what it should be."
    m, r = (x if abs(x) > bound else 0.0 for x in (m, r))
    return f"{what} {digits(m)} and should be {digits(r)}."


def pattern(mine, right, bounds):
    """The sentence on the repair that would mend all of the answer, or else some advice."""
    if alike([m.T for m in mine], right, bounds):
        return "It is transposed."
    if not all(m.shape == r.shape and np.isfinite(m).all() for m, r in zip(mine, right)):
        return ""
    m, r = (np.concatenate([array.ravel() for array in arrays]) for arrays in (mine, right))
    bound = np.repeat(bounds, [array.size for array in right])
    with np.errstate(all="ignore"):
        for words, mend in REPAIRS.items():
            fitted = "everywhere" in words  # to the numbers, so that a single one proves nothing
            if same(mend(m, r), r, bound) and (len(r) > 1 or not fitted):
                return words
    return "It isn't one of the usual errors: work this case out with pencil and paper."


def shapes(mine, right):
    names = (f"of shape {array.shape}" if array.ndim else "a single number"
             for array in (mine, right))
    return "is {} and should be {}.".format(*names)


def at(case):
    return f"at {case}, " if case else ""


def sentence(words):
    return words[0].upper() + words[1:]


def digits(x):
    """A number to two significant digits: as many as don't differ between machines."""
    return f"{float(f'{x:.1e}'):g}"
