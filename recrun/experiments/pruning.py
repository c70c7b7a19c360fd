"""A trial that a search may stop: pruning.json with its bounds, and the log of metrics that compares with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recrun.errors import Pruned, RecrunError
from recrun.experiments.pruners import Bounds, Trajectory
from recrun.experiments.run_record import write_json
from recrun.runtime.run_files import read_json

NAME = "pruning.json"


class RowLog(Protocol):
    """metrics.jsonl, perhaps with a tracker."""

    def append(self, row: Mapping[str, Any]) -> None: ...

    def keep(self, rows: int) -> None: ...

    def rows(self) -> list[dict[str, Any]]: ...

    def finish(self, results: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class StagePlan:
    """What a stage may add to the evaluations of a run.

    Attributes:
        evaluations: On the validation split, at most.
        keeps_best: Whether it keeps the best weights, else the last ones.
    """

    evaluations: int
    keeps_best: bool


@dataclass
class WatchedLog:
    """metrics.jsonl of a trial, which watches the validations of all stages by the metric of the last one.

    Evaluations count through the stages: the first of a stage follows the last that the stage before it could have.

    Attributes:
        log: Where the rows go.
        bounds: By evaluation; see `pruners`.
        monitor: The metric that decides in the last stage.
        greater_is_better: Its direction.
        stages: By name, in order.
        values: What each evaluation found, if the stage had ended there; NaN where the metric was not finite.
        reason: Why the trial is stopped; empty if it is not.
    """

    log: RowLog
    bounds: Bounds
    monitor: str
    greater_is_better: bool
    stages: Mapping[str, StagePlan]
    values: dict[int, float] = field(default_factory=dict)
    reason: str = ""

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""
        self.log.append(row)
        self.watch(row)

    def keep(self, rows: int) -> None:
        """Cuts the file to its first lines, and forgets what was seen in others."""
        self.log.keep(rows)
        self.look()

    def look(self) -> None:
        """Begins with the lines that there are."""
        self.values, self.reason = {}, ""
        for row in self.log.rows():
            self.watch(row)

    def rows(self) -> list[dict[str, Any]]:
        """The lines so far."""
        return self.log.rows()

    @property
    def planned(self) -> int:
        """Evaluations of a whole training."""
        return sum(stage.evaluations for stage in self.stages.values())

    def watch(self, row: Mapping[str, Any]) -> None:
        """Takes a validation, if the row is one, and compares it with the bounds since the one before."""
        value = value_in(row["metrics"], self.monitor) if row["split"] == "valid" else None
        if value is None:
            return
        before = max(self.values, default=0)
        names = list(self.stages)
        first = sum(self.stages[name].evaluations for name in names[: names.index(row["stage"])])
        own = [self.values[at] for at in self.values if at > first]
        at = max(before, first) + 1
        value = self.kept([*own, value]) if self.stages[row["stage"]].keeps_best else value
        self.values[at] = value
        for evaluation, bound in self.bounds.items():
            if before < evaluation <= at < self.planned and not self.loss(value) <= bound and not self.reason:
                limit = -bound if self.greater_is_better else bound
                self.reason = (
                    f"pruned at evaluation {at} of {self.planned}: validation {self.monitor} is {value:.6g}, "
                    f"and {limit:.6g} was needed"
                )

    def kept(self, values: list[float]) -> float:
        """The best of a stage's values."""
        finite = [value for value in values if math.isfinite(value)]
        return min(finite, key=self.loss) if finite else math.nan

    def loss(self, value: float) -> float:
        """The lower the better."""
        return -value if self.greater_is_better else value

    @property
    def stops(self) -> bool:
        """Whether the trial is to be stopped."""
        return bool(self.reason)

    def as_record(self) -> dict[str, Any]:
        """What run.json has of it."""
        values = [[at, value if math.isfinite(value) else None] for at, value in self.values.items()]
        return {
            "monitor": self.monitor,
            "greater_is_better": self.greater_is_better,
            "planned": self.planned,
            "values": values,
        }


def value_in(metrics: Mapping[str, float], monitor: str) -> float | None:
    """The monitored metric of a row, or the mean over tasks that it is; None if the row does not have it."""
    metric, mean, of = monitor.rpartition("mean/")
    if monitor in metrics or not mean or metric:
        return metrics.get(monitor)
    tasks = [value for name, value in metrics.items() if name.rpartition("/")[2] == of]
    return sum(tasks) / len(tasks) if tasks else None


def write_bounds(bounds: Bounds, directory: Path) -> None:
    """Writes pruning.json: whoever runs the directory compares with these bounds."""
    finite = {str(evaluation): bound for evaluation, bound in bounds.items() if math.isfinite(bound)}
    write_json(directory / NAME, {"bounds": finite})


def read_bounds(directory: Path) -> Bounds | None:
    """The bounds of a run; None for a run that nothing may stop.

    Raises:
        RecrunError: The file is damaged.
    """
    path = directory / NAME
    try:
        found = read_json(path).get("bounds")
    except FileNotFoundError:
        return None
    if not isinstance(found, dict) or not all(key.isdigit() and is_number(bound) for key, bound in found.items()):
        raise RecrunError(f"{path} is damaged: bounds are no numbers by evaluation")
    return {int(key): float(bound) for key, bound in found.items()}


def trajectory(number: int, record: Mapping[str, Any], path: Path) -> Trajectory | None:
    """What a trial that has ended had at its evaluations; None if it has none.

    Args:
        number: The trial's.
        record: Its run.json.
        path: The file, for messages.

    Raises:
        RecrunError: The file is damaged.
    """
    found = record.get("evaluations")
    if found is None:
        return None
    values = found.get("values") if isinstance(found, dict) else None
    pairs = [pair for pair in values if isinstance(pair, list) and len(pair) == 2] if isinstance(values, list) else None
    fits = pairs is not None and all(type(at) is int and (value is None or is_number(value)) for at, value in pairs)
    if not fits or pairs is None or type(found.get("planned")) is not int:
        raise RecrunError(f"{path} is damaged: its evaluations are no numbers")
    sign = -1.0 if found.get("greater_is_better") else 1.0
    losses = {at: math.inf if value is None else sign * value for at, value in pairs}
    return Trajectory(number, found["planned"], losses, record.get("status") == "finished")


def refuse_pruned(record: Mapping[str, Any]) -> None:
    """Raises Pruned for a run that a search has stopped."""
    if record.get("status") == "pruned":
        raise Pruned(str(record.get("pruned", "pruned")))


def is_number(value: Any) -> bool:
    """Whether a value of a file is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
