"""How curves look: one colour, dash and marker for each optimizer in every figure.

Colours are of Okabe and Ito's palette, which the colour-blind can tell apart; dashes and markers
tell the curves apart in grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from matplotlib import style
from matplotlib.colors import to_hex, to_rgb

from l2l.suite.report.figures.svg import BACKGROUND, INK
from l2l.suite.report.figures.text import FONT, families

GREY = (0.55, 0.55, 0.55)
BLACK = (0.0, 0.0, 0.0)
WHITE = (1.0, 1.0, 1.0)

Dash = tuple[float, tuple[float, ...]]
SOLID: Dash = (0, ())


@dataclass(frozen=True)
class CurveStyle:
    """Colour, dash pattern (matplotlib's), marker and line width in points."""

    colour: str
    dash: Dash
    marker: str
    width: float = 1.5

    @property
    def line(self) -> Any:
        """What matplotlib calls colour, dash and width."""
        return {"color": self.colour, "linestyle": self.dash, "linewidth": self.width}

    @property
    def paper_colour(self) -> str:
        """The same hue drawn towards grey, for the paper's curve."""
        return self._mixed(0.6, GREY)

    @property
    def darker_colour(self) -> str:
        """The same hue, darker."""
        return self._mixed(0.65, BLACK)

    @property
    def lighter_colour(self) -> str:
        """The same hue, lighter."""
        return self._mixed(0.6, WHITE)

    def _mixed(self, share: float, other: tuple[float, float, float]) -> str:
        red, green, blue = (
            share * own + (1 - share) * each
            for own, each in zip(to_rgb(self.colour), other, strict=True)
        )
        return str(to_hex((red, green, blue)))


KNOWN = {
    "LSTM": CurveStyle("#D55E00", SOLID, "o", 2.2),
    "ADAM": CurveStyle("#0072B2", (0, (6, 1.6)), "s"),
    "RMSprop": CurveStyle("#009E73", (0, (6, 1.6, 1.4, 1.6)), "^"),
    "SGD": CurveStyle("#CC79A7", (0, (2.6, 1.5)), "D"),
    "NAG": CurveStyle("#E69F00", (0, (9, 2)), "v"),
    "LSTM-sub": CurveStyle("#56B4E9", SOLID, "P", 2.0),
    "LSTM+GAC": CurveStyle("#8A6FDF", SOLID, "X", 2.0),
    "NTM-BFGS": CurveStyle("#C2185B", SOLID, ">", 2.0),
    "NTM-L-BFGS": CurveStyle("#56B4E9", SOLID, "*", 2.0),
    "BFGS": CurveStyle("#808000", (0, (4, 1.5)), "h"),
    "L-BFGS": CurveStyle("#7A7A7A", (0, (4, 1.5, 1.4, 1.5, 1.4, 1.5)), "<"),
}
SPARE = (
    CurveStyle("#8A6FDF", (0, (4, 1.5)), "X"),
    CurveStyle("#A65628", (0, (6, 1.6, 1.4, 1.6)), "p"),
    CurveStyle("#56B4E9", (0, (2.6, 1.5)), "*"),
    CurveStyle("#808000", (0, (9, 2)), "h"),
    CurveStyle("#7A7A7A", (0, (4, 1.5, 1.4, 1.5, 1.4, 1.5)), "<"),
    CurveStyle("#C2185B", (0, (1.6, 1.2)), ">"),
)
# The paper's curves: dotted, with their optimizer's marker hollow.
PAPER: Any = {
    "linestyle": (0, (1, 1.1)),
    "linewidth": 1.1,
    "markersize": 3.6,
    "markeredgewidth": 0.8,
    "markerfacecolor": BACKGROUND,
}

# Any, because matplotlib's own type for these differs from version to version.
RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titleweight": "bold",
    "figure.facecolor": BACKGROUND,
    # Browsers, which write an SVG's text, may lack the first of them.
    "font.sans-serif": [FONT, "Verdana", "sans-serif"],
    "font.size": 8.5,
    "grid.alpha": 0.13,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "text.parse_math": False,  # an optimizer's name is shown as it is
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def own_settings(text: str = "", salt: str = "") -> Iterator[None]:
    """Matplotlib as it comes, with `RC`, whatever a matplotlibrc or a notebook has set.

    Args:
        text: has all characters that a figure may show; fonts are chosen for them.
        salt: of the ids in an SVG.
    """
    own = {"font.family": [*families(text), "sans-serif"], "svg.hashsalt": salt}
    with style.context(["default", {**RC, **own}]):
        yield


def curve_styles(optimizers: Iterable[str]) -> dict[str, CurveStyle]:
    """A style for each name; give all names of a report at once, so that none changes its own.

    Variants of a known one, such as ``LSTM, exact``, have a darker shade of its colour. Other seeds
    of anything, such as ``LSTM, seed 2``, have thin lines in a lighter shade.
    """
    names = dict.fromkeys(optimizers)
    found = {name: style for name, style in KNOWN.items() if name in names}
    for number, name in enumerate(sorted(names.keys() - KNOWN.keys())):
        own = _spare(number)
        kind, seeded, _ = name.partition(", seed ")
        known = KNOWN.get(kind.partition(",")[0])
        if known:
            own = replace(own, colour=known.darker_colour)
        if seeded:
            first = found.get(kind, KNOWN.get(kind, own))
            own = replace(own, colour=first.lighter_colour, width=0.8)
        found[name] = own
    return found


def _spare(number: int) -> CurveStyle:
    """Colours and markers go round; each time round they have the next one's dash."""
    own = SPARE[number % len(SPARE)]
    return replace(own, dash=SPARE[(number + number // len(SPARE)) % len(SPARE)].dash)
