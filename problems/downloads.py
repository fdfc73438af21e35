"""Whether data sets are downloaded, and for how long a network is waited for."""

from __future__ import annotations

import functools
import os
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

OFFLINE = "L2L_OFFLINE"
# What `offline` sets it to.
WITHIN = "within"

# Seconds in which a server has to answer. Some networks swallow what they do not allow, and asking
# for a name, or each of a server's addresses, would take as long again.
PATIENCE = 5.0
# Seconds without a byte after which a download is given up.
SILENCE = 15.0
# Those of MNIST and CIFAR-10. Where neither answers, there is no network.
SERVERS = ("https://ossci-datasets.s3.amazonaws.com", "https://www.cs.toronto.edu")


def why_no_download() -> str:
    """A clause that says why nothing is downloaded; empty if it may be."""
    given = os.environ.get(OFFLINE)
    if given:
        return "nothing is downloaded " + (
            "at this point" if given == WITHIN else f"because {OFFLINE} is set"
        )
    return "" if _network_answers() else "no network answers"


@contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """Nothing is downloaded within it, by this process and those that it starts."""
    before = os.environ.get(OFFLINE)
    if wanted:
        os.environ[OFFLINE] = before or WITHIN
    try:
        yield
    finally:
        if before is not None:
            os.environ[OFFLINE] = before
        elif wanted:
            del os.environ[OFFLINE]


@contextmanager
def downloading() -> Iterator[None]:
    """Within it a network that says nothing raises an `OSError` after `SILENCE` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@functools.cache
def _network_answers() -> bool:
    """Whether one of `SERVERS` answers within `PATIENCE` seconds, whatever it says; asked once."""
    answers: queue.Queue[bool] = queue.Queue()

    def ask(server: str) -> None:
        try:
            request = urllib.request.Request(server, method="HEAD")
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            answers.put(True)
        except Exception:
            answers.put(False)
        else:
            answers.put(True)

    for server in SERVERS:
        # Daemons, because nothing ends a thread that waits for a name to be resolved.
        threading.Thread(target=ask, args=(server,), daemon=True).start()
    end = time.monotonic() + PATIENCE
    try:
        return any(answers.get(timeout=max(0, end - time.monotonic())) for _ in SERVERS)
    except queue.Empty:
        return False
