"""Run directories: made once and exclusively, carried out, and what came of it."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recrun.config import schema, targets
from recrun.config.compose import compose
from recrun.config.composition import Composition
from recrun.config.portable import portable
from recrun.config.stored import raw, recompose
from recrun.config.validate import check
from recrun.config.yaml_text import to_text
from recrun.console import report
from recrun.errors import ConfigError, Interrupted, InUse, OutOfTime, Pruned, RecrunError
from recrun.experiments import preflight
from recrun.runtime.cache_folder import claim
from recrun.runtime.run_files import open_plain, read_json

INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its results, or why there are none, and the exit code."""

    results: dict[str, Any] | None = None
    error: str = ""
    code: int = 0
    in_use: bool = False  # another process is at it
    out_of_time: bool = False  # its time_limit is over; it can be resumed
    pruned: str = ""  # why a search stopped it

    @property
    def status(self) -> str:
        """In a word, as run.json has it."""
        if self.results is not None:
            return "finished"
        if self.pruned:
            return "pruned"
        if self.out_of_time:
            return "out of time"
        return "interrupted" if self.code == INTERRUPTED else "failed"


def train(overrides: Sequence[str]) -> dict[str, Any]:
    """Composes, checks and carries out one run in this process.

    Returns:
        What results.json holds, and under "directory" the run directory.

    Raises:
        RecrunError: The config is wrong or the run failed.
        OutOfTime: It has used up its `time_limit`; it is saved and can be resumed.
        KeyboardInterrupt: It was asked to stop; it is saved and can be resumed.
    """
    schema.forget()
    composed = compose(overrides)
    check(composed)
    directory = prepare(composed)
    return {**execute(directory), "directory": str(directory)}


def prepare(composed: Composition, directory: Path | None = None) -> Path:
    """Makes a run directory and writes the config into it.

    Args:
        composed: A checked config.
        directory: Where; by default <output_dir>/<model>/<dataset>/<time>.

    Raises:
        ConfigError: This machine or the evaluator cannot do what the config wants, or no directory can be made.
    """
    targets.check(composed.config, composed.permission)
    preflight.check(composed.config)
    if directory is None:
        group = Path(composed.option("model") or "model") / (composed.option("dataset") or "dataset")
        directory = new_directory(Path(composed.config["output_dir"]) / group)
    else:
        directory.mkdir()
    write_config(composed, directory)
    claim(composed.config["dataset"].get("cache"))
    return directory


def new_directory(parent: Path) -> Path:
    """A directory of our own, named by the time; `-2`, `-3`, … where another run of that second was first."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for count in range(1, 10_000):
            directory = parent / (name if count == 1 else f"{name}-{count}")
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            return directory
    except OSError as error:
        raise ConfigError(f"cannot make a directory in {parent}: {error.strerror}; give another output_dir") from None
    raise ConfigError(f"{parent} is full of runs of this second")


def write_config(composed: Composition, directory: Path) -> None:
    """config.yaml (resolved, all that a run needs) and .hydra/ (how it came about)."""
    from omegaconf import OmegaConf

    hydra: Any = OmegaConf.to_container(composed.hydra, enum_to_str=True)
    hydra = {key: hydra[key] for key in hydra if key not in ("help", "hydra_help")}
    files = {
        ".hydra/config.yaml": composed.node,
        ".hydra/hydra.yaml": {"hydra": hydra},
        ".hydra/overrides.yaml": composed.overrides,
        "config.yaml": portable(composed),
    }
    try:
        (directory / ".hydra").mkdir()
        for name, config in files.items():
            (directory / name).write_text(to_text(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write in {directory}: {error.strerror}; give another output_dir") from None


def attempt(directory: Path, checked: bool = False) -> Outcome:
    """Carries out a run directory; whatever goes wrong becomes part of the outcome.

    Args:
        directory: The run's.
        checked: Whether this process has just written it from a checked config.
    """
    try:
        if not checked:
            check(recompose(directory, []))
        return Outcome(execute(directory))
    except Pruned as end:
        return Outcome(pruned=str(end))
    except RecrunError as error:
        return Outcome(error=str(error), code=error.exit_code, in_use=isinstance(error, InUse))
    except OutOfTime as limit:
        return Outcome(error=str(limit), code=INTERRUPTED, out_of_time=True)
    except KeyboardInterrupt as interruption:
        return Outcome(error=str(interruption), code=INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Outcome(error=f"the disk is full; make room and go on with: recrun resume {directory}", code=1)
        return Outcome(error=log_traceback(error, directory), code=1)


def execute(directory: Path) -> dict[str, Any]:
    """Carries out a run directory; this is where torch is imported. With `report: true` it leaves a report too."""
    from recrun.experiments import run

    try:
        results = run.execute(directory)
    except OutOfTime:
        raise
    except Interrupted as interruption:
        raise KeyboardInterrupt(str(interruption)) from None
    config = raw(directory)
    written = report_on(directory) if config.get("report") else None
    if written is not None and config.get("tracker"):
        from recrun.experiments import trackers

        trackers.add_file(directory, run.load_config(directory), written)
    return results


def report_on(directory: Path) -> Path | None:
    """Writes the report of a run or a sweep; what prevents it does not make a finished run fail."""
    from recrun.experiments.reports.report import write_report

    try:
        written = write_report(directory)
        report.note(f"report: {written}")
        return written
    except RecrunError as error:
        report.note(f"no report: {error}")
        return None


def log_traceback(error: Exception, directory: Path | None) -> str:
    """Writes an unexpected error into the run's log, if there is a run, and says so on one line."""
    if os.environ.get("RECRUN_DEBUG"):
        traceback.print_exc()
    first = (str(error).splitlines() or [""])[0]
    if directory is None:
        return f"{type(error).__name__}: {first} (RECRUN_DEBUG=1 shows the traceback)"
    log = directory / "recrun.log"
    try:
        with open_plain(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="replace"))
    except (OSError, RecrunError):
        return f"{type(error).__name__}: {first} (RECRUN_DEBUG=1 shows the traceback)"
    return f"{type(error).__name__}: {first} (traceback in {log})"


def status(directory: Path) -> str:
    """A run's status as run.json has it; "prepared" before it was first started."""
    try:
        return str(read_json(directory / "run.json").get("status", "prepared"))
    except FileNotFoundError:
        return "prepared"
