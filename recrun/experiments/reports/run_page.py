"""The page of a run: what it learned, what it scored, how long it took, and what it is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.errors import RecrunError
from recrun.experiments.compare.runs import (
    Setting,
    mapping,
    model_name,
    printable,
    read_run,
)
from recrun.experiments.reports.charts import Chart, Points, histogram, line_chart
from recrun.experiments.reports.estimates import Value, unit_values, values_of
from recrun.experiments.reports.page import Page, Section, Table
from recrun.experiments.reports.unit_bins import bin_charts
from recrun.experiments.run_record import MetricsLog
from recrun.runtime.run_files import inside, read_json, read_plain, read_text, refuse_links
from recrun.types import Split

SPLITS: tuple[Split, ...] = ("valid", "test")
MOST_LOSSES = 12  # charts of losses; a model of many tasks has more than anyone looks at
BY_KIND = "By activity and popularity"
BY_KIND_NOTE = (
    "Units in bins of about equal size, with means and 95% intervals: by the events of a unit's input, and by the "
    "training events of its targets, in the mean over these."
)
NO_NUMBER, NO_BREAK = "-", "\N{NO-BREAK SPACE}"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """The files of a run, finished or not.

    Attributes:
        rows: The lines of metrics.jsonl.
        words: What was typed.
    """

    directory: Path
    model: str
    config: Json
    config_text: str
    record: Json
    results: Json
    rows: Sequence[Json]
    words: tuple[str, ...]

    @property
    def status(self) -> str:
        """As run.json has it."""
        return str(self.record.get("status", "prepared"))

    @property
    def stages(self) -> Json:
        """The finished stages of results.json."""
        return mapping(self.results.get("stages"))


def read(directory: Path) -> Stored:
    """Reads a run directory as data.

    Raises:
        RecrunError: A file is damaged, or leads out of the directory.
    """
    refuse_links(directory)
    config = mapping(read_plain(inside(directory, "config.yaml")))
    found = {
        name: read_json(path) if (path := inside(directory, name)).is_file() else {}
        for name in ("run.json", "results.json")
    }
    typed = read_plain(path) if (path := inside(directory, ".hydra", "overrides.yaml")).is_file() else []
    return Stored(
        directory=directory,
        model=model_name(directory, config),
        config=config,
        config_text=read_text(inside(directory, "config.yaml")),
        record=found["run.json"],
        results=found["results.json"],
        rows=MetricsLog(directory).rows(),
        words=tuple(map(printable, typed)) if isinstance(typed, list) else (),
    )


def run_page(directory: Path) -> Page:
    """The page of a run directory. Raises RecrunError if a file is damaged."""
    run = read(directory)
    return Page(
        f"{run.model}: {printable(run.directory.name)}",
        f"{run.status}, {run.record.get('start', 'not started')}; {' '.join(run.words) or 'no overrides'}",
        [
            Section("Metrics", *metrics(run)),
            Section("Learning curves", charts=curves(run)),
            Section("Distribution over units", charts=distributions(run)),
            like_units(run),
            Section("Losses", charts=losses(run)),
            Section("Time", table=times(run)),
            Section("Data", facts=facts(mapping(run.record.get("dataset")))),
            Section("Lists", facts=facts(mapping(run.record.get("lists")))),
            Section("Code and machine", facts=machine(run)),
            Section("To repeat it", text=command(run)),
            Section("Config", text=run.config_text),
        ],
    )


def metrics(run: Stored) -> tuple[str, tuple[Chart, ...], Table | None]:
    """A note, no charts, and the table of the metrics of both splits."""
    stated = {split: mapping(run.results.get(split)) for split in SPLITS}
    names = list(dict.fromkeys(name for split in SPLITS for name in stated[split]))
    if not names:
        return "Nothing was evaluated yet.", (), None
    found = {split: intervals(run, split) if stated[split] else {} for split in SPLITS}
    there = [split for split in SPLITS if stated[split]]
    rows = [(name, *(estimate(stated[split].get(name), found[split].get(name)) for split in there)) for name in names]
    units = [f"{one.units:,} {one.unit} of {split}" for split, values in found.items() for one in values.values()]
    counted = ", ".join(dict.fromkeys(units))
    monitor = f"Epochs were chosen by validation {run.results.get('monitor')}."
    note = f"Means over {counted}, with 95% intervals (bootstrap over these). " if counted else ""
    return f"{note}{monitor}", (), Table(("metric", *there), tuple(rows))


def intervals(run: Stored, split: Split) -> dict[str, Value]:
    """Of a finished run the metrics that have values per unit; none where there are no such values."""
    try:
        (found,) = values_of([Setting(run.model, (read_run(run.directory),))], split)
    except RecrunError:
        return {}
    return found


def curves(run: Stored) -> tuple[Chart, ...]:
    """Of each stage the metric that decided, over epochs, with the epoch that was kept."""
    found = []
    for stage, rows in by_stage(run).items():
        kept, monitor = mapping(run.stages.get(stage)), monitor_of(run, stage, rows)
        axis = clock(rows)
        marked = next((at for at, row in enumerate(rows) if is_kept(row, kept)), None)
        values = [as_number(mapping(row.get("metrics")).get(monitor)) for row in rows]
        text = f"kept: epoch {kept.get('best_epoch')}, {values[marked]:.4f}" if marked is not None else ""
        points = Points(monitor, [as_number(row.get(axis)) for row in rows], values, marked, text)
        found.append(line_chart(f"{stage}: valid {monitor}", axis, [points]))
    return tuple(chart for chart in found if chart is not None)


def losses(run: Stored) -> tuple[Chart, ...]:
    """Each loss of each stage over epochs."""
    found = []
    for stage, rows in by_stage(run).items():
        names = dict.fromkeys(name for row in rows for name in mapping(row.get("losses")))
        axis = clock(rows)
        for name in names:
            values = [as_number(mapping(row.get("losses")).get(name)) for row in rows]
            points = Points(name, [as_number(row.get(axis)) for row in rows], values)
            found.append(line_chart(f"{stage}: {name}", axis, [points]))
    return tuple(chart for chart in found if chart is not None)[:MOST_LOSSES]


def distributions(run: Stored) -> tuple[Chart, ...]:
    """How the metric that decided, and a first one of each other kind, is distributed over units."""
    if run.status != "finished":
        return ()
    setting, monitor = Setting(run.model, (read_run(run.directory),)), str(run.results.get("monitor"))
    found = []
    for split in SPLITS:
        values = unit_values(setting, split, monitor) if mapping(run.results.get(split)) else None
        if values is not None:
            title = f"{split} {monitor}: {(values == 0).mean():.0%} of {len(values):,} are 0"
            found.append(histogram(title, monitor, values))
    return tuple(found)


def like_units(run: Stored) -> Section:
    """The metric that decided by activity of units and popularity of their targets, where the run knows them."""
    if run.status != "finished":
        return Section(BY_KIND)
    stored, monitor = read_run(run.directory), str(run.results.get("monitor"))
    splits = [split for split in SPLITS if mapping(run.results.get(split))]
    charts = tuple(chart for split in splits for chart in bin_charts(stored, split, monitor))
    return Section(BY_KIND, BY_KIND_NOTE if charts else "", charts)


def times(run: Stored) -> Table | None:
    """Epochs and seconds of each stage."""
    rows = []
    for stage, kept in run.stages.items():
        recorded = mapping(mapping(run.record.get("stages")).get(stage))
        seconds = [
            f"{as_number(kept.get(key)):,.1f}" for key in ("train_seconds", "eval_seconds", "samples_per_second")
        ]
        rows.append((str(stage), str(recorded.get("epochs", NO_NUMBER)), str(kept.get("best_epoch")), *seconds))
    header = ("stage", "epochs", "kept", "training s", "evaluation s", f"{run.results.get('unit', 'units')}/s")
    return Table(header, tuple(rows)) if rows else None


def machine(run: Stored) -> tuple[tuple[str, str], ...]:
    """Code, versions, device, fingerprints."""
    record, git = run.record, mapping(run.record.get("git"))
    commit = f"{git.get('commit')}{' with changes' if git.get('dirty') else ''}" if git else None
    memory = {key: run.results.get(f"peak_{key}_mb") for key in ("memory", "gpu_memory")}
    found = {
        "name": record.get("name"),
        "tags": ", ".join(map(str, tags)) if isinstance(tags := record.get("tags"), list) and tags else None,
        "directory": run.directory,
        "seed": run.config.get("seed"),
        "commit of the working directory": commit,
        **{f"{name}": version for name, version in mapping(record.get("versions")).items()},
        "python": record.get("python"),
        "platform": record.get("platform"),
        **{key: record.get(key) for key in ("device", "devices", "threads", "start", "end", "error")},
        **{f"peak {key.replace('_', ' ')}": f"{value:,} MB" for key, value in memory.items() if value},
        **{key: record.get(key) for key in ("dataset_fingerprint", "split_fingerprint", "features_fingerprint")},
    }
    return tuple((name, str(value)) for name, value in found.items() if value is not None)


def command(run: Stored) -> str:
    """What starts such a run again."""
    typed = run.record.get("argv")
    if run.record.get("lists") and isinstance(typed, list):
        return shlex.join(["recrun", *map(printable, typed[1:])])
    return shlex.join(["recrun", *run.words])


def by_stage(run: Stored) -> dict[str, list[Json]]:
    """The evaluations on validation data, of each stage."""
    found: dict[str, list[Json]] = {}
    for row in run.rows:
        if row.get("split") == "valid":
            found.setdefault(str(row.get("stage")), []).append(row)
    return found


def monitor_of(run: Stored, stage: str, rows: Sequence[Json]) -> str:
    """The metric that decided; the first one where that is unknown or no metric of its own."""
    names = list(mapping(rows[0].get("metrics")))
    chosen = mapping(run.stages.get(stage)).get("monitor") or run.results.get("monitor")
    chosen = chosen or mapping(run.config.get("evaluator")).get("monitor")
    return chosen if chosen in names else next(iter(names), "")


def clock(rows: Sequence[Json]) -> str:
    """What the x axis counts: epochs, or steps where an epoch has several evaluations."""
    epochs = [row.get("epoch") for row in rows]
    return "epoch" if len(set(epochs)) == len(epochs) else "step"


def is_kept(row: Json, kept: Json) -> bool:
    """Whether an evaluation is that of the weights that a stage kept."""
    same_epoch = row.get("epoch") == kept.get("best_epoch")
    return bool(kept) and same_epoch and kept.get("best_step") in (None, row.get("step"))


def as_number(value: Any) -> float:
    """A number from a file; not a number if it is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def number(value: Any) -> str:
    """A metric, as text."""
    return f"{value:.4f}" if isinstance(value, int | float) else NO_NUMBER


def estimate(stated: Any, value: Value | None, sd: float | None = None) -> str:
    """A metric, its deviation over seeds and its interval, where there are such, as text."""
    spread = "" if sd is None else f" ± {sd:.4f}"
    interval = "" if value is None else f" [{value.interval.low:.4f},{NO_BREAK}{value.interval.high:.4f}]"
    return f"{number(stated)}{spread}{interval}"


def facts(values: Json) -> tuple[tuple[str, str], ...]:
    """Names and counts, as text."""
    return tuple(
        (str(name).replace("_", " "), f"{value:,}" if isinstance(value, int | float) else str(value))
        for name, value in values.items()
    )
