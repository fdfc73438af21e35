"""Where results come from: commit, versions, machine, seeds, command; no names of people."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from l2l.suite.core.errors import SuiteError
from l2l.suite.core.imports import REPOSITORY
from l2l.suite.core.native_build import cpuinfo
from l2l.suite.files.atomic import write_text_atomic
from l2l.suite.files.json import load_table

EARLIER = "earlier"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "matplotlib")


def gather_provenance(command: str, seeds: Mapping[str, int]) -> dict[str, Any]:
    """What made the results, as plain data for `provenance.json`.

    Args:
        command: the program and its arguments, quoted where a shell wants it.
        seeds: the seed of each experiment.

    Returns:
        commit (None outside a git checkout), changed (whether the checkout had changes), created
        (UTC), command, seeds, versions by package, machine.
    """
    return {
        **checkout(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": without_home(command),
        "seeds": dict(seeds),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": _machine(),
    }


@functools.cache
def checkout() -> dict[str, Any]:
    """The suite's commit (None outside a git checkout), and whether the checkout has changes.

    Asked once, near the process's start, when the code was loaded.
    """
    commit = _git("describe", "--always", "--tags", "--abbrev=12")
    return {"commit": commit, "changed": bool(_git("status", "--porcelain")) if commit else None}


def joined_provenance(
    latest: Mapping[str, Any], before: Mapping[str, Any], kept: Collection[str]
) -> dict[str, Any]:
    """That of a run into a folder which keeps other experiments of runs before it.

    Args:
        latest: the run's own, or that of another folder.
        before: what the folder's was.
        kept: the experiments that are still those of `before`.

    Returns:
        `latest`, with a list `earlier` of what the kept experiments come from, and what others of
        `latest` come from, each with the seeds of those alone.
    """
    (own, *others), parts = _runs(latest), _runs(before)
    # A folder that is merged into another may itself come from several runs.
    found = [_about(each, lambda name: name not in kept) for each in others]
    found += [_about(each, lambda name: name in kept) for each in parts]
    found = [each for each in found if each["seeds"]]
    return {**own, EARLIER: found} if found else own


def _runs(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """That of each run into a folder, the latest first."""
    own = {key: value for key, value in provenance.items() if key != EARLIER}
    return [own, *provenance.get(EARLIER, ())]


def _about(run: Mapping[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """That of a run, for those of its experiments that are wanted."""
    seeds = {name: seed for name, seed in run.get("seeds", {}).items() if wanted(name)}
    return {**run, "seeds": seeds}


def save_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Write `provenance` as JSON."""
    write_text_atomic(path, json.dumps(provenance, indent=2, ensure_ascii=False) + "\n")


def load_provenance(path: Path) -> dict[str, Any]:
    """Read what `save_provenance` wrote; empty if there is none.

    Raises:
        SuiteError: the file is damaged.
    """
    try:
        found = load_table(path)
        earlier = found.get(EARLIER, [])
        if not isinstance(earlier, list) or not all(isinstance(each, dict) for each in earlier):
            raise ValueError(f"{EARLIER!r} must be a list of tables")
        if not all(isinstance(each.get("seeds", {}), dict) for each in (found, *earlier)):
            raise ValueError("'seeds' must be a table")
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read ({error}): delete it or run again") from error


def without_home(text: str) -> str:
    """`text` with paths below the working and the home directory made relative to them."""
    for folder, short in ((os.getcwd(), ""), (os.path.expanduser("~"), "~/")):
        if len(folder) > 1:
            text = text.replace(folder + os.sep, short)
    return text


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None if the suite is not one, or git is not there."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        machine["memory"] = f"{memory / 2**30:.0f} GiB"
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name(0)
    return machine


@functools.cache
def machine_name(device: str) -> str:
    """What computes on `device` here: the processor and its cores, or the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name(0)
    return f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The processor's name, and on Linux its generation, which clouds leave out of the name."""
    parts = (line.partition(":") for line in cpuinfo())
    told = {key.strip(): value.strip() for key, _, value in parts}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    if "cpu family" not in told:
        return told["model name"]
    return f"{told['model name']} (family {told['cpu family']}, model {told['model']})"
