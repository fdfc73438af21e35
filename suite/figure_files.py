"""From a figure yet to be drawn to its files, in matplotlib's own settings and not the user's."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from suite.figure_style import own_settings
from suite.files import write_bytes_atomic

# Dates would make two equal reports differ.
FORMATS: Mapping[str, Any] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


@dataclass(frozen=True)
class Drawing:
    """A figure yet to be drawn: the name of its files, what it shows, and how it comes about."""

    name: str
    caption: str
    draw: Callable[[], Figure]


def render(drawing: Drawing, text: str = "") -> dict[str, bytes]:
    """The figure's files by format; `text` has all characters that it may show."""
    with own_settings(text, drawing.name):
        figure = drawing.draw()
        # Laid out once for all of them: that takes as long as drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        files = {}
        for kind, metadata in FORMATS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
            files[kind] = buffer.getvalue()
        return files


def write_figure(files: Mapping[str, bytes], folder: Path, name: str) -> None:
    """Write `name`.png, .pdf and .svg; raises as `suite.files.atomic_path` does."""
    for kind, data in files.items():
        write_bytes_atomic(folder / f"{name}.{kind}", data)
