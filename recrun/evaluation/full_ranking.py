"""Full ranking: the whole catalogue is ranked once for each unit, and its held-out items are looked for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recrun.data.events.queries import Inputs, Rankings
from recrun.data.ragged import Ragged
from recrun.errors import DataError
from recrun.evaluation import metrics as M
from recrun.evaluation.event_data import EventData, sampled
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.profile import UnitProfile
from recrun.evaluation.top_k import top_k
from recrun.interfaces import ComputeDevice
from recrun.types import Batch, Count, Counts, Evaluation, Split

MB = 2**20
BYTES_PER_SCORE = 8  # a float32 score, its relevance, and the room that top-k takes
MOST_UNITS = 4096

logger = logging.getLogger(__name__)


class FullRanking:
    """Ranks the whole catalogue for every unit; nothing is sampled.

    Ties go to the item with the lower index, so a result never depends on batch size or device.

    Args:
        metrics: Which metrics; `coverage` is the share of the catalogue that appears in anyone's first k.
        ks: Cut-offs.
        monitor: The metric that early stopping watches by default.
        mask_seen: Whether rankings leave out what the unit's input holds and, for test, its validation items. Targets
            that are among them are left out too, and counted.
        valid_sample: Units that validation uses, drawn once; None = all.
        own_metrics: Metrics of one's own by name, see `recrun.evaluation.metrics.Metric`.
        memory_mb: Memory for scores, in MiB; it decides how many units are scored at once.
    """

    kind: ClassVar[str] = "events"
    ranks_catalogue: ClassVar[bool] = True  # `predict --k` says how many items

    def __init__(
        self,
        metrics: Sequence[
            Literal["recall", "calibrated_recall", "precision", "hit", "mrr", "map", "ndcg", "coverage"]
        ] = ("recall", "ndcg"),
        ks: Counts = (10, 100),
        monitor: str = "ndcg@100",
        mask_seen: bool = True,
        valid_sample: Count | None = None,
        own_metrics: Mapping[str, M.Metric] | None = None,
        memory_mb: Count = 64,
    ) -> None:
        self.per_unit = [name for name in metrics if name != "coverage"]
        self.coverage = "coverage" in metrics
        self.ks, self.monitor, self.mask_seen, self.valid_sample = sorted(ks), monitor, mask_seen, valid_sample
        self.own = dict(own_metrics or {})
        self.memory_mb = memory_mb

    def batch_size(self, n_items: int) -> int:
        """Units whose scores fit the memory budget."""
        return min(MOST_UNITS, max(1, self.memory_mb * MB // (n_items * BYTES_PER_SCORE)))

    def names(self, dataset: EventData) -> list[str]:
        """Every metric this evaluator computes, as "name@k"; the same on all data."""
        stems = [*self.per_unit, *["coverage"] * self.coverage, *self.own]
        return [f"{name}@{k}" for name in stems for k in self.ks]

    def greater_is_better(self, name: str) -> bool:
        """The direction of a metric."""
        return M.greater_is_better(name, self.own)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, dataset: EventData, split: Split, device: ComputeDevice, limit: int | None = None
    ) -> Evaluation:
        """Puts `model` in eval mode and evaluates it on a split, or on its first `limit` batches.

        Raises:
            DataError: The split has no unit to evaluate.
            RecrunError: All scores of a unit are NaN.
        """
        model.eval()
        n_items, units = dataset.sizes["n_items"], self.units(dataset, split)
        size, found = self.batch_size(n_items), RankingAccumulator(self, n_items, self.item_counts(dataset))
        numbers = NaNLast(f"the {split} split")
        for at in islice(range(0, len(units), size), limit):
            some = units.take(np.arange(at, min(at + size, len(units))))
            batch = device.move({**dataset.inputs(some.inputs, some.unit), **fields(some)})
            with device.autocast():
                found.add(rank(model, batch, max(self.ks), numbers, self.mask_seen))
        numbers.warn()
        return found.evaluation(units.ids)

    def units(self, dataset: EventData, split: Split) -> Rankings:
        """What is evaluated.

        Raises:
            DataError: Nothing is.
        """
        units = dataset.rankings(split)
        if self.mask_seen:
            units, left_out = units.without_seen_targets
            if left_out:
                logger.info("%d targets of the %s split are left out: their units have seen them", left_out, split)
        if not len(units):
            raise DataError(
                f"the {split} split has no unit with a held-out item to rank: there is nothing to evaluate"
                + ("; evaluator.mask_seen=false ranks items that were seen before" if len(dataset.units(split)) else "")
            )
        return units.take(sampled(len(units), self.valid_sample)) if split == "valid" and self.valid_sample else units

    def profile(self, dataset: EventData, split: Split) -> UnitProfile:
        """How active the units of a split are, and how popular their targets."""
        units = self.units(dataset, split)
        counts = dataset.item_counts()[units.targets.items]
        sums = np.bincount(units.targets.rows(), counts, minlength=len(units))
        return UnitProfile(units.ids, units.inputs.lengths(), sums / units.targets.lengths())

    def item_counts(self, dataset: EventData) -> Tensor:
        """Training events of each item, where a metric of one's own may ask."""
        return torch.from_numpy(dataset.item_counts()) if self.own else torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def predict(self, model: nn.Module, dataset: EventData, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each of a unit's best items, as many as the largest cut-off: unit, item, rank, score."""
        model.eval()
        items = dataset.vocabulary()["items"]
        numbers = NaNLast(f"the {split} split")
        score = scorer(model, dataset, device, numbers, self.mask_seen)
        units, size = dataset.prediction_inputs(split), self.batch_size(len(items))
        for ids, top_BK, scores_BK in best_items(score, units, max(self.ks), size):
            yield from lines(ids, items, top_BK, scores_BK)
        numbers.warn()


class RankingAccumulator:
    """Collects what an evaluation finds, batch by batch."""

    def __init__(self, keys: FullRanking, n_items: int, item_counts_I: Tensor) -> None:
        self.keys, self.n_items, self.item_counts_I = keys, n_items, item_counts_I
        self.parts: list[dict[str, Tensor]] = []
        self.rankings: list[M.Ranking] = []  # for metrics over the catalogue
        self.shown_KI = torch.zeros(len(keys.ks), n_items + 1, dtype=torch.bool)  # the last column: nothing left
        self.count = 0

    def add(self, ranked: tuple[Tensor, Tensor, Tensor]) -> None:
        """Takes the rankings of a batch, see `rank`."""
        hits_BK, top_BK, relevant_B = ranked
        values = M.ranking(self.keys.per_unit, self.keys.ks, hits_BK, relevant_B)
        if self.keys.own:
            ranking = M.Ranking(hits_BK.cpu(), top_BK.cpu(), relevant_B.cpu(), self.item_counts_I)
            values |= self.own(ranking)
            if any(metric.over == "catalogue" for metric in self.keys.own.values()):
                self.rankings.append(ranking)
        self.parts.append(values)
        self.count += len(relevant_B)
        for at, k in enumerate(self.keys.ks if self.keys.coverage else ()):
            self.shown_KI[at, top_BK[:, :k].cpu()] = True

    def own(self, ranking: M.Ranking) -> dict[str, Tensor]:
        """Metrics of one's own that have a value per unit."""
        metrics = {name: metric for name, metric in self.keys.own.items() if metric.over == "units"}
        return {
            f"{name}@{k}": torch.as_tensor(metric.function(ranking, k)).double()
            for name, metric in metrics.items()
            for k in self.keys.ks
        }

    def over_catalogue(self) -> dict[str, float]:
        """Metrics that have one value for all units."""
        found = {}
        for at, k in enumerate(self.keys.ks if self.keys.coverage else ()):
            found[f"coverage@{k}"] = int(self.shown_KI[at, : self.n_items].sum()) / self.n_items
        if self.rankings:
            hits_UK, top_UK, relevant_U = map(torch.cat, zip(*map(tensors_of, self.rankings), strict=True))
            ranking = M.Ranking(hits_UK, top_UK, relevant_U, self.item_counts_I)
            for name, metric in self.keys.own.items():
                if metric.over == "catalogue":
                    found |= {f"{name}@{k}": float(metric.function(ranking, k)) for k in self.keys.ks}
        return found

    def evaluation(self, ids: np.ndarray) -> Evaluation:
        """Means over the units, and one value per unit."""
        units = {name: torch.cat([part[name] for part in self.parts]).cpu().numpy() for name in self.parts[0]}
        means = {name: float(values.mean()) for name, values in units.items()}
        return Evaluation({**means, **self.over_catalogue()}, ids[: self.count], units)


def tensors_of(ranking: M.Ranking) -> tuple[Tensor, Tensor, Tensor]:
    """What differs from batch to batch."""
    return ranking.hits_BK, ranking.top_BK, ranking.relevant_B


def fields(units: Rankings) -> Batch:
    """`seen` and `target`, ragged, int64."""
    return {**ragged_fields("seen", units.seen), **ragged_fields("target", units.targets)}


def ragged_fields(name: str, rows: Ragged) -> Batch:
    """A ragged field of a batch."""
    return {
        name: torch.from_numpy(rows.items.astype(np.int64)),
        f"{name}_offsets": torch.from_numpy(rows.offsets),
    }


def rank(
    model: nn.Module, batch: Batch, k: int, numbers: NaNLast, mask_seen: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks the catalogue for a batch; NaN scores rank last.

    Returns:
        hits_BK: bool, whether the item at each of the first k ranks is one of the targets.
        top_BK: int64, the items themselves; -1 where only seen items are left.
        relevant_B: int64, the number of targets.
    """
    scores_BI = full_sort_scores(model, batch, numbers, mask_seen)
    top_BK = top_k(scores_BI, k)
    reachable_BK = scores_BI.gather(1, top_BK) > -torch.inf
    relevant_BI = torch.zeros_like(scores_BI, dtype=torch.bool)
    relevant_BI[row_of(batch["target_offsets"]), batch["target"]] = True
    hits_BK = relevant_BI.gather(1, top_BK) & reachable_BK
    return hits_BK, top_BK.where(reachable_BK, -1), batch["target_offsets"].diff()


def full_sort_scores(model: nn.Module, batch: Batch, numbers: NaNLast, mask_seen: bool = True) -> Tensor:
    """The model's scores of all items, float [B, I], with the items to leave out at -inf."""
    scores_BI = numbers(model(batch).float())
    if mask_seen:
        scores_BI[row_of(batch["seen_offsets"]), batch["seen"]] = -torch.inf
    return scores_BI


def scorer(
    model: nn.Module, dataset: EventData, device: ComputeDevice, numbers: NaNLast, mask_seen: bool = True
) -> Callable[[Inputs], Tensor]:
    """What scores the catalogue for some units, float [B, I]; see `full_sort_scores`."""

    def score(units: Inputs) -> Tensor:
        batch = {**dataset.inputs(units.inputs, units.unit), **ragged_fields("seen", units.seen)}
        with device.autocast():
            return full_sort_scores(model, device.move(batch), numbers, mask_seen)

    return score


def best_items(
    score: Callable[[Inputs], Tensor], units: Inputs, k: int, batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """The best items of units, some units at a time: their ids [B], items int64 [B, K] and scores [B, K].

    A score of -inf means that nothing is left to recommend.
    """
    for at in range(0, len(units), batch_size):
        some = units.take(np.arange(at, min(at + batch_size, len(units))))
        scores_BI = score(some)
        top_BK = top_k(scores_BI, k)
        yield some.ids, top_BK, scores_BI.gather(1, top_BK)


def row_of(offsets: Tensor) -> Tensor:
    """The row that each flat value of a ragged field belongs to, int64 [N]."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def lines(ids: np.ndarray, items: np.ndarray, top_BK: Tensor, scores_BK: Tensor) -> Iterator[str]:
    """A line for each ranked item: unit, item, rank and score; those left out are not listed."""
    for name, row, scores in zip(ids.tolist(), top_BK.tolist(), scores_BK.tolist(), strict=True):
        for position, (item, score) in enumerate(zip(row, scores, strict=True), 1):
            if score > -math.inf:
                yield f"{name}\t{items[item]}\t{position}\t{score:.7g}"
