"""What watches the trainings of a trial that a search may stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recrun.experiments.pruning import RowLog, StagePlan, WatchedLog, read_bounds
from recrun.interfaces import Dataset
from recrun.training.monitor import which
from recrun.training.stage_data import most_validations
from recrun.training.trainer import Trainer


def watched(
    log: RowLog, directory: Path, trainers: Mapping[str, Trainer], dataset: Dataset, step_limit: int | None
) -> WatchedLog | None:
    """The log of a trial whose search stops what is worse than others; None in any other run.

    Args:
        log: metrics.jsonl, perhaps with a tracker.
        directory: The run's.
        trainers: By stage, in order.
        dataset: What they train on.
        step_limit: Steps of an epoch at most.
    """
    bounds = read_bounds(directory)
    if bounds is None:
        return None
    *_, last = trainers.values()
    monitor = which(last.monitor, last.earlystop_taskid, dataset)
    stages = {
        name: StagePlan(most_validations(trainer, dataset, step_limit), trainer.keep == "best")
        for name, trainer in trainers.items()
    }
    found = WatchedLog(log, bounds, monitor, dataset.evaluator.greater_is_better(monitor), stages)
    found.look()
    return found
