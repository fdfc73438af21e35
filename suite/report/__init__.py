"""The report: `write_results` stores a run's outcome, `write_report` makes the pages of it."""

from suite.report.write import Report, write_report, write_results

__all__ = ["Report", "write_report", "write_results"]
