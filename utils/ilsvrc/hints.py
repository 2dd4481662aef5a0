"""What is said of a name that does not exist, and of a value that means nothing."""

import difflib
import numbers


def did_you_mean(name, known) -> str:
    """Return " Did you mean 'laptop'?", with its space in front; "" where no known name is near.

    Args:
        name: What was asked for, of whatever kind.
        known: The names that exist.
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def whole_number(name: str, value, least: int, most: int, otherwise: str = ""):
    """Return a whole number as Python's own, or None where that may be given.

    Args:
        name: What the user calls it.
        value: What was given; True and False are no numbers.
        least: The smallest that will do.
        most: The largest.
        otherwise: What None stands for, where it may be given.

    Raises:
        ValueError: It is none, or out of bounds; the message says what would do.
    """
    if value is None and otherwise:
        return None
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        none = f", or None for {otherwise}" if otherwise else ""
        raise ValueError(
            f"{name} is {value!r}; it must be a whole number from {least:,} to {most:,}{none}."
        )
    return int(value)
