"""What a reader hands to a check, as arrays of numbers; or a friendly word why it can't be."""

import inspect

import numpy as np


class Hindrance(Exception):
    """Why an answer can't be compared, in words for the reader."""


def require_kind(answer, right):
    """Raise a `Hindrance` unless the answer is what the right one is: a value, or a function
    of as many arguments."""
    if blank(answer):
        raise Hindrance("put your answer in the place of the dots.")
    if not callable(right):
        if callable(answer):
            raise Hindrance("this check wants numbers, and you have given it a function.")
        return
    if not callable(answer):
        raise Hindrance(f"this check wants the function itself, and you have given it "
                        f"{kind(answer)}. Write the function's name, with no parentheses.")
    names = inspect.signature(right).parameters
    try:
        inspect.signature(answer).bind(*names)
    except TypeError:
        raise Hindrance(f"your function should take {len(names)} arguments: {', '.join(names)}.")
    except ValueError:  # compiled functions don't tell what they take
        pass


def outcome(answer, arguments):
    """What the answer gives for the arguments: a value is its own outcome."""
    if not callable(answer):
        return answer
    try:
        with np.errstate(all="ignore"):
            value = answer(*arguments)
    except Exception as error:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        raise Hindrance(f"your function stops with {words}")
    if blank(value):
        raise Hindrance("your function gives nothing back. Put your lines in the place of the "
                        "dots, and `return` before the result.")
    return value


def arrays(value, model):
    """The value as float arrays: one, or, where `model` is a tuple, as many as that has."""
    if not isinstance(model, tuple):
        return [array(value)]
    if not isinstance(value, (tuple, list, np.ndarray)) or len(value) != len(model):
        raise Hindrance(f"{len(model)} results are wanted, with a comma between; "
                        f"you have {kind(value)}.")
    return [array(item) for item in value]


def array(item):
    if blank(item):
        raise Hindrance("put your answer in the place of the dots.")
    try:
        numbers = np.asarray(item)
    except Exception:  # a ragged list, say
        numbers = np.array(None)
    if numbers.dtype.kind not in "iuf":
        raise Hindrance(f"numbers are wanted, and you have {kind(item)}.")
    return numbers.astype(float)  # a copy: the reader's function may use its array again


def blank(thing):
    return thing is None or thing is ...


def kind(thing):
    """What a thing is, in a reader's words."""
    if isinstance(thing, (tuple, list)):
        return f"a {type(thing).__name__} of {len(thing)}"
    if isinstance(thing, np.number):
        return "one number"
    if isinstance(thing, np.ndarray):
        return f"an array of shape {thing.shape}"
    return {str: "text", bool: "a truth value", int: "one number", float: "one number",
            type(None): "None"}.get(type(thing), f"something of type {type(thing).__name__}")
