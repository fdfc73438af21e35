"""Where data lie, and how they are downloaded."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATA_ROOT = "L2L_DATA"
OFFLINE = "L2L_OFFLINE"

# Seconds without a byte after which a network counts as none: some swallow what they do not allow.
PATIENCE = 30.0


def data_root() -> Path:
    """The folder of all data, in torchvision's layout: ``$L2L_DATA``, or ``data/`` here."""
    return Path(os.environ.get(DATA_ROOT) or Path(__file__).parents[1] / "data")


def may_download() -> bool:
    """Whether ``$L2L_OFFLINE`` is not set."""
    return not os.environ.get(OFFLINE)


@contextmanager
def downloading() -> Iterator[None]:
    """Within it a network that says nothing raises an `OSError` after `PATIENCE` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
