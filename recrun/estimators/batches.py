"""Any iterable of batches as a data set of the training loop, and any module's predictions as losses and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.evaluation.auc import auc
from recrun.features import Task
from recrun.interfaces import ComputeDevice
from recrun.objectives.base import Objective
from recrun.types import Batch, Evaluation, Metrics, Split

Loader: TypeAlias = Iterable[Any]  # of (x, y), x a tensor or a mapping of tensors; re-iterable
Scores: TypeAlias = Callable[[Any, Any], tuple[Tensor, Tensor | None]]  # module and x: predictions, a loss of its own

LABEL, INPUT = "label", "x"
SMALLEST = 1e-7  # of a probability, where its logarithm is taken


def packed(batch: Any) -> Batch:
    """A pair (x, y), or x alone, as a batch of the loop."""
    x, y = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (batch, None)
    inputs = {f"{INPUT}.{name}": value for name, value in x.items()} if isinstance(x, Mapping) else {INPUT: x}
    return inputs if y is None else {LABEL: y, **inputs}


def unpacked(batch: Batch) -> Any:
    """The x of `packed`."""
    if INPUT in batch:
        return batch[INPUT]
    return {name.removeprefix(f"{INPUT}."): value for name, value in batch.items() if name != LABEL}


class LoaderData:
    """Loaders of training and validation batches.

    Args:
        train, valid: Iterables of batches; None = there are none.
        evaluator: Evaluates on them.
        tasks: What is predicted.
    """

    kind: ClassVar[str] = "table"
    train_unit: ClassVar[str] = "rows"

    def __init__(self, train: Loader | None, valid: Loader | None, evaluator: Any, tasks: Sequence[Task]) -> None:
        self.train, self.valid, self.evaluator = train, valid, evaluator
        self.monitor: str = evaluator.monitor
        self.sizes: Mapping[str, Any] = {"tasks": tasks}
        self.fingerprints: Mapping[str, str] = {}

    def describe(self) -> dict[str, float]:
        """Nothing: loaders are not counted."""
        return {}

    def train_size(self) -> int:
        """Batches of an epoch."""
        return counted(self.train)

    def train_steps(self, batch_size: int) -> int:
        """The same; the loader decides how large they are."""
        return counted(self.train)

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """The loader's batches, in its order."""
        return map(packed, islice(self.train or (), start, None, stride))

    def eval_size(self, split: Split) -> int:
        """1 if there are validation batches: how many rows they hold is not known before they are read."""
        return int(split == "valid" and self.valid is not None)

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The loader's batches."""
        return map(packed, self.valid or ())

    def units(self, split: Split) -> np.ndarray:
        """None: rows have no ids."""
        return np.empty(0, object)

    def vocabulary(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def entities(self, side: Any, split: Split) -> Iterator[tuple[np.ndarray, Batch]]:
        """None."""
        return iter(())


def counted(loader: Loader | None) -> int:
    """Batches of a loader; counted where it does not say, for which it must be iterable again."""
    if loader is None:
        return 0
    if iter(loader) is loader:
        raise ConfigError("a data loader must be iterable once an epoch: give a DataLoader or a list, not an iterator")
    return len(loader) if isinstance(loader, Sized) else sum(1 for _ in loader)


class Losses(Objective):
    """What a trainer minimises.

    Args:
        scores: Predictions of a module for x, and a loss of its own.
        fit: Named losses of predictions and labels.
    """

    def __init__(self, scores: Scores, fit: Callable[[Tensor, Tensor], dict[str, Tensor]]) -> None:
        super().__init__()
        self.scores, self.fit = scores, fit

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses."""
        predicted, own = self.scores(model, unpacked(batch))
        found = self.fit(predicted, batch[LABEL])
        return found if own is None else {**found, "own": own}


class LoaderEvaluator:
    """Evaluates a module on the batches of a loader.

    Args:
        scores: As of `Losses`.
        tasks: Kinds of the columns of predictions and labels.
        in_rows: Whether predictions are [B, candidates], the positive in column 0, in place of one per row.
    """

    kind: ClassVar[str] = "table"

    def __init__(self, scores: Scores, tasks: Sequence[Task], in_rows: bool = False) -> None:
        self.scores, self.tasks, self.in_rows = scores, tasks, in_rows
        self.monitor = metric_of(tasks[0], len(tasks))

    def greater_is_better(self, name: str) -> bool:
        """AUC is, losses and errors are not."""
        return name.rpartition("/")[2] == "auc"

    def __call__(
        self, model: nn.Module, dataset: Any, split: Split, device: ComputeDevice, limit: int | None = None
    ) -> Evaluation:
        """Metrics of each task; no values per unit."""
        predicted, labels = self.predictions(model, islice(dataset.eval_batches(split, 0), limit), device)
        return Evaluation(self.metrics(predicted, labels), np.empty(0, object), {})

    @torch.no_grad()
    def predictions(
        self, model: nn.Module, batches: Iterable[Batch], device: ComputeDevice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and labels of all rows, in order; no labels where a batch has none."""
        model.eval()
        predicted, labels = [], []
        for batch in batches:
            with device.autocast():
                predicted.append(self.scores(model, unpacked(device.move(batch)))[0].float().cpu().numpy())
            labels += [batch[LABEL].float().cpu().numpy()] if LABEL in batch else []
        empty = np.zeros((0, len(self.tasks)) if len(self.tasks) > 1 else 0, np.float32)
        return np.concatenate(predicted or [empty]), np.concatenate(labels or [empty])

    def metrics(self, predicted: np.ndarray, labels: np.ndarray) -> Metrics:
        """Of every task."""
        if not len(predicted):
            raise ConfigError("the data loader has no batch to evaluate")
        if self.in_rows:
            first, others = predicted[:, :1], predicted[:, 1:]
            return {"auc": float(((first > others) + 0.5 * (first == others)).mean())}
        found: Metrics = {}
        columns = predicted.reshape(len(predicted), -1).T, labels.reshape(len(labels), -1).T
        for task, scores, label in zip(self.tasks, *columns, strict=True):
            prefix = f"{task.name}/" if len(self.tasks) > 1 else ""
            found |= {prefix + name: value for name, value in metrics_of(task, scores, label).items()}
        return found


def metric_of(task: Task, tasks: int) -> str:
    """The metric that a task is judged by."""
    return f"{task.name}/" * (tasks > 1) + ("auc" if task.kind == "classification" else "mse")


def metrics_of(task: Task, scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """auc and logloss of probabilities; mse and mae of values. Of one class alone AUC is 0.5: it says nothing."""
    if task.kind == "regression":
        error = scores.astype(np.float64) - labels
        return {"mse": float((error * error).mean()), "mae": float(np.abs(error).mean())}
    area, p = auc(scores, labels > 0), scores.astype(np.float64).clip(SMALLEST, 1 - SMALLEST)
    logloss = -float((labels * np.log(p) + (1 - labels) * np.log1p(-p)).mean())
    return {"auc": 0.5 if np.isnan(area) else area, "logloss": logloss}


def cross_entropy_of_probabilities(predicted: Tensor, label: Tensor) -> Tensor:
    """Mean binary cross-entropy of probabilities."""
    return F.binary_cross_entropy(predicted.float().reshape(label.shape), label.float())
