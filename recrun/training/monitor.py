"""The metric that decides over early stopping and the best weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from recrun.errors import ConfigError, did_you_mean
from recrun.features import Task
from recrun.interfaces import Dataset
from recrun.types import Evaluation, Metrics

T = TypeVar("T")

MEAN = "mean/"  # of a metric over all the tasks that have it: "mean/auc"
OF_KIND = {"classification": "auc", "regression": "rmse"}


def which(monitor: str | None, task: int | str | None, dataset: Dataset) -> str:
    """The metric that decides: the one named, that of a task, or the data's own.

    Where there is something to validate on, the evaluator must know it.

    Args:
        monitor: Its name.
        task: Number, from 0, or name of the task whose auc or rmse decides.
        dataset: Names the tasks.

    Raises:
        ConfigError: Both are given, or there is no such task or metric.
    """
    if task is not None and monitor is not None:
        raise ConfigError(f"trainer.monitor={monitor} and trainer.earlystop_taskid={task}: give one of them")
    chosen = (monitor or dataset.monitor) if task is None else of_task(task, dataset)
    names = getattr(dataset.evaluator, "names", None)
    if names is not None and len(dataset.units("valid")):
        refuse_unknown(chosen, names(dataset), "evaluator.monitor" if monitor is None else "trainer.monitor")
    return chosen


def refuse_unknown(monitor: str, known: Sequence[str], key: str) -> None:
    """Raises ConfigError unless a metric, or those that it is a mean over, are among those that an evaluator knows."""
    if monitor not in known and not (monitor.startswith(MEAN) and names_of_tasks(monitor, known)):
        raise ConfigError(
            f"{key}={monitor} is not computed here{did_you_mean(monitor, known)}\nthere are: {', '.join(known)}"
        )


def of_task(task: int | str, dataset: Dataset) -> str:
    """The auc or rmse of a task, by its number or name."""
    tasks: Sequence[Task] = dataset.sizes.get("tasks", ())
    names = [one.name for one in tasks]
    if task not in names and task not in range(len(names)):
        there_are = ", ".join(f"{at} {name}" for at, name in enumerate(names)) or "none in these data"
        raise ConfigError(f"trainer.earlystop_taskid={task} is no task; there are: {there_are}")
    chosen = tasks[task if isinstance(task, int) else names.index(task)]
    metric = OF_KIND[chosen.kind]
    return f"{chosen.name}/{metric}" if len(tasks) > 1 else metric


def monitored_value(monitor: str, found: Evaluation) -> tuple[str, float]:
    """The monitored metric, or what replaces it where these data leave it undefined, and its value.

    Raises:
        ConfigError: Nothing of that name is computed.
    """
    instead = found.instead.get(monitor)
    if monitor.startswith(MEAN):
        others = of_tasks(monitor, found.instead)
        instead = MEAN + last_part(others[0]) if others else None
    if instead is not None:
        return monitored_value(instead, found)
    metrics = with_mean(monitor, found)
    if monitor not in metrics:
        raise ConfigError(f"trainer.monitor={monitor} is not computed here; there are: {', '.join(found.metrics)}")
    return monitor, metrics[monitor]


def with_mean(monitor: str, found: Evaluation, tasks: Collection[str] | None = None) -> Metrics:
    """The metrics found and, if it is a mean over tasks and all of them have it, the monitored one.

    Args:
        monitor: The metric that decides.
        found: What was found on a split.
        tasks: The metrics that the mean must be over: over others, for example those of fewer tasks, it is another one.
    """
    names = names_of_tasks(monitor, found.metrics) if monitor.startswith(MEAN) else []
    same = tasks is None or set(names) == set(tasks)
    if not names or not same or of_tasks(monitor, found.instead):
        return dict(found.metrics)
    return {**found.metrics, monitor: sum(found.metrics[name] for name in names) / len(names)}


def names_of_tasks(mean: str, names: Iterable[str]) -> list[str]:
    """The metrics that "mean/<metric>" is over."""
    return [name for name in names if last_part(name) == last_part(mean)]


def of_tasks(mean: str, by_name: Mapping[str, T]) -> list[T]:
    """The values of the metrics that "mean/<metric>" is over."""
    return [by_name[name] for name in names_of_tasks(mean, by_name)]


def last_part(name: str) -> str:
    """A metric's name without its task's."""
    return name.rpartition("/")[2]
