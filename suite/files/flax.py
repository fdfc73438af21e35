"""Trees of arrays as flax's serialization writes them: msgpack, with an extension for arrays.

Maps have texts as keys. An array is an extension of type 1, whose bytes are msgpack again: its
shape, its type's name, and its elements by rows, little-endian. A NumPy scalar is likewise type 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from torch import Tensor

# A file of weights of learned optimizers has some ten to thirty arrays, at most this deep.
MAX_ARRAYS = 1024
MAX_DEPTH = 8
EXTENSIONS = {1, 3}
TYPES = ("float16", "float32", "float64", "int32", "int64")


@dataclass(frozen=True)
class _Extension:
    """What a file has in the place of an array."""

    code: int
    data: bytes


def load_flax(path: Path, max_bytes: int) -> dict[str, Tensor]:
    """The arrays of a file, by their keys joined with ``/``. Text and numbers are left out.

    Args:
        path: what ``flax.serialization.to_bytes`` gave.
        max_bytes: a larger file is refused unread.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, is not such a file or not whole, or has an array of a type that
            is none of `TYPES`.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"it has {size} bytes, more than {max_bytes}")
    content = path.read_bytes()
    try:
        tree = msgpack.unpackb(
            content,
            ext_hook=_Extension,
            strict_map_key=True,
            max_map_len=MAX_ARRAYS,
            max_array_len=MAX_ARRAYS,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"it is not whole, or not msgpack ({error})") from error
    if not isinstance(tree, dict):
        raise ValueError(f"it holds {type(tree).__name__}, not a map of arrays")
    return dict(_arrays(tree, ()))


def _arrays(tree: dict[Any, Any], above: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    if len(above) >= MAX_DEPTH:
        raise ValueError(f"{'/'.join(above)} lies more than {MAX_DEPTH - 1} maps deep")
    found: list[tuple[str, Tensor]] = []
    for key, value in tree.items():
        place = (*above, str(key))
        if isinstance(value, dict):
            found += _arrays(value, place)
        elif isinstance(value, _Extension):
            try:
                found.append(("/".join(place), _array(value)))
            except ValueError as error:
                raise ValueError(f"{'/'.join(place)} {error}") from error
    return found


def _array(extension: _Extension) -> Tensor:
    if extension.code not in EXTENSIONS:
        raise ValueError(f"is an extension of type {extension.code}, but must be an array")
    damaged = "is damaged: it must have a shape, a type and elements"
    try:
        shape, dtype, elements = msgpack.unpackb(extension.data, raw=True, max_array_len=MAX_ARRAYS)
        sizes = [int(size) for size in shape]
        name = bytes(dtype).decode("ascii")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(damaged) from error
    if name not in TYPES:
        raise ValueError(f"is of {name!a}, but must be of {', '.join(TYPES)}")
    if any(size < 0 for size in sizes) or not isinstance(elements, bytes):
        raise ValueError(damaged)
    kind = np.dtype(name)
    expected = kind.itemsize * math.prod(sizes)
    if len(elements) != expected:
        raise ValueError(f"has {len(elements)} bytes, but {sizes} of {name} are {expected}")
    array = np.frombuffer(elements, kind.newbyteorder("<")).astype(kind)
    return torch.from_numpy(array).reshape(sizes)
