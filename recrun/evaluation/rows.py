"""Evaluation over all rows of a split at once: how well each task is predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from recrun.errors import DataError, RecrunError
from recrun.evaluation.auc import auc
from recrun.evaluation.impressions import impression_metrics
from recrun.evaluation.metrics import greater_is_better
from recrun.features import Task
from recrun.interfaces import ComputeDevice, Dataset
from recrun.types import Count, Evaluation, GroupValues, Split

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]


@dataclass
class Results:
    """What is known of one task, or of several: see `Evaluation`."""

    metrics: dict[str, float] = field(default_factory=dict)
    units: dict[str, Float64] = field(default_factory=dict)
    instead: dict[str, str] = field(default_factory=dict)
    groups: dict[str, GroupValues] = field(default_factory=dict)


class RowMetrics:
    """auc, logloss and, within the groups of `batch["group"]`, group_auc of each classification; rmse and mae of each
    regression.

    Names begin with `<task>/` where there are several tasks. A part in which a task has but one class has no auc: then
    the metric is missing and `Evaluation.instead` names the one that can replace it.

    Args:
        batch_size: Rows of an evaluation batch.
        group_weights: What a group counts in group_auc: its rows, as in DIN (Zhou et al. 2018), or the same as others.
            Groups of one class have none and are left out.
        monitor: The metric that early stopping watches by default; None = auc, or rmse, of the first task.
    """

    kind: ClassVar[str] = "table"

    def __init__(
        self,
        batch_size: Count = 8192,
        group_weights: Literal["rows", "equal"] = "rows",
        monitor: str | None = None,
    ) -> None:
        self.batch_size, self.monitor = batch_size, monitor
        self.group_weights = group_weights

    def names(self, dataset: Dataset) -> list[str]:
        """Every metric this evaluator may compute: a task of one class has no auc, rows without groups no group_auc."""
        tasks: Sequence[Task] = dataset.sizes["tasks"]
        kinds = {"classification": ("auc", "logloss", "group_auc"), "regression": ("rmse", "mae")}
        return [f"{task.name}/{name}" if len(tasks) > 1 else name for task in tasks for name in kinds[task.kind]]

    def greater_is_better(self, name: str) -> bool:
        """The direction of a metric."""
        return greater_is_better(name)

    @torch.no_grad()
    def __call__(
        self,
        model: nn.Module,
        dataset: Dataset,
        split: Split,
        device: ComputeDevice,
        limit: int | None = None,
    ) -> Evaluation:
        """Puts `model` in eval mode and evaluates it on a split, or on its first `limit` batches.

        Raises:
            DataError: The split has no row, or its rows no labels.
            RecrunError: The model gives scores that are no numbers.
        """
        parts: dict[str, list[npt.NDArray[Any]]] = {"score": [], "label": [], "group": []}
        for batch in islice(self.scored(model, dataset, split, device), limit):
            for name, values in parts.items():
                if name in batch:
                    values.append(batch[name])
        if not parts["score"]:
            raise DataError(f"the {split} split has no row: there is nothing to evaluate")
        if not parts["label"]:
            raise DataError(f"the {split} split has no labels: its rows can be predicted, not evaluated")
        whole = {name: np.concatenate(values) for name, values in parts.items() if values}
        tasks: Sequence[Task] = dataset.sizes["tasks"]
        results = Results()
        for at, task in enumerate(tasks):
            prefix = f"{task.name}/" if len(tasks) > 1 else ""
            scores, labels = np.ascontiguousarray(whole["score"][:, at]), np.ascontiguousarray(whole["label"][:, at])
            if task.kind == "regression":
                evaluate_regression(results, prefix, scores, labels)
            else:
                evaluate_classification(results, prefix, scores, labels)
                if "group" in whole:
                    self.evaluate_groups(results, prefix, scores, labels, whole["group"])
        ids = dataset.units(split)[: len(whole["score"])]
        return Evaluation(results.metrics, ids, results.units, results.instead, results.groups)

    def evaluate_groups(self, results: Results, prefix: str, scores: Float32, labels: Float32, groups: Int64) -> None:
        """Adds group_auc: the mean, and the value of each group."""
        auc_G, rows_G = group_auc(scores, labels > 0, groups)
        both = ~np.isnan(auc_G)
        if not both.any():
            results.instead[f"{prefix}group_auc"] = results.instead.get(f"{prefix}auc", f"{prefix}auc")
            return
        weights = rows_G[both] if self.group_weights == "rows" else np.ones_like(rows_G[both])
        results.metrics[f"{prefix}group_auc"] = float(np.average(auc_G[both], weights=weights))
        results.groups[f"{prefix}group_auc"] = GroupValues(np.unique(groups)[both], weights, auc_G[both])

    def scored(
        self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice
    ) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        """Batches of a split as {"score": float32 [B, T], "label": float32 [B, T], "group": int64 [B]}, if known."""
        model.eval()
        for batch in dataset.eval_batches(split, self.batch_size):
            with device.autocast():
                scores_BT = model(device.move(batch)).float().cpu().numpy()
            if np.isnan(scores_BT).any():
                raise RecrunError(f"the model gives scores that are no numbers (NaN) on the {split} split")
            yield {"score": scores_BT, **{name: batch[name].numpy() for name in ("label", "group") if name in batch}}

    @torch.no_grad()
    def predict(self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each row, in order: its id and, of each task, the probability of a 1 or the value; tabs between.

        Labels are not needed.
        """
        is_class_T = np.array([task.kind == "classification" for task in dataset.sizes["tasks"]])
        ids = iter(dataset.units(split))
        form = "\t".join(["%s", *["%.7g"] * len(is_class_T)])
        for batch in self.scored(model, dataset, split, device):
            score_BT = torch.from_numpy(batch["score"]).double()
            columns = torch.where(torch.from_numpy(is_class_T), score_BT.sigmoid(), score_BT).T.tolist()
            yield from map(form.__mod__, zip(islice(ids, len(score_BT)), *columns, strict=True))


def evaluate_classification(results: Results, prefix: str, logits: Float32, labels: Float32) -> None:
    """Adds auc and logloss of a classification; the unit's value is its own logloss."""
    target = torch.from_numpy(labels).double()
    loss = F.binary_cross_entropy_with_logits(torch.from_numpy(logits).double(), target, reduction="none").numpy()
    area = auc(logits, labels > 0)
    if np.isnan(area):
        results.instead[f"{prefix}auc"] = f"{prefix}logloss"
    else:
        results.metrics[f"{prefix}auc"] = area
    results.metrics[f"{prefix}logloss"] = float(loss.mean())
    results.units[f"{prefix}logloss"] = loss


def evaluate_regression(results: Results, prefix: str, values: Float32, labels: Float32) -> None:
    """Adds rmse and mae of a regression; the unit's values are its squared and its absolute error."""
    error = values.astype(np.float64) - labels
    squared, absolute = error * error, np.abs(error)
    results.metrics |= {f"{prefix}rmse": float(np.sqrt(squared.mean())), f"{prefix}mae": float(absolute.mean())}
    results.units |= {f"{prefix}squared_error": squared, f"{prefix}mae": absolute}


def group_auc(scores_N: Float32, positive_N: npt.NDArray[np.bool_], group_N: Int64) -> tuple[Float64, Int64]:
    """Of each group, in ascending order, its AUC, float64 [G], NaN where it has one class; and its rows, int64 [G]."""
    order = np.argsort(group_N, kind="stable")
    _, begins = np.unique(group_N[order], return_index=True)
    offsets = np.append(begins, len(order)).astype(np.int64)
    found = impression_metrics(scores_N[order], positive_N[order], offsets, ())
    return found["group_auc"], np.diff(offsets)
