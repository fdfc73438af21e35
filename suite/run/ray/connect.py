"""Connecting to a Ray cluster of others: soon or with one sentence, and never deaf to Ctrl-C.

Ray itself tries for minutes, in code that hears no signals.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from l2l.suite.core.errors import SuiteError

# Seconds until somebody must accept a connection, and until Ray must have made its own; where it
# also sends the suite's code, that takes as long as the network does.
ACCEPTED, CONNECTED, SENT = 5.0, 15.0, 300.0


def connect(address: str, options: Mapping[str, Any], sends_code: bool) -> None:
    """`ray.init` with these options.

    Args:
        address: of the cluster, as in ``$RAY_ADDRESS``.
        options: of `ray.init`.
        sends_code: whether the code travels with them.

    Raises:
        SuiteError: nobody answers there, or nobody that speaks Ray.
        KeyboardInterrupt: a signal asks to stop; what Ray is at then ends with the process.
    """
    _check_answer(address)
    done: Future[None] = Future()
    threading.Thread(target=_initialise, args=(options, done), daemon=True).start()
    limit = SENT if sends_code else CONNECTED
    try:
        done.result(limit)
    except TimeoutError as error:
        raise _refusal(address, f"no Ray answers there within {limit:.0f} s") from error
    except Exception as error:
        raise _refusal(address, str(error).splitlines()[0].rstrip(".")) from error


def _initialise(options: Mapping[str, Any], done: Future[None]) -> None:
    import ray

    try:
        ray.init(**options)
    except Exception as error:
        done.set_exception(error)
    except SystemExit as error:  # by which Ray gives up connecting
        done.set_exception(ConnectionError(f"Ray exits with {error.code}"))
    else:
        done.set_result(None)


def _check_answer(address: str) -> None:
    """That somebody listens at an address of the form ``host:port``."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    import ray

    hosts = [host]
    if host in ("127.0.0.1", "localhost"):
        hosts.append(ray.util.get_node_ip_address())  # where Ray then looks
    reasons = []
    for each in hosts:
        try:
            socket.create_connection((each, int(port)), ACCEPTED).close()
            return
        except (OSError, OverflowError) as error:
            reasons.append(getattr(error, "strerror", None) or str(error))
    raise _refusal(address, f"nobody answers there ({reasons[0]})")


def _refusal(address: str, reason: str) -> SuiteError:
    return SuiteError(
        f"--executor ray: the cluster at {address} is not available: {reason}; start it, correct "
        "RAY_ADDRESS, or unset it to start a cluster on this machine"
    )
