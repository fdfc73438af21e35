"""From a figure yet to be drawn to its files: SVG without what nobody sees, PNG with a palette."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from l2l.suite.report.figures.style import own_settings
from l2l.suite.report.figures.svg import slim

DPI = 150
COLOURS = 256  # a palette takes a fourth of the room of full colour


@dataclass(frozen=True)
class Drawing:
    """A figure yet to be drawn: the name of its files, what it shows, and how it comes about."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Rendered:
    """A figure's files: its SVG, and the bytes of its PNG."""

    svg: str
    png: bytes


def render(drawing: Drawing, text: str = "") -> Rendered:
    """The figure in the suite's own settings; `text` has all characters that it may show."""
    with own_settings(text, drawing.name):
        figure = drawing.draw()
        # Laid out once for both: that takes as long as drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        # Dates would make two equal reports differ.
        svg = _saved(figure, "svg", metadata={"Date": None})
        return Rendered(slim(svg.decode()), _png(figure))


def _png(figure: Figure) -> bytes:
    image = Image.open(io.BytesIO(_saved(figure, "png", dpi=DPI))).convert("RGB")
    if any(axis.images for axis in figure.axes):
        image = image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    else:  # faster, and good enough for few colours
        image = image.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


def _saved(figure: Figure, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **how)
    return buffer.getvalue()
