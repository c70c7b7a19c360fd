"""Evaluation grouped by impression: how well the candidates that were shown together are ordered.

One sort orders all candidates of all impressions; everything else is arithmetic on flat arrays. Candidates with equal
scores get what they would get on average over their orders, so that neither the file's order nor the batch decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recrun.errors import DataError, RecrunError
from recrun.evaluation.metrics import greater_is_better
from recrun.interfaces import ComputeDevice, Dataset
from recrun.types import Count, Counts, Evaluation, Split

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]
Bool: TypeAlias = npt.NDArray[np.bool_]

MOST_IMPRESSIONS = 1 << 17  # encoded together: what they share is computed once
TOO_LONG = 1 << 31


class GroupedByImpression:
    """group_auc, mean_mrr and ndcg@k: means over the impressions that have a click and a non-click.

    Impressions of one class have no AUC: they are left out and counted as the metric `one_class_impressions`.

    Args:
        ks: Cut-offs of ndcg.
        batch_size: Impressions of an evaluation batch, as a limit counts them.
        monitor: The metric that early stopping watches by default.
    """

    kind: ClassVar[str] = "news"

    def __init__(self, ks: Counts = (5, 10), batch_size: Count = 1024, monitor: str = "group_auc") -> None:
        self.ks, self.monitor = sorted(ks), monitor
        self.batch_size = batch_size

    def names(self, dataset: Dataset) -> list[str]:
        """Every metric this evaluator computes; the same on all data."""
        return ["group_auc", "mean_mrr", *(f"ndcg@{k}" for k in self.ks), "one_class_impressions"]

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
            DataError: No impression has both classes.
        """
        left = dataset.eval_size(split) if limit is None else limit * self.batch_size
        found: list[dict[str, Float64]] = []
        for scores_N, offsets, labels_N in self.scored(model, dataset, split, device, left):
            found.append(impression_metrics(scores_N, labels_N, offsets, self.ks))
        units = {name: np.concatenate([part[name] for part in found]) for name in found[0]} if found else {}
        evaluated = ~np.isnan(units["group_auc"]) if found else np.zeros(0, bool)
        if not evaluated.any():
            raise DataError(
                f"the {split} split has no impression with both a click (-1) and a non-click (-0): nothing to evaluate"
            )
        units = {name: values[evaluated] for name, values in units.items()}
        metrics = {name: float(values.mean()) for name, values in units.items()}
        metrics["one_class_impressions"] = float((~evaluated).sum())
        return Evaluation(metrics, dataset.units(split)[: len(evaluated)][evaluated], units)

    def scored(
        self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice, most: int
    ) -> Iterator[tuple[Float32, Int64, Bool]]:
        """Scores, offsets and labels (empty if unknown) of the first `most` impressions of a split, in large chunks."""
        model.eval()
        size = max(1, min(most, MOST_IMPRESSIONS))
        for batch in islice(dataset.eval_batches(split, size), math.ceil(most / size)):
            with device.autocast():
                scores_N = model(device.move(batch)).float().cpu().numpy()
            if np.isnan(scores_N).any():
                raise RecrunError(f"the model gives scores that are no numbers (NaN) on the {split} split")
            labels = batch["label"].numpy() > 0 if "label" in batch else np.zeros(0, bool)
            yield scores_N, batch["candidates_offsets"].numpy(), labels

    @torch.no_grad()
    def predict(self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each impression, in order: its number from 1 on, and the rank of each of its candidates.

        As the MIND leaderboard wants it: `1 [3,1,2]`. Equal scores rank in the order of the file.
        """
        number = 1
        for scores_N, offsets, _ in self.scored(model, dataset, split, device, TOO_LONG):
            ranks = ranks_in_rows(scores_N, offsets).astype(str).tolist()
            for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                yield f"{number} [{','.join(ranks[first:last])}]"
                number += 1


def impression_metrics(scores_N: Float32, labels_N: Bool, offsets: Int64, ks: Sequence[int]) -> dict[str, Float64]:
    """Metrics of each impression, float64 [R]; NaN where an impression has but one class.

    Args:
        scores_N: Scores of all candidates, impression by impression.
        labels_N: Whether each was clicked.
        offsets: Where impressions begin and end, int64 [R + 1].
        ks: Cut-offs of ndcg.

    Returns:
        group_auc: Area under the ROC curve; a tie counts half.
        mean_mrr: Mean of 1 / rank over an impression's clicks.
        ndcg@k: With gain 1 for a click and discount 1 / log2(rank + 1).
    """
    lengths = np.diff(offsets)
    row, order = sorted_rows(scores_N, offsets)
    clicked = labels_N[order]
    begins, ends = ties(scores_N[order], row)
    start = np.repeat(offsets[:-1], lengths)
    first, last = begins - start, ends - start  # ranks of the tie are first + 1 to last
    clicks = np.bincount(row[clicked], minlength=len(lengths))
    one_class = (clicks == 0) | (clicks == lengths)
    row, first, last = row[clicked], first[clicked], last[clicked]

    def sums(values: Float64) -> Float64:
        summed: Float64 = np.bincount(row, values, minlength=len(lengths)).astype(np.float64, copy=False)
        return summed

    longest = int(lengths.max(initial=0))
    ranks = np.arange(1, longest + 1)
    pairs = np.where(one_class, np.nan, clicks * (lengths - clicks))
    below = sums(lengths[row] - (first + last + 1) / 2) - clicks * (clicks - 1) / 2
    found = {"group_auc": below / pairs}
    found["mean_mrr"] = sums(_mean_of_tie(1 / ranks, first, last)) / np.where(one_class, np.nan, clicks)
    for k in ks:
        gains = np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)
        ideal = np.concatenate([[0.0], np.cumsum(gains)])[clicks]
        found[f"ndcg@{k}"] = sums(_mean_of_tie(gains, first, last)) / np.where(one_class, np.nan, ideal)
    return found


def ranks_in_rows(scores_N: Float32, offsets: Int64) -> Int64:
    """Rank of each score in its row, 1 for the highest; of equal scores the earlier one ranks first."""
    row, order = sorted_rows(scores_N, offsets)
    ranks = np.empty(len(scores_N), np.int64)
    ranks[order] = np.arange(len(scores_N)) - offsets[row] + 1
    return ranks


def sorted_rows(scores_N: Float32, offsets: Int64) -> tuple[Int64, Int64]:
    """The row of each flat position, and the positions in order: by row, then from the highest score, then as given."""
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    bits = (scores_N.astype(np.float32) + np.float32(0)).view(np.int32).astype(np.int64)  # + 0 makes -0 a 0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # orders integers as the floats they come from
    return row, np.argsort((row << 32) - ascending, kind="stable")


def ties(scores_N: Float32, row: Int64) -> tuple[Int64, Int64]:
    """For each position of sorted rows, where the run of equal scores around it begins and ends."""
    new = np.ones(len(row) + 1, bool)
    new[1:-1] = (scores_N[1:] != scores_N[:-1]) | (row[1:] != row[:-1])
    edges = np.flatnonzero(new)
    return np.repeat(edges[:-1], np.diff(edges)), np.repeat(edges[1:], np.diff(edges))


def _mean_of_tie(gains: Float64, first: Int64, last: Int64) -> Float64:
    """Mean gain of the ranks that a tie shares."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    mean: Float64 = (total[last] - total[first]) / (last - first)
    return mean
