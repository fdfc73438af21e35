"""The report of a results folder, as HTML, Markdown, tables and figures."""

from suite.report.write import Report, write_report

__all__ = ["Report", "write_report"]
