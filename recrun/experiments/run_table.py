"""`recrun list runs` with options: runs filtered by their config, sorted by a metric, also as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.console import report
from recrun.console.tables import Column, room_for, show
from recrun.errors import ConfigError, DataError, did_you_mean
from recrun.experiments.compare.runs import mapping, model_name, printable, typed_value
from recrun.runtime.run_files import inside, read_json, read_plain
from recrun.types import lower_is_better

OPTIONS = ("--sort", "--filter", "--format")
FORMATS = ("terminal", "csv")


@dataclass(frozen=True)
class Listed:
    """A run directory, finished or not.

    Attributes:
        name: What its user calls it; empty for nothing.
        tags: Words to find it by.
        metrics: Of test, or of validation where nothing was tested; empty before the first stage is done.
    """

    directory: str
    model: str
    status: str
    start: str
    name: str
    tags: Sequence[str]
    config: Mapping[str, Any]
    metrics: Mapping[str, float]


def run(words: Sequence[str]) -> int:
    """Lists the runs of a folder (default: outputs).

    Raises:
        ConfigError: Wrong usage, or a metric that no run has.
    """
    folder, values, filters = parse(words)
    found = [listed for listed in listed_in(folder) if all(matches(listed, key, value) for key, value in filters)]
    metric = values.get("--sort")
    if metric is not None:
        found = by_metric(found, metric)
    if values.get("--format") == "csv":
        report.text(as_csv(found).removesuffix("\n"))
    elif found:
        show(columns(found, metric))
    else:
        report.text(f"no such run in {folder}")
    return 0


def parse(words: Sequence[str]) -> tuple[Path, dict[str, str], list[tuple[str, str]]]:
    """The folder, the options, and the filters as keys and values."""
    values: dict[str, str] = {}
    filters: list[tuple[str, str]] = []
    folders: list[str] = []
    rest = iter(words)
    for word in rest:
        name, has_value, given = word.partition("=")
        if not word.startswith("--"):
            folders.append(word)
            continue
        if name not in OPTIONS:
            raise ConfigError(f"list runs: unknown option {name}{did_you_mean(name, OPTIONS)} ({', '.join(OPTIONS)})")
        value = given if has_value else next(rest, "")
        if name == "--filter":
            key, is_pair, wanted = value.partition("=")
            if not (key and is_pair):
                raise ConfigError(f"list runs: --filter {value}: expected KEY=VALUE, for example --filter model=ract")
            filters.append((key, wanted))
        elif not value or name in values:
            raise ConfigError(f"list runs: {name} {'is given twice' if name in values else 'needs a value'}")
        values[name] = value
    if values.get("--format", "csv") not in FORMATS:
        raise ConfigError(f"list runs: --format {values['--format']}: expected {' or '.join(FORMATS)}")
    folder = Path(folders[0] if folders else "outputs")
    if len(folders) > 1 or (folders and not folder.is_dir()):
        raise ConfigError(f"list runs: {' '.join(folders)} is no folder")
    return folder, values, filters


def listed_in(folder: Path) -> Iterator[Listed]:
    """The runs below a folder, oldest first; a damaged one is a note."""
    found = []
    for directory, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            try:
                found.append(read(Path(directory)))
            except DataError as error:
                report.note(f"left out: {error}")
    yield from sorted(found, key=lambda listed: (listed.start, listed.directory))


def read(directory: Path) -> Listed:
    """What a run directory says of itself.

    Raises:
        DataError: A file is damaged or missing.
    """
    record = read_json(inside(directory, "run.json"))
    config = mapping(read_plain(inside(directory, "config.yaml")))
    path = inside(directory, "results.json")
    results = read_json(path) if path.is_file() else {}
    metrics = mapping(results.get("test")) or mapping(results.get("valid"))
    return Listed(
        directory=printable(directory),
        model=model_name(directory, config),
        status=printable(record.get("status", "prepared")),
        start=printable(record.get("start", ""))[:19],
        name=printable(record.get("name") or ""),
        tags=[printable(tag) for tag in record.get("tags") or () if isinstance(tag, str)],
        config=config,
        metrics={printable(name): float(value) for name, value in metrics.items() if isinstance(value, int | float)},
    )


def matches(listed: Listed, key: str, wanted: str) -> bool:
    """Whether a run has a value: of `model`, `status`, `name`, one of its `tags`, or of a dotted key of its config."""
    if key in ("model", "status", "name"):
        return str(getattr(listed, key)) == wanted
    if key == "tags":
        return wanted in listed.tags
    value: Any = listed.config
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return bool(value == typed_value(wanted)) or str(value) == wanted


def by_metric(found: Sequence[Listed], metric: str) -> list[Listed]:
    """The best first, those without the metric last."""
    names = list(dict.fromkeys(name for listed in found for name in listed.metrics))
    if found and metric not in names:
        raise ConfigError(
            f"list runs: no run has {metric}{did_you_mean(metric, names)} (there are: {', '.join(names)})"
        )
    sign = 1 if lower_is_better(metric) else -1
    return sorted(found, key=lambda listed: sign * listed.metrics.get(metric, sign * float("inf")))


def columns(found: Sequence[Listed], metric: str | None) -> list[Column]:
    """A line for each run."""
    names = room_for([name for listed in found for name in listed.metrics], [metric] if metric else [])
    return [
        Column("run", [listed.directory for listed in found]),  # never folded: it is copied
        Column("status", [listed.status for listed in found], words=True),
        Column("start", [listed.start for listed in found]),
        Column("model", [listed.model for listed in found], words=True),
        *([Column("name", [listed.name or "-" for listed in found], words=True)] if any(x.name for x in found) else []),
        *([Column("tags", [" ".join(x.tags) or "-" for x in found], words=True)] if any(x.tags for x in found) else []),
        Column("seed", [printable(listed.config.get("seed", "-")) for listed in found]),
        *(
            Column(name, [f"{listed.metrics[name]:.4f}" if name in listed.metrics else "-" for listed in found])
            for name in names
        ),
    ]


def as_csv(found: Sequence[Listed]) -> str:
    """A line for each run with all its metrics, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(dict.fromkeys(name for listed in found for name in listed.metrics))
    writer.writerow(["run", "status", "start", "model", "name", "tags", "seed", *names])
    for listed in found:
        about = [listed.directory, listed.status, listed.start, listed.model, listed.name, " ".join(listed.tags)]
        writer.writerow([*about, listed.config.get("seed"), *(listed.metrics.get(name) for name in names)])
    return text.getvalue()
