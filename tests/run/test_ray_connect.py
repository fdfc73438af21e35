"""A cluster that is not there, or no cluster, is told within seconds, and Ctrl-C is heard."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import command, write_experiment

from l2l.suite.core.errors import SuiteError
from l2l.suite.run.ray.connect import CONNECTED, connect

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

ROOT = Path(__file__).parents[2]

PROGRAM = """
import signal, sys, time
from l2l.suite.run.ray import connect as ray_connect

def stop(number, frame):
    raise KeyboardInterrupt

import ray  # takes seconds
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
ray_connect.CONNECTED = float(sys.argv[3])
started = time.monotonic()
try:
    ray_connect.connect(sys.argv[1], {"address": sys.argv[1]}, sends_code=False)
except BaseException as error:
    print(type(error).__name__, error)
print(time.monotonic() - started)
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who listens and never says a word."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("alarm", "limit", "told"),
    [(1, 60, "KeyboardInterrupt"), (60, 2, "SuiteError .* no Ray answers there within 2 s")],
)
def test_silence_is_a_sentence_and_a_signal_is_heard(
    silent: str, alarm: float, limit: float, told: str
) -> None:
    words = [sys.executable, "-c", PROGRAM, silent, str(alarm), str(limit)]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ, capture_output=True, encoding="utf-8", timeout=60
    )
    said, seconds = done.stdout.splitlines()
    assert re.match(told, said), said
    assert float(seconds) < 10
    assert done.returncode == 0, "what Ray is at ends with the process"
    assert CONNECTED <= 15


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "nobody answers there"),
        ("ray://127.0.0.1:1", "nobody answers there"),
        ("nonsense", "Invalid address format"),
        ("127.0.0.1:99999", "nobody answers there"),
    ],
)
def test_address_of_nobody_is_refused_at_once(address: str, told: str) -> None:
    started = time.monotonic()
    with pytest.raises(SuiteError, match=f"{told}.*correct RAY_ADDRESS"):
        connect(address, {"address": address}, sends_code=False)
    assert time.monotonic() - started < 10


def test_run_on_a_cluster_of_nobody_is_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    words = ["--executor", "ray", "--results", tmp_path / "out"]
    done = command("run", write_experiment(tmp_path), *words)
    assert done.exit_code == 2
    assert "the cluster at 127.0.0.1:1 is not available" in done.stderr
