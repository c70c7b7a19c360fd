"""The command that removes what finished runs no longer need."""

from __future__ import annotations

from recrun.commands.options import run_directory
from recrun.console import report
from recrun.errors import ConfigError


def clean(words: list[str]) -> int:
    """`clean RUN|SWEEP [--dry-run]`: says what is removed and how large it was."""
    rest = [word for word in words if word != "--dry-run"]
    if len(rest) != 1 or rest[0].startswith("-"):
        raise ConfigError("clean needs a run or a sweep: recrun clean outputs/… [--dry-run]")
    directory, dry_run = run_directory("clean", rest), "--dry-run" in words
    from recrun.experiments.disk import clean

    found = clean(directory, dry_run)
    for leftover in found:
        report.text(f"{leftover.size / 2**20:9,.1f} MB  {leftover.path}  {leftover.what}")
    size = sum(leftover.size for leftover in found) / 2**20
    verb = "to remove" if dry_run else "removed"
    report.text(f"{size:9,.1f} MB  {verb} in all" if found else f"{directory}: nothing {verb}")
    return 0
