"""`make gpu`: each section in a process of its own, then the page, and what failed.

python -m benchmarks.gpu [--device cpu] [--out DIR] [SECTION …]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import torch

from benchmarks.gpu import agreement, programs, speed
from benchmarks.page import as_markdown
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.inner.process import keep_freed_memory

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "results" / "reference" / "gpu"
# What is measured has the machine for itself; what only passes or fails runs side by side.
MEASURED: dict[str, Callable[[str], pd.DataFrame]] = {
    "kernels": agreement.kernels,
    "steps": speed.steps,
    "limits": speed.limits,
    "side-by-side": speed.side_by_side,
    "whole-runs": speed.whole_runs,
}
PASSED: dict[str, Callable[[str], pd.DataFrame]] = {
    "devices": agreement.devices,
    "deterministic": programs.deterministic,
    "experiments": programs.experiments,
    "tests": programs.tests,
}
LAST: dict[str, Callable[[str], pd.DataFrame]] = {"compiled": speed.compiled}
SECTIONS = MEASURED | PASSED | LAST
# Of one section; the whole is meant for eight minutes of one card.
SECONDS = 240


def main(arguments: Sequence[str]) -> int:
    """Run all sections, or those that are named; 1 if any failed."""
    parser = argparse.ArgumentParser("benchmarks.gpu", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=FOLDER, help="where tables are written")
    parser.add_argument("--here", action="store_true", help="in this process, the one section")
    given = parser.parse_args(arguments)
    if given.here:
        keep_freed_memory()
        table = SECTIONS[given.sections[0]](given.device)
        given.out.mkdir(parents=True, exist_ok=True)
        write_text_atomic(_csv(given.out, given.sections[0]), table.to_csv(index=False))
        return 0
    unknown = set(given.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no section {min(unknown)!r}: {', '.join(SECTIONS)}")
    failed, page = [], [f"# On {_device_name(given.device)}\n"]
    for name, error, seconds in _results(given.sections or SECTIONS, given.device, given.out):
        failed += [name] if error else []
        page.append(_part(name, error, given.out))
        print(page[-1], f"({seconds:.0f} s)", flush=True)
        # After each, so that what is known outlives a run that is cut short.
        end = f"Failed: {', '.join(failed)}.\n" if failed else "Nothing failed.\n"
        write_text_atomic(given.out / "gpu.md", "\n".join([*page, end]))
    print(end)
    return int(bool(failed))


def _results(names: Sequence[str], device: str, out: Path) -> Iterator[tuple[str, str, float]]:
    """Each section's name, what failed (empty if nothing), and its seconds."""
    for group, width in ((MEASURED, 1), (PASSED, len(PASSED)), (LAST, 1)):
        wanted = [name for name in group if name in names]
        with ThreadPoolExecutor(width) as pool:
            yield from pool.map(lambda name: _result(name, device, out), wanted)


def _result(name: str, device: str, out: Path) -> tuple[str, str, float]:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu", name, "--here", "--device", device]
    command += ["--out", str(out)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            timeout=SECONDS,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        error = (done.stderr[-6000:] or "no message") if done.returncode else ""
    except subprocess.TimeoutExpired:
        error = f"it took more than {SECONDS} s"
    return name, error, time.perf_counter() - begin


def _part(name: str, error: str, out: Path) -> str:
    caption = str(SECTIONS[name].__doc__).splitlines()[0]
    if error:
        return f"## {name}: failed\n\n{caption}\n\n```\n{error}\n```\n"
    data = pd.read_csv(_csv(out, name))
    return f"## {name}\n\n{as_markdown(name, caption, data)}"


def _csv(out: Path, name: str) -> Path:
    return out / f"{name}.csv"


def _device_name(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
    return f"{name}, {versions}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
