"""The best of the trials of a search: one, or where there are several objectives those that no other is better than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.experiments.best_experiment import write_best
from recrun.experiments.study import losses_of
from recrun.experiments.sweep_results import SPLITS, Row


def best_trial(finished: Sequence[Row], objectives: Sequence[str]) -> dict[str, Any] | None:
    """The best trial by its objective on validation, the first of equals; None if none finished.

    Returns:
        {"changes", "jobs", "monitor", "valid": its value, "test": the same metric's on test, if there is one}.
    """
    losses = [(losses[0], row) for row in finished if (losses := losses_of(row, objectives)) is not None]
    if not losses:
        return None
    row = min(losses, key=lambda found: found[0])[1]
    monitor = objectives[0] if objectives else row["monitor"]
    values = {split: row[split][monitor] for split in SPLITS if monitor in row[split]}
    return {"changes": row["changes"], "jobs": [row["job"]], "monitor": monitor, **values}


def pareto_front(finished: Sequence[Row], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """The Pareto front on validation: trials than which no other is better by one objective and as good by the rest.

    Returns:
        Of each {"changes", "jobs", "valid": {objective: value}, "test": likewise}, in the order of the first objective.
    """
    found = [(losses, row) for row in finished if (losses := losses_of(row, objectives)) is not None]
    front = [(own, row) for own, row in found if not any(dominates(other, own) for other, _ in found)]
    return [
        {
            "changes": row["changes"],
            "jobs": [row["job"]],
            **{split: {name: row[split][name] for name in objectives if name in row[split]} for split in SPLITS},
        }
        for _, row in sorted(front, key=lambda one: one[0])
    ]


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether losses are nowhere above others, and somewhere below."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def write_experiments(
    directory: Path, chosen: Sequence[tuple[str, Mapping[str, Any]]], rows: Mapping[int, Row], trials: int
) -> None:
    """Writes the best trials as experiments.

    Args:
        directory: The sweep's.
        chosen: Name of the experiment, and the trial as `best_trial` or `pareto_front` gives it.
        rows: The lines of all jobs by number.
        trials: How many there are.
    """
    for name, best in chosen:
        (job,) = best["jobs"]
        valid = best["valid"] if isinstance(best["valid"], Mapping) else {best["monitor"]: best["valid"]}
        by = ", ".join(f"{metric}: {value:.4f}" for metric, value in valid.items())
        write_best(directory, name, rows[job]["overrides"], f"Best of {trials} trials by validation {by}, job {job}")
