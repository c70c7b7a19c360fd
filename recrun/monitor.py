"""The metric that decides over early stopping and the best weights."""

from __future__ import annotations

from collections.abc import Sequence

from recrun.errors import ConfigError
from recrun.features import Task
from recrun.protocols import Dataset
from recrun.types import Evaluation

MEAN = "mean/"  # of a metric over all the tasks that have it: "mean/auc"
OF_KIND = {"classification": "auc", "regression": "rmse"}


def which(monitor: str | None, task: int | str | None, dataset: Dataset) -> str:
    """The metric that decides: the one named, that of a task, or the data's own.

    Args:
        monitor: Its name.
        task: Number, from 0, or name of the task whose auc or rmse decides.
        dataset: Names the tasks.

    Raises:
        ConfigError: Both are given, or there is no such task.
    """
    if task is None:
        return monitor or dataset.monitor
    if monitor is not None:
        raise ConfigError(f"trainer.monitor={monitor} and trainer.earlystop_taskid={task}: give one of them")
    tasks: Sequence[Task] = dataset.sizes.get("tasks", ())
    names = [one.name for one in tasks]
    if task not in names and task not in range(len(names)):
        there_are = ", ".join(f"{at} {name}" for at, name in enumerate(names)) or "none in these data"
        raise ConfigError(f"trainer.earlystop_taskid={task} is no task; there are: {there_are}")
    chosen = tasks[task if isinstance(task, int) else names.index(task)]
    metric = OF_KIND[chosen.kind]
    return f"{chosen.name}/{metric}" if len(tasks) > 1 else metric


def judged_by(monitor: str, found: Evaluation) -> tuple[str, float]:
    """The monitored metric, or what takes its place where these data leave it undefined, and its value.

    Raises:
        ConfigError: Nothing of that name is computed.
    """
    if monitor in found.metrics:
        return monitor, found.metrics[monitor]
    instead = found.instead.get(monitor)
    if monitor.startswith(MEAN):
        metric = monitor.removeprefix(MEAN)
        values = [value for name, value in found.metrics.items() if name.rsplit("/", 1)[-1] == metric]
        if values:
            return monitor, sum(values) / len(values)
        others = [other for name, other in found.instead.items() if name.rsplit("/", 1)[-1] == metric]
        instead = MEAN + others[0].rsplit("/", 1)[-1] if others else None
    if instead is None:
        raise ConfigError(f"trainer.monitor={monitor} is not computed here; there are: {', '.join(found.metrics)}")
    return judged_by(instead, found)
