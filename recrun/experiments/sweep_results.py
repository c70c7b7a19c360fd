"""What came of a sweep's jobs: of each its metrics, of jobs that differ by the seed alone mean and deviation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from recrun.config.compose import key_of

Row = Mapping[str, Any]
SPLITS = ("valid", "test")


def found_in(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the line of a job shows: the metric that decided, and all of validation, then of test."""
    chosen = {key: results.get(key) for key in ("monitor", "greater_is_better", "split_fingerprint")}
    return {**chosen, **{split: results.get(split) or {} for split in SPLITS}}


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


def mean_and_sd(found: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """{"mean": {metric: value}, "sd": ...} of the metrics that all have."""
    values = {name: [metrics[name] for metrics in found] for name in common(found)}
    return {
        "mean": {name: fmean(each) for name, each in values.items()},
        "sd": {name: stdev(each) for name, each in values.items()},
    }


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
