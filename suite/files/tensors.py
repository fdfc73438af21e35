"""Tensors in safetensors files that carry a digest of all that is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from l2l.suite.files.atomic import write_bytes_atomic

DIGEST = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write them, whole or not at all; raises as `suite.files.atomic.write_bytes_atomic` does."""
    write_bytes_atomic(path, as_bytes(tensors, {**header, DIGEST: digest_of(tensors, header)}))


def as_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, whose bytes are the same whenever its content is."""
    # The library writes its header in another order each time.
    written = save(dict(tensors), None if header is None else dict(header))
    start = 8 + int.from_bytes(written[:8], "little")
    text = json.dumps(json.loads(written[8:start]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + written[start:]


def load_tensors(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header as `save_tensors` wrote them.

    Raises:
        SafetensorError, OSError, KeyError, ValueError: the file is missing, damaged, too large, or
            without a digest.
    """
    if path.stat().st_size > max_bytes:
        raise ValueError(f"more than {max_bytes:,} bytes")
    with safe_open(path, "pt") as file:
        header = dict(file.metadata() or {})
        # Copied to PyTorch's own alignment, on which the rounding of products depends.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    # A flipped bit would go on unnoticed into everything after.
    if header.pop(DIGEST) != digest_of(tensors, header):
        raise ValueError("its digest differs")
    return tensors, header


def digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """The SHA-256 of names, types, shapes, values and header, in hex."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
