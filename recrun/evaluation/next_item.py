"""Next-item evaluation: for every held-out event the true item is ranked among all items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from recrun.capabilities import SequenceEncoder
from recrun.data.events.queries import NextItems
from recrun.errors import DataError
from recrun.evaluation.event_data import EventData, sampled
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.full_ranking import best_items, lines, ragged_fields, row_of, scorer
from recrun.evaluation.metrics import Metric, greater_is_better
from recrun.evaluation.profile import UnitProfile
from recrun.interfaces import ComputeDevice
from recrun.types import Count, Counts, Evaluation, Metrics, Split

MB = 2**20
SEQUENCES_AT_ONCE = 4096

Ties: TypeAlias = Literal["conservative", "standard", "median"]
Scored: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, ranks and bpr losses of some events


class NextItem:
    """Ranks the whole catalogue for every held-out event, given what precedes it; nothing is sampled.

    The rank of a target is 1 + the number of better items, and of the T others that score the same: T if ties are
    `conservative`, 0 if `standard`, T / 2 if `median`. A NaN score ranks last.

    Args:
        metrics: With cut-offs: recall (1 if the target is among the first k), mrr, ndcg, precision (recall / k).
            Without: bpr, the mean over the other items j of -log sigmoid(target - j), and warp, the sum of 1 / r over
            the ranks r better than the target's.
        ks: Cut-offs.
        monitor: The metric that early stopping watches by default.
        ties: What others of the same score count in the rank of the target, see above.
        mask_seen: Whether rankings leave out the items of the input. Events whose target is among them are left out.
        valid_sample: Sequences that validation uses, drawn once; None = all.
        own_metrics: Metrics of one's own by name; their function gets the ranks, float64 [U], and a cut-off.
        memory_mb: Memory for scores, in MiB.
    """

    kind: ClassVar[str] = "events"
    ranks_catalogue: ClassVar[bool] = True  # `predict --k` says how many items

    def __init__(
        self,
        metrics: Sequence[Literal["recall", "mrr", "ndcg", "precision", "bpr", "warp"]] = ("recall", "mrr"),
        ks: Counts = (5, 20),
        monitor: str = "recall@20",
        ties: Ties = "conservative",
        mask_seen: bool = False,
        valid_sample: Count | None = None,
        own_metrics: Mapping[str, Metric] | None = None,
        memory_mb: Count = 32,
    ) -> None:
        self.metrics, self.ks, self.monitor, self.ties = list(metrics), sorted(ks), monitor, ties
        self.mask_seen, self.valid_sample, self.memory_mb = mask_seen, valid_sample, memory_mb
        self.own = dict(own_metrics or {})

    def names(self, dataset: EventData) -> list[str]:
        """Every metric this evaluator computes; the same on all data."""
        return [*self.values(np.ones(1), np.ones(1))]

    def greater_is_better(self, name: str) -> bool:
        """The direction of a metric."""
        return greater_is_better(name, self.own)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, dataset: EventData, split: Split, device: ComputeDevice, limit: int | None = None
    ) -> Evaluation:
        """Puts `model` in eval mode and evaluates it on a split, or on its first `limit` batches.

        Raises:
            DataError: The split has no event to predict.
            RecrunError: All scores of an event are NaN.
        """
        model.eval()
        numbers, events = NaNLast(f"the {split} split"), dataset.next_items(split)
        if split == "valid" and self.valid_sample is not None:
            events = events.take_rows(sampled(len(events.unit), self.valid_sample))
        starts = range(0, len(events.unit), SEQUENCES_AT_ONCE)[:limit]
        found = [
            scored
            for at in starts
            for scored in self.scored(model, dataset, events.rows(at, at + SEQUENCES_AT_ONCE), device, numbers)
        ]
        numbers.warn()
        if not sum(len(ids) for ids, _, _ in found):
            raise DataError(f"the {split} split has no event to predict: there is nothing to evaluate")
        ids, rank, bpr = (np.concatenate(values) for values in zip(*found, strict=True))
        units = self.values(rank, bpr)
        means: Metrics = {name: float(values.mean()) for name, values in units.items()}
        return Evaluation(means, ids, units)

    def profile(self, dataset: EventData, split: Split) -> UnitProfile:
        """How many events precede those of a split, and how popular their items are."""
        events = dataset.next_items(split)
        return UnitProfile(events.ids, events.length, dataset.item_counts()[events.target].astype(np.float64))

    def scored(
        self, model: nn.Module, dataset: EventData, events: NextItems, device: ComputeDevice, numbers: NaNLast
    ) -> Iterator[Scored]:
        """Ids, ranks and bpr losses of events, some at a time under the memory budget."""
        size = max(1, self.memory_mb * MB // (4 * dataset.sizes["n_items"]))
        score = self.scores(model, dataset, events, device)
        for begin in range(0, len(events), size):
            end = min(begin + size, len(events))
            scores_BI = numbers(score(begin, end))
            target_B1 = device.move({"target": torch.from_numpy(events.target[begin:end])})["target"][:, None]
            ids = events.ids[begin:end]
            if self.mask_seen:
                scores_BI, target_B1, kept = self.without_seen(scores_BI, target_B1, events, begin, end)
                ids = ids[kept]
            rank_B = target_ranks(scores_BI, target_B1, self.ties).cpu().numpy()
            yield ids, rank_B, bpr(scores_BI, target_B1).cpu().numpy() if "bpr" in self.metrics else rank_B

    def scores(
        self, model: nn.Module, dataset: EventData, events: NextItems, device: ComputeDevice
    ) -> Callable[[int, int], Tensor]:
        """Scores of all items for the events from one to another, float32 [B, I].

        A model that encodes sequences reads each of them once; another one reads a beginning of it for each event.
        """
        if not getattr(model, "encodes_sequences", False):

            def of_prefixes(begin: int, end: int) -> Tensor:
                batch = dataset.inputs(events.prefixes(begin, end), events.unit[events.row[begin:end]])
                with device.autocast():
                    found: Tensor = model(device.move(batch))
                return found.float()

            return of_prefixes
        encoder = cast(SequenceEncoder, model)
        batch = device.move(dataset.inputs(events.sequences, events.unit))
        with device.autocast():
            hidden_ND = encoder.encode_sequences(batch)
        last = torch.from_numpy(events.sequences.offsets[events.row] + events.length - 1).to(hidden_ND.device)

        def of_states(begin: int, end: int) -> Tensor:
            return encoder.score(hidden_ND[last[begin:end]].float())

        return of_states

    def without_seen(
        self, scores_BI: Tensor, target_B1: Tensor, events: NextItems, begin: int, end: int
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        """Scores with each input's items at -inf, of events whose target is not among them; which events those are."""
        prefixes = ragged_fields("seen", events.prefixes(begin, end))
        rows, items = row_of(prefixes["seen_offsets"]).to(scores_BI.device), prefixes["seen"].to(scores_BI.device)
        scores_BI[rows, items] = -torch.inf
        kept_B = scores_BI.gather(1, target_B1)[:, 0] > -torch.inf
        return scores_BI[kept_B], target_B1[kept_B], kept_B.cpu().numpy()

    @torch.no_grad()
    def predict(self, model: nn.Module, dataset: EventData, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each of a unit's best next items, up to the largest cut-off: unit, item, rank, score."""
        model.eval()
        items = dataset.vocabulary()["items"]
        size = max(1, self.memory_mb * MB // (4 * len(items)))
        numbers = NaNLast(f"the {split} split")
        score = scorer(model, dataset, device, numbers, self.mask_seen)
        for ids, top_BK, scores_BK in best_items(score, dataset.whole_inputs(split), max(self.ks), size):
            yield from lines(ids, items, top_BK, scores_BK)
        numbers.warn()

    def values(self, rank: np.ndarray, bpr: np.ndarray) -> dict[str, np.ndarray]:
        """One value per event for every metric, float64."""
        found: dict[str, np.ndarray] = {}
        for name in self.metrics:
            if name == "bpr":
                found[name] = bpr
            elif name == "warp":
                found[name] = harmonic(rank - 1)
            else:
                found |= {f"{name}@{k}": np.where(rank <= k, rank_gain(name, rank, k), 0.0) for k in self.ks}
        for own, metric in self.own.items():
            function: Any = metric.function
            found |= {f"{own}@{k}": np.asarray(function(rank, k), np.float64) for k in self.ks}
        return found


def rank_gain(metric: str, rank: np.ndarray, k: int) -> Any:
    """What a target at a rank within the first k adds to a metric."""
    match metric:
        case "mrr":
            return 1 / rank
        case "ndcg":
            return 1 / np.log2(rank + 1)
        case "precision":
            return 1 / k
    return 1.0


def target_ranks(scores_BI: Tensor, target_B1: Tensor, ties: Ties) -> Tensor:
    """Ranks of the targets, from 1, float64 [B]."""
    own, n_items = scores_BI.gather(1, target_B1), scores_BI.shape[1]
    if ties == "conservative":
        return (n_items - count(scores_BI < own)).double()
    least = (n_items + 1 - count(scores_BI <= own)).clamp_(max=n_items).double()
    return least if ties == "standard" else (least + n_items - count(scores_BI < own)) / 2


def count(mask_BI: Tensor) -> Tensor:
    """How many are true in each row, int64 [B]."""
    if mask_BI.device.type == "cpu":  # NumPy counts bytes with vector instructions
        return torch.from_numpy(np.count_nonzero(mask_BI.numpy(), axis=1))
    return mask_BI.sum(1)


def bpr(scores_BI: Tensor, target_B1: Tensor) -> Tensor:
    """Mean over the other items j of -log sigmoid(target - j), float64 [B]."""
    behind = scores_BI - scores_BI.gather(1, target_B1)
    total = torch.nn.functional.softplus(behind).sum(1, dtype=torch.float64).sub_(math.log(2))
    return total.div_(max(1, scores_BI.shape[1] - 1))


def harmonic(n: np.ndarray) -> np.ndarray:
    """1 + 1/2 + ... + 1/n, 0 for n < 1; between whole numbers that of the lower one."""
    whole = np.maximum(n, 0).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, whole.max(initial=0) + 1))])
    return np.asarray(sums[whole])
