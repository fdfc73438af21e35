"""The closest of some names, for the end of an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], plugins: bool = False) -> str:
    """A clause that names the closest of `known`, for the end of an error message.

    If there is no close one, and `plugins` may define more of them, it says how to give those.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    found = f"known are {', '.join(names)}" if names else "there are none"
    return f"{found}; if it is in a file of your own, give it with --plugin" if plugins else found
