"""How each function that a chapter builds is tried out, beside the package's own: one line a name.

A trial takes the function and a NumPy Generator, and returns what must agree: numbers, arrays,
words, dataclasses, generators, or lists, tuples and dicts of them. It is run once on the chapter's
function and once on the package's, with generators in the same state.
"""

TRIALS = {
}
