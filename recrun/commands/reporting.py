"""The command that writes a report."""

from __future__ import annotations

from recrun.console import report
from recrun.errors import ConfigError


def write_report(words: list[str]) -> int:
    """`report RUN|SWEEP [--output FILE]`, or several with the options of compare: one HTML file that needs no other."""
    from recrun.experiments.compare.command import OPTIONS, parse

    taken = [name for name in OPTIONS if name != "--format"]
    options = parse(words, "report", taken)
    chosen = {name for word in words if (name := word.partition("=")[0]) in taken}
    from recrun.experiments.reports.report import write_comparison, write_report

    if len(options.paths) == 1 and chosen <= {"--output"}:
        path = write_report(options.paths[0], options.output)
    elif options.output is None:
        raise ConfigError("report: a comparison belongs to no one run; say where it is written: --output FILE")
    else:
        path = write_comparison(options, options.output, words)
    report.text(str(path))
    return 0
