"""Text in figures: authors' labels and titles of any length, in any script, are shown whole."""

from __future__ import annotations

import functools
import re
import textwrap
import unicodedata
from collections.abc import Iterator

from matplotlib.font_manager import FontEntry, fontManager, get_font

FONT = "DejaVu Sans"  # comes with matplotlib
# They claim every character, or have pictures that matplotlib cannot draw.
UNFIT = re.compile("last ?resort|emoji", re.IGNORECASE)


def shown(text: str) -> str:
    r"""`text` as one line, with ``\uXXXX`` for characters that no installed font has."""
    line = " ".join(text.split())
    printable = (letter for letter in line if unicodedata.category(letter) != "Cc")
    return "".join(
        letter if family_with(letter) else letter.encode("ascii", "backslashreplace").decode()
        for letter in printable
    )


def wrapped(text: str, width: int) -> str:
    """`shown`, in lines of at most `width` letters of usual width."""
    line = shown(text)
    wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in line)
    return textwrap.fill(line, max(1, width // 2 if wide else width))


def unreadable(text: str) -> str:
    """The characters of `text` that `shown` escapes, each once."""
    return "".join(letter for letter in dict.fromkeys(text) if shown(letter) not in ("", letter))


def families(text: str) -> list[str]:
    """Fonts for the characters of `text`, the usual one first."""
    found = (family_with(letter) for letter in dict.fromkeys(text))
    return list(dict.fromkeys([FONT, *filter(None, found)]))


@functools.cache
def family_with(letter: str) -> str | None:
    """An installed font family that has the character; None if none has."""
    if letter.isspace():
        return FONT
    return next((font.name for font in _fonts() if ord(letter) in _letters(font.fname)), None)


def _fonts() -> Iterator[FontEntry]:
    """The installed fonts, upright ones of usual weight first."""

    def order(font: FontEntry) -> tuple[bool, bool, bool, bool, str, str]:
        plain = font.style == "normal" and font.weight in (400, "normal", "regular")
        sans = "sans" in font.name.lower() or "gothic" in font.name.lower()
        return (
            font.name != FONT,
            not plain,
            not sans,
            "mono" in font.name.lower(),
            font.name,
            font.fname,
        )

    return (font for font in sorted(fontManager.ttflist, key=order) if not UNFIT.search(font.name))


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points that a font file has."""
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
