"""What came of a sweep's jobs: of each its metrics, of jobs that differ by the seed alone mean, deviation, interval."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from recrun.config.composition import key_of
from recrun.runtime.run_files import read_json

Row = Mapping[str, Any]
SPLITS = ("valid", "test")


def found_in(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of a job shows: the metric that decided, and all of validation, then of test."""
    chosen = {key: results.get(key) for key in ("monitor", "greater_is_better", "split_fingerprint")}
    chosen["lower_is_better"] = results.get("lower_is_better") or []
    return {**chosen, **{split: results.get(split) or {} for split in SPLITS}}


def stopped_in(directory: Path) -> dict[str, Any]:
    """The same for a trial that its search stopped: the metric that would have decided, as far as it came."""
    record = read_json(directory / "run.json")
    evaluations = record.get("evaluations") or {}
    monitor, greater = evaluations.get("monitor"), evaluations.get("greater_is_better")
    values = [value for _, value in evaluations.get("values", []) if value is not None]
    results = {"monitor": monitor, "greater_is_better": greater, "split_fingerprint": record.get("split_fingerprint")}
    return found_in({**results, "valid": {monitor: values[-1]} if values else {}})


def valued(results: Mapping[str, Any]) -> str:
    """What a job found, for a note: the metric that decided, on validation."""
    monitor = results.get("monitor")
    value = (results.get("valid") or {}).get(monitor)
    return f": valid {monitor} {value:.4f}" if isinstance(value, int | float) else ""


def over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Of finished jobs that differ by `seed` alone, each metric's mean and its standard deviation (n - 1)."""
    changes = distinct([[word for word in row["overrides"] if key_of(word) != "seed"] for row in rows])
    settings: dict[str, list[Row]] = defaultdict(list)
    for change, row in zip(changes, rows, strict=True):
        if row["status"] == "finished":
            settings[change].append(row)
    return [
        {
            "changes": change,
            "jobs": [row["job"] for row in same],
            "monitor": same[0]["monitor"],
            **{split: mean_and_sd([row[split] for row in same]) for split in SPLITS},
        }
        for change, same in settings.items()
        if len(same) > 1
    ]


def mean_and_sd(found: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """{"mean": {metric: value}, "sd": ..., "interval": {metric: [low, high]}} of the metrics that all have."""
    values = {name: [metrics[name] for metrics in found] for name in common(found)}
    return {
        "mean": {name: fmean(each) for name, each in values.items()},
        "sd": {name: stdev(each) for name, each in values.items()},
        "interval": {name: interval(each) for name, each in values.items()},
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds: Student's t with n - 1 degrees of freedom."""
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def as_csv(rows: Sequence[Row], settings: Sequence[Row]) -> str:
    """A sweep's results with a line for each job or setting, split and metric; numbers are not rounded.

    Columns: jobs (numbers), changes, status, seeds (how many), split, metric, mean, sd, low, high. Of a single job the
    mean is its value, and sd and the 95 % interval are empty; a job that did not finish has one line without a metric.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("jobs", "changes", "status", "seeds", "split", "metric", "mean", "sd", "low", "high"))
    for row in rows:
        about = (row["job"], row["changes"], row["status"], 1)
        values = [(split, name, value) for split in SPLITS for name, value in row[split].items()]
        table.writerows((*about, *value, "", "", "") for value in values or [("", "", "")])
    for setting in settings:
        about = (" ".join(map(str, setting["jobs"])), setting["changes"], "finished", len(setting["jobs"]))
        table.writerows((*about, *line) for split in SPLITS for line in lines_of(setting[split], split))
    return text.getvalue()


def lines_of(metrics: Mapping[str, Any], split: str) -> Iterator[tuple[Any, ...]]:
    """Split, metric, mean, deviation and interval of a setting's metrics."""
    for name, mean in metrics["mean"].items():
        yield split, name, mean, metrics["sd"][name], *metrics["interval"][name]


def best_of(rows: Sequence[Row], settings: Sequence[Row]) -> dict[str, Any] | None:
    """The job, or the setting over its seeds, that validation chooses; None where it can't choose.

    Returns:
        {"changes", "jobs", "monitor", "valid": its value, "test": the same metric's on test, if there is one}.
    """
    finished = [row for row in rows if row["status"] == "finished"]
    monitors = {(row["monitor"], row.get("split_fingerprint")) for row in finished}  # another split is another question
    several = {job for setting in settings for job in setting["jobs"]}
    if len(finished) < 2 or len(monitors) != 1:
        return None
    monitor, _ = monitors.pop()
    candidates = [
        *({**row, "jobs": [row["job"]]} for row in finished if row["job"] not in several),
        *({**setting, **{split: setting[split]["mean"] for split in SPLITS}} for setting in settings),
    ]
    validated = [one for one in candidates if monitor in one["valid"]]
    if len(validated) < 2:
        return None
    pick = max if finished[0]["greater_is_better"] else min
    best = pick(validated, key=lambda one: one["valid"][monitor])
    values = {split: best[split][monitor] for split in SPLITS if monitor in best[split]}
    return {"changes": best["changes"], "jobs": best["jobs"], "monitor": monitor, **values}


def common(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that all of some mappings have."""
    return [key for key in mappings[0] if all(key in other for other in mappings[1:])]


def distinct(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Of each job the overrides that not all jobs share."""
    shared = set.intersection(*(set(words) for words in overrides)) if len(overrides) > 1 else set()
    return [" ".join(word for word in words if word not in shared) for words in overrides]
