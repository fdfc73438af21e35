"""Trained optimizers in files: safetensors with a JSON header, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from l2l.optimizers.learned.base import Learned
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.import_path import no_imports
from l2l.suite.core.registry import optimizers
from l2l.suite.files.atomic import write_bytes_atomic
from l2l.suite.files.tensors import as_bytes

FORMAT = "learned-optimizer"
VERSION = "1"
# A learned optimizer has some thousand weights; anything near this size is something else.
MAX_WEIGHTS = 2**24
MAX_BYTES = 4 * MAX_WEIGHTS


def save_optimizer(
    path: Path, spec: Mapping[str, Any], optimizer: Learned, about: Any = None
) -> None:
    """Write φ by the names of its parts, with the optimizer's specification in the header.

    Args:
        path: ends in ``.safetensors``.
        spec: ``{"name": "lstm", …}``, what `optimizers.make` takes.
        optimizer: with weights.
        about: anything that JSON can hold, such as how it was trained.
    """
    parts = optimizer.layout.split(optimizer.phi.detach().cpu())
    header = {
        "format": FORMAT,
        "version": VERSION,
        "optimizer": json.dumps(dict(spec), sort_keys=True),
        "about": json.dumps(about, sort_keys=True),
    }
    contiguous = {name: part.contiguous() for name, part in parts.items()}
    write_bytes_atomic(path, as_bytes(contiguous, header))


def about_optimizer(path: Path) -> dict[str, Any]:
    """What `save_optimizer` was told of a file; empty if nothing, or if others wrote it."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except SafetensorError:
        return {}
    try:
        about = json.loads(header.get("about", ""))
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def load_optimizer(path: Path, device: str | torch.device = "cpu") -> Learned:
    """The optimizer in a file, ready to run.

    Raises:
        SuiteError: the file is missing, is not whole, is not a learned optimizer's, or its weights
            are not those of the architecture that its header names.
    """
    if not path.is_file():
        raise SuiteError(f"checkpoint {path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise SuiteError(f"checkpoint {path}: is over {MAX_BYTES} bytes, so not a checkpoint")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SuiteError(
            f"checkpoint {path}: is not a whole safetensors file ({error}), get it again"
        ) from error
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise SuiteError(
            f"checkpoint {path}: its header does not say {FORMAT!r} version {VERSION}, "
            "so it was not written by this suite's version"
        )
    try:
        spec = dict(json.loads(header["optimizer"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise SuiteError(f"checkpoint {path}: its header names no optimizer") from error
    with no_imports():
        optimizer = optimizers.make(spec, f"checkpoint {path}")
    if not isinstance(optimizer, Learned):
        raise SuiteError(
            f"checkpoint {path}: its header names {spec['name']!r}, which has no weights"
        )
    wanted = optimizer.layout.parameters()
    for name in sorted({*wanted, *parts}):
        have = list(parts[name].shape) if name in parts else None
        want = list(wanted[name]) if name in wanted else None
        if have != want:
            raise SuiteError(
                f"checkpoint {path}: {name} is {have}, but {spec['name']} as its header "
                f"describes it has {want}: the file is of another architecture"
            )
        if parts[name].dtype != torch.float32:
            raise SuiteError(
                f"checkpoint {path}: {name} is {parts[name].dtype}, but must be float32"
            )
        if not parts[name].isfinite().all():
            raise SuiteError(f"checkpoint {path}: {name} has values that are not finite")
    return optimizer.with_weights(optimizer.layout.join(parts).float().to(device))
