"""`recrun compare`: from the words of the command line to a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from recrun.console import report
from recrun.errors import ConfigError, did_you_mean
from recrun.experiments.compare import tables
from recrun.experiments.compare.compare import compare
from recrun.experiments.compare.result import ComparisonResult, Correction
from recrun.experiments.compare.runs import (
    StoredRun,
    find_runs,
    gather_settings,
    refuse_other_evaluations,
    setting_called,
)
from recrun.types import Split

FORMATS: Mapping[str, Callable[[ComparisonResult], str] | None] = {
    "terminal": None,
    "csv": tables.as_csv,
    "json": tables.as_json,
    "latex": tables.as_latex,
    "markdown": tables.as_markdown,
}
CHOICES = {"--split": get_args(Split), "--correction": get_args(Correction), "--format": tuple(FORMATS)}
OPTIONS = ("--baseline", "--all-pairs", "--metric", *CHOICES, "--output")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    paths: tuple[Path, ...]
    metrics: tuple[str, ...] = ()
    baseline: str | None = None
    all_pairs: bool = False
    split: Split = "test"
    correction: Correction = "holm"
    format: str = "terminal"
    output: Path | None = None


def run(words: Sequence[str]) -> int:
    """Compares runs and sweeps, and shows or writes the table.

    Raises:
        ConfigError: Wrong usage, or runs that cannot be compared.
        DataError: A file of a run is damaged.
    """
    options = parse(words)
    if options.output is not None and FORMATS[options.format] is None:
        raise ConfigError("--output needs --format csv, json, latex or markdown")
    table, runs = compared(options)
    write(table, options, runs)
    return 0


def compared(options: Options) -> tuple[ComparisonResult, Sequence[StoredRun]]:
    """What a comparison finds, and the runs that it is of."""
    runs, notes = find_runs(options.paths)
    if options.output is not None:
        refuse_output_in_runs(options.output, [*options.paths, *(run.directory for run in runs)])
    for note in notes:
        report.note(note)
    refuse_other_evaluations(runs)
    settings = gather_settings(runs)
    baseline = None if options.all_pairs else setting_called(settings, options.baseline) if options.baseline else 0
    return compare(settings, options.metrics, options.split, baseline, options.correction), runs


def write(table: ComparisonResult, options: Options, runs: Sequence[StoredRun]) -> None:
    """Prints the table, or writes it into a file."""
    written = FORMATS[options.format]
    if written is None:
        tables.terminal(table)
    elif options.output is None:
        report.text(written(table).removesuffix("\n"))
    else:
        try:
            options.output.write_text(written(table), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--output {options.output}: {error.strerror}") from None
        report.note(f"{len(runs)} runs compared in {options.output}")


def parse(words: Sequence[str], verb: str = "compare", options: Sequence[str] = OPTIONS) -> Options:
    """The options, each as `--name VALUE` or `--name=VALUE`.

    Args:
        words: Of the command line, after the verb.
        verb: The command that has them.
        options: Which of OPTIONS it takes.

    Raises:
        ConfigError: An option that is unknown, incomplete, given twice or at odds with another.
    """
    values: dict[str, str] = {}
    paths: list[Path] = []
    rest = iter(words)
    for word in rest:
        name, has_value, given = word.partition("=")
        if not word.startswith("--"):
            paths.append(Path(word))
            continue
        if name not in options:
            hint = did_you_mean(name, options)
            raise ConfigError(f"{verb}: unknown option {name}{hint} (there are: {', '.join(options)})")
        if name in values:
            raise ConfigError(f"{verb}: {name} is given twice{'; separate metrics by commas' * (name == '--metric')}")
        values[name] = "yes" if name == "--all-pairs" and not has_value else given if has_value else next(rest, "")
        if not values[name] or (name == "--all-pairs" and has_value):
            raise ConfigError(f"{verb}: {name} {'takes no' if name == '--all-pairs' else 'needs a'} value")
    return checked(paths, values, verb)


def checked(paths: Sequence[Path], values: Mapping[str, str], verb: str) -> Options:
    """Options whose values are among those allowed."""
    if not paths:
        raise ConfigError(f"{verb} needs runs or sweeps: recrun {verb} outputs/… (recrun list runs shows them)")
    for name, allowed in CHOICES.items():
        if name in values and values[name] not in allowed:
            hint = did_you_mean(values[name], allowed)
            raise ConfigError(f"{name} {values[name]}: expected {', '.join(allowed)}{hint}")
    if "--baseline" in values and "--all-pairs" in values:
        raise ConfigError(f"{verb}: --baseline and --all-pairs exclude each other")
    return Options(
        paths=tuple(paths),
        metrics=tuple(name for name in values.get("--metric", "").split(",") if name),
        baseline=values.get("--baseline"),
        all_pairs="--all-pairs" in values,
        split="valid" if values.get("--split") == "valid" else "test",
        correction="bh" if values.get("--correction") == "bh" else "holm",
        format=values.get("--format", "terminal"),
        output=Path(values["--output"]) if "--output" in values else None,
    )


def refuse_output_in_runs(output: Path, directories: Sequence[Path]) -> None:
    """Raises ConfigError for a file that would be written into what is compared."""
    for directory in directories:
        if output.resolve().is_relative_to(directory.resolve()):
            raise ConfigError(f"--output {output} is inside {directory}: nothing is written into runs")
