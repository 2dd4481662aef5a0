"""What a name that does not exist may have meant."""

import difflib


def did_you_mean(name, known) -> str:
    """Return " Did you mean 'laptop'?", with its space in front; "" where no known name is near.

    Args:
        name: What was asked for, of whatever kind.
        known: The names that exist.
    """
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
