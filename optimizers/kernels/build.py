"""Compiles the C++ kernels once, on first use, with the machine's own compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parent / "cpp"
MAIN = SOURCES / "lstm.cpp"
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fPIC",
    "-fopenmp",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)


class BuildError(RuntimeError):
    """No compiler, or it failed; the text says which and how."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``$L2L_CACHE``, or the user's cache folder."""
    own = os.environ.get("L2L_CACHE")
    if own:
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "learning-to-learn"


def _compiler() -> str:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in wanted:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(f"no C++ compiler ({', '.join(wanted)}) was found")


def _processor() -> str:
    """What -march=native depends on: the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(kept)))


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise BuildError(f"{Path(command[0]).name} failed: {lines[0] if lines else 'no output'}")


@functools.cache
def load_library(defines: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    """The shared library built from the sources with these ``-D`` definitions.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    compiler = _compiler()
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in defines)]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    texts = [path.read_text() for path in [*sorted(SOURCES.glob("[a-z]*.h")), MAIN]]
    identity = "\0".join([*texts, *flags, version.stdout, _processor()])
    key = hashlib.sha256(identity.encode()).hexdigest()[:20]
    target = cache_folder() / f"lstm-{key}.so"
    if not target.exists():
        try:
            _build(compiler, flags, target)
        except OSError as error:
            raise BuildError(f"{target.parent} cannot be written: {error.strerror}") from error
    try:
        # PyTorch has loaded an OpenMP runtime for all to see, and one pool of threads is enough.
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f"{target} cannot be loaded: {error}") from error


def _build(compiler: str, flags: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects, library = f"{folder}/lstm.o", f"{folder}/lstm.so"
        _run([compiler, *flags, "-c", str(MAIN), "-o", objects])
        # Linked without -fopenmp first: PyTorch's own OpenMP runtime then serves this library
        # too, where it uses the same interface (gcc's).
        _run([compiler, "-shared", objects, "-o", library])
        try:
            ctypes.CDLL(library)
        except OSError:
            _run([compiler, "-shared", "-fopenmp", objects, "-o", library])
        os.replace(library, target)


def lstm_library(layers: int, hidden: int, inputs: int) -> ctypes.CDLL:
    """The LSTM kernels for one architecture; see ``cpp/lstm.cpp`` for layouts."""
    return load_library(_defines({"LAYERS": layers, "HIDDEN": hidden, "INPUTS": inputs}))


def _defines(values: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in sorted(values.items()))
