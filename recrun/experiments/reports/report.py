"""`recrun report`: a page of a run, a sweep or a comparison, and where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recrun.errors import ConfigError
from recrun.experiments.compare.command import Options
from recrun.experiments.outputs import RUN_FILES
from recrun.experiments.reports.comparison_page import comparison_page
from recrun.experiments.reports.page import Page, write
from recrun.experiments.reports.run_page import run_page
from recrun.experiments.reports.sweep_page import sweep_page

NAME = "report.html"


def write_report(directory: Path, output: Path | None = None) -> Path:
    """Writes the report of a run or a sweep; reads it as data, and executes nothing.

    Args:
        directory: A run directory or a sweep's.
        output: The file; None = report.html in it.

    Raises:
        ConfigError: The directory is neither, or the file would replace something else than a report.
        RecrunError: A file of it is damaged.
    """
    path = directory / NAME if output is None else output
    inner = path.resolve().is_relative_to(directory.resolve())
    if inner and path.name != NAME and (path.name in RUN_FILES or path.resolve().parent != directory.resolve()):
        raise ConfigError(f"--output {path}: this is one of the run's own files; give another name")
    write(page_of(directory), path)
    return path


def write_comparison(options: Options, output: Path, words: Sequence[str]) -> Path:
    """Writes the page of a comparison.

    Args:
        options: What is compared, and how.
        output: The file; not within a run that is compared.
        words: What was typed, after `recrun report`.

    Raises:
        ConfigError: The runs cannot be compared, or the file would replace something else than a report.
        RecrunError: A file of a run is damaged.
    """
    write(comparison_page(options, words), output)
    return output


def page_of(directory: Path) -> Page:
    """The page of a directory. Raises ConfigError if it is of neither kind."""
    if (directory / "sweep.json").is_file():
        return sweep_page(directory)
    if (directory / "config.yaml").is_file():
        return run_page(directory)
    raise ConfigError(f"{directory} is neither a run nor a sweep: it has no config.yaml or sweep.json")
