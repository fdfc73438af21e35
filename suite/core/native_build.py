"""Compiles C++ kernels once, on first use, with the machine's own compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

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
    """Where compiled kernels are kept: ``$L2L_CACHE``, or the user's cache folder.

    Raises:
        BuildError: there is neither.
    """
    own = os.environ.get("L2L_CACHE")
    if own:
        # The loader looks for a name without a folder elsewhere.
        return Path(own).resolve()
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # as in a container, whose user may be unknown to it
        raise BuildError("the user has no home folder; set L2L_CACHE to a folder") from error
    return Path(home) / "learning-to-learn"


def compiler() -> list[str]:
    """The words that call the compiler: those of ``$CXX``, such as ``ccache g++``, or a usual one.

    Raises:
        BuildError: there is none.
    """
    own = os.environ.get("CXX", "").strip()
    for words in _split(own) if own else (["g++"], ["clang++"], ["c++"]):
        path = shutil.which(words[0])
        if path:
            return [path, *words[1:]]
    raise BuildError(f"no C++ compiler ({own or 'g++, clang++, c++'}) was found")


def _split(command: str) -> list[list[str]]:
    """The ways to read ``$CXX``: a path may have spaces, and a command may have arguments."""
    try:
        return [[command], shlex.split(command)]
    except ValueError:
        return [[command]]


def cpuinfo() -> list[str]:
    """What Linux says of the processors, in lines; none elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.splitlines()


def _processor() -> str:
    """What -march=native depends on: the processor's model and features."""
    kept = {line for line in cpuinfo() if line.startswith(("model name", "flags", "Features"))}
    return "\n".join(sorted(kept)) or platform.processor() or platform.machine()


def _run(command: list[str]) -> str:
    """What the command prints."""
    try:
        # Compilers quote in the letters of their own locale, whatever this process's is.
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise BuildError(f"{Path(command[0]).name} failed: {lines[0] if lines else 'no output'}")
    return result.stdout


@functools.cache
def load_library(source: Path, **defines: int) -> ctypes.CDLL:
    """The shared library built from a C++ file and the headers beside it, with macros (``-D``).

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    command = compiler()
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in sorted(defines.items()))]
    version = _run([*command, "--version"])
    files = [*sorted(source.parent.glob("[a-z]*.h")), source]
    texts = [path.read_text(encoding="utf-8") for path in files]
    identity = "\0".join([*texts, *flags, version, _processor()])
    key = hashlib.sha256(identity.encode()).hexdigest()[:20]
    target = cache_folder() / f"{source.stem}-{key}.so"
    if not target.exists():
        try:
            _build(command, flags, source, target)
        except OSError as error:
            raise BuildError(
                f"{target.parent} cannot be written: {error.strerror}; "
                "set L2L_CACHE to a folder that can"
            ) from error
    try:
        # PyTorch has loaded an OpenMP runtime for all to see, and one pool of threads is enough.
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f"{target} cannot be loaded: {error}") from error


def _build(command: list[str], flags: list[str], source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects, library = f"{folder}/kernel.o", f"{folder}/kernel.so"
        _run([*command, *flags, "-c", str(source), "-o", objects])
        # Linked without -fopenmp first: PyTorch's own OpenMP runtime then serves this library
        # too, where it uses the same interface (gcc's).
        _run([*command, "-shared", objects, "-o", library])
        try:
            ctypes.CDLL(library)
        except OSError:
            _run([*command, "-shared", "-fopenmp", objects, "-o", library])
        os.replace(library, target)
