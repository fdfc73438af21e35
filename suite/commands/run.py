"""One run from request to report; what the command line calls."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from l2l.problems.downloads import offline
from l2l.suite.commands.display import bars
from l2l.suite.commands.publish import publish, results_beside
from l2l.suite.commands.request import Request, plan_request, save_planned, save_request
from l2l.suite.core.errors import SuiteError
from l2l.suite.files.logs import logged_to, new_log
from l2l.suite.files.provenance import checkout
from l2l.suite.inner.process import deterministic
from l2l.suite.plan.plan import Plan
from l2l.suite.report.write import Report
from l2l.suite.run.executors import EXECUTORS
from l2l.suite.run.folder import check_folder, open_results
from l2l.suite.run.locks import at_work
from l2l.suite.run.records import unfinished
from l2l.suite.run.scheduler import run_all
from l2l.suite.run.workers import Settings

log = logging.getLogger("suite")


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        report: of what is finished.
        failed: cells that failed, with their sentences.
        left_out: cells that could not be started because of those.
        without: panels whose data is missing, by (experiment, panel), with the reason.
        log: the log file.
    """

    report: Report
    failed: dict[str, str]
    left_out: tuple[str, ...]
    without: Mapping[tuple[str, str], str]
    log: Path


def run(
    request: Request,
    root: Path,
    device: str,
    executor: str,
    jobs: int | None,
    only_deterministic: bool = False,
) -> Ended:
    """Do everything that the request asks for and is not done, and write the report.

    Args:
        request: what is asked for.
        root: the results folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: one of `suite.run.executors.EXECUTORS`.
        jobs: cells at a time; the executor's own number if None.
        only_deterministic: refuse algorithms whose rounding may differ from run to run.

    Raises:
        SuiteError: wrong input, or a results folder that cannot be used.
        KeyboardInterrupt: by Ctrl-C or SIGTERM; everything can be resumed.
    """
    if jobs is not None and jobs < 1:
        raise SuiteError(f"--jobs is {jobs}, but must be at least 1")
    check_folder(root, there=False)
    checkout()  # which is asked for once
    log_file = new_log(root)
    plugins = tuple(map(Path, request.plugins))
    place = EXECUTORS[executor](Settings(root, device, jobs, plugins, log_file))
    with _stopped_by_sigterm(), deterministic(only_deterministic):
        plan = plan_request(request)
        # First on the terminal, where warnings go while nothing is logged to a file.
        _tell_left_out(plan)
        # Before anything is computed: results that cannot be read could not be kept.
        results_beside(root, [each.name for each in plan.experiments])
        open_results(root)
        save_request(request, root)
        save_planned(plan, root)
        # What was missing when the cells were planned does not turn up in the midst of them.
        with at_work(root), logged_to(log_file), offline(bool(plan.notices)):
            log.info("%s", request.command())
            _tell_left_out(plan)
            todo = unfinished(plan.results, root)
            with place as workers, bars(len(todo)) as display:
                outcomes = run_all(todo, root, workers, display)
            report = publish(plan, request, root)
            ends = {cell.label: outcomes[cell.key] for cell in todo if cell.key in outcomes}
            failed = {label: end.error for label, end in ends.items() if end.state == "failed"}
            left_out = tuple(cell.label for cell in todo if cell.key not in outcomes)
            log.info(
                "ended: %d cells computed, %d failed, %d not run; the report is written",
                len(outcomes) - len(failed),
                len(failed),
                len(left_out),
            )
            return Ended(report, failed, left_out, plan.without, log_file)


def _tell_left_out(plan: Plan) -> None:
    for (_, panel), reason in plan.without.items():
        log.warning("panel %s is left out: %s", panel, reason)
    for label, reason in {label: why for (*_, label), why in plan.left_out.items()}.items():
        log.warning("optimizer %s is left out: %s", label, reason)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
