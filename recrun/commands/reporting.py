"""The command that writes a report."""

from __future__ import annotations

from pathlib import Path

from recrun.commands.options import named_values
from recrun.console import report
from recrun.errors import ConfigError


def write_report(words: list[str]) -> int:
    """`report RUN|SWEEP [--output FILE]`: one HTML file that needs nothing else."""
    values, rest = named_values("report", words, ("--output",))
    if len(rest) != 1 or "" in values.values():
        raise ConfigError("report needs a run or a sweep: recrun report outputs/… [--output FILE]")
    from recrun.experiments.reports.report import write_report

    output = Path(values["--output"]) if "--output" in values else None
    report.text(str(write_report(Path(rest[0]), output)))
    return 0
