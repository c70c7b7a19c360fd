"""Evaluators: a model and a data set's split in, metrics and one value per unit out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recrun.errors import DataError
from recrun.evaluation import metrics as M
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.top_k import top_k
from recrun.interfaces import ComputeDevice, Dataset
from recrun.types import Batch, Count, Counts, Evaluation, Split

MB = 2**20
BYTES_PER_SCORE = 8  # a float32 score, its relevance, and the room that top-k takes
MOST_USERS = 4096


class FullRanking:
    """Ranks the whole catalogue for every unit; items it has seen are left out, nothing is sampled.

    Ties go to the item with the lower index, so a result never depends on batch size or device.

    Args:
        metrics: Which metrics; `coverage` is the share of the catalogue that appears in anyone's first k.
        ks: Cut-offs.
        memory_mb: Memory for scores, in MiB; it decides how many units are scored at once.
    """

    ranks_catalogue: ClassVar[bool] = True  # `predict --k` says how many items

    def __init__(
        self,
        metrics: Sequence[
            Literal["recall", "calibrated_recall", "precision", "hit", "mrr", "map", "ndcg", "coverage"]
        ] = ("recall", "ndcg"),
        ks: Counts = (10, 100),
        memory_mb: Count = 64,
    ) -> None:
        self.per_unit = [name for name in metrics if name != "coverage"]
        self.coverage = "coverage" in metrics
        self.ks = sorted(ks)
        self.memory_mb = memory_mb

    def batch_size(self, n_items: int) -> int:
        """Units whose scores fit the memory budget."""
        return min(MOST_USERS, max(1, self.memory_mb * MB // (n_items * BYTES_PER_SCORE)))

    def names(self, dataset: Dataset) -> list[str]:
        """Every metric this evaluator computes, as "name@k"; the same on all data."""
        return [f"{name}@{k}" for name in [*self.per_unit, *["coverage"] * self.coverage] for k in self.ks]

    @torch.inference_mode()
    def __call__(
        self,
        model: nn.Module,
        dataset: Dataset,
        split: Split,
        device: ComputeDevice,
        limit: int | None = None,
    ) -> Evaluation:
        """Puts `model` in eval mode and judges it on a split, or on its first `limit` batches.

        Raises:
            DataError: The split has no unit to judge.
            RecrunError: A unit's scores are no numbers.
        """
        model.eval()
        n_items = dataset.sizes["n_items"]
        batches = islice(dataset.eval_batches(split, self.batch_size(n_items)), limit)
        parts: list[dict[str, Tensor]] = []
        numbers = NaNLast(f"the {split} part")
        shown_KI = torch.zeros(len(self.ks), n_items + 1, dtype=torch.bool)  # the last column is for "nothing left"
        for batch in map(device.move, batches):
            with device.autocast():
                hits_BK, top_BK, relevant_B = rank(model, batch, max(self.ks), numbers)
            parts.append(M.ranking(self.per_unit, self.ks, hits_BK, relevant_B))
            for at, k in enumerate(self.ks if self.coverage else ()):
                shown_KI[at, top_BK[:, :k].cpu()] = True
        numbers.warn()
        if not parts:
            raise DataError(f"the {split} part has no unit with a held-out item: there is nothing to evaluate")
        units = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        found = {name: float(values.mean()) for name, values in units.items()}
        for at, k in enumerate(self.ks if self.coverage else ()):
            found[f"coverage@{k}"] = int(shown_KI[at, :n_items].sum()) / n_items
        scored = sum(len(next(iter(part.values()))) for part in parts) if units else 0
        return Evaluation(found, dataset.units(split)[:scored], units)

    @torch.inference_mode()
    def predict(self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each of a user's best items, as many as the largest cut-off: user, item, rank, score."""
        model.eval()
        users, items, numbers = iter(dataset.units(split)), dataset.vocabulary()["items"], NaNLast(f"the {split} part")
        for batch in map(device.move, dataset.eval_batches(split, self.batch_size(len(items)))):
            with device.autocast():
                scores_BI = full_sort_scores(model, batch, numbers)
            top_BK = top_k(scores_BI, max(self.ks))
            for user, row, scores in zip(
                islice(users, len(top_BK)), top_BK.tolist(), scores_BI.gather(1, top_BK).tolist(), strict=True
            ):
                for place, (item, score) in enumerate(zip(row, scores, strict=True), 1):
                    if score > -math.inf:
                        yield f"{user}\t{items[item]}\t{place}\t{score:.7g}"
        numbers.warn()


def rank(model: nn.Module, batch: Batch, k: int, numbers: NaNLast) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks the catalogue for a batch; scores that are no numbers rank last.

    Returns:
        hits_BK: bool, whether the item at each of the first k ranks is one of the targets.
        top_BK: int64, the items themselves; -1 where only seen items are left.
        relevant_B: int64, the number of targets.
    """
    scores_BI = full_sort_scores(model, batch, numbers)
    top_BK = top_k(scores_BI, k)
    reachable_BK = scores_BI.gather(1, top_BK) > -torch.inf
    relevant_BI = torch.zeros_like(scores_BI, dtype=torch.bool)
    relevant_BI[rows(batch["target_offsets"]), batch["target"]] = True
    hits_BK = relevant_BI.gather(1, top_BK) & reachable_BK
    return hits_BK, top_BK.where(reachable_BK, -1), batch["target_offsets"].diff()


def full_sort_scores(model: nn.Module, batch: Batch, numbers: NaNLast) -> Tensor:
    """The model's scores of all items, float [B, I], with the items to leave out at -inf."""
    scores_BI = numbers(model(batch).float())
    scores_BI[rows(batch["seen_offsets"]), batch["seen"]] = -torch.inf
    return scores_BI


def rows(offsets: Tensor) -> Tensor:
    """The row that each flat value of a ragged field belongs to, int64 [N]."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
