"""The one place where bad input turns into a `ValueError`."""


def require(condition, argument, rule, value):
    """Raise a `ValueError` naming the argument, the rule and the value received, unless `condition`."""
    if not condition:
        shown = repr(value)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        raise ValueError(f"{argument} must be {rule}; got {shown}")
