"""Which of its optional abilities a problem or an optimizer has.

A base class lists them in `OPTIONAL`: a method or a flag by name, and the methods whose work it
does in another way. The base class defines it too, as a placeholder.
"""

from __future__ import annotations

import functools
from typing import Any


def has(thing: Any, ability: str) -> bool:
    """Whether a problem or an optimizer has an optional ability.

    It has not where a subclass replaces a method that the inherited ability speaks for: with a
    `loss` of its own alone, it is not given its parent's `losses`.
    """
    return _is_given(thing.__class__, ability) and bool(getattr(thing, ability))


@functools.cache
def _is_given(cls: type, ability: str) -> bool:
    def owner(name: str) -> type:
        return next((each for each in cls.__mro__ if name in vars(each)), object)

    for base in cls.__mro__:
        methods = vars(base).get("OPTIONAL", {}).get(ability)
        if methods is not None:
            own = owner(ability)
            return own is not base and all(issubclass(own, owner(each)) for each in methods)
    return False
