"""Figures as files: SVG without what nobody sees, and PNG with a palette."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from suite.figure_style import RC
from suite.files import write_bytes_atomic, write_text_atomic
from suite.svg import slim

DPI = 150
COLOURS = 256  # a palette takes a fourth of the room of full colour


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.svg and `name`.png; raises as `suite.files.atomic_path` does."""
    # Laid out once for both: that takes as long as drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # Dates and random ids would make two equal reports differ.
    with mpl.rc_context({**RC, "svg.hashsalt": name}):
        drawn = _drawn(figure, "svg", metadata={"Date": None})
        write_text_atomic(folder / f"{name}.svg", slim(drawn.decode()))
        write_bytes_atomic(folder / f"{name}.png", _png(figure))


def _png(figure: Figure) -> bytes:
    image = Image.open(io.BytesIO(_drawn(figure, "png", dpi=DPI))).convert("RGB")
    if any(axis.images for axis in figure.axes):
        image = image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    else:  # faster, and good enough for few colours
        image = image.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, dpi=(DPI, DPI))
    return buffer.getvalue()


def _drawn(figure: Figure, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **how)
    return buffer.getvalue()
