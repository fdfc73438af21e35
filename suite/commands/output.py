"""Output to terminals that lack letters, and to programs that stop reading."""

from __future__ import annotations

import codecs
import io
import os
from typing import Any


class Output(io.FileIO):
    """Where output goes: once nobody reads it any more, such as `| head`, nowhere."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return super().write(data)


def output(stream: Any) -> Any:
    """`stream`, stdout or stderr, for a terminal that may lack letters, or an `Output`."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:
        stream.reconfigure(errors="shown")
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="shown",
        # Without any buffer, as by `python -u`, every write would go through to the buffer here.
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _shown(error: UnicodeError) -> tuple[bytes, int]:
    """What a terminal gets that cannot show a letter: the bytes of a file's name, else ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    codes = [ord(letter) for letter in error.object[error.start : error.end]]
    data = bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes)
    return data, error.end


codecs.register_error("shown", _shown)
