"""Ranking metrics: pure functions of tensors, one value per unit (user, session or impression).

All take the same three arguments and return float64 [B]:
    hits_BK: bool [B, K]; entry r says whether the item at rank r + 1 is relevant.
    relevant_B: int64 [B]; how many relevant items the unit has in all, at least 1.
    k: The cut-off.
A ranking shorter than the cut-off (a small catalogue) simply has no further hits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recrun.types import lower_is_better


@dataclass(frozen=True)
class Ranking:
    """The first items of the rankings of B units: what metrics of one's own are computed from.

    Attributes:
        hits_BK: bool, whether the item at each rank is one of the unit's targets.
        top_BK: int64, the items themselves; -1 where only items that are left out remain.
        relevant_B: int64, the number of targets.
        item_counts_I: int64, training events of each item of the catalogue.
    """

    hits_BK: Tensor
    top_BK: Tensor
    relevant_B: Tensor
    item_counts_I: Tensor

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.item_counts_I)


@dataclass(frozen=True)
class Metric:
    """A metric of one's own, in YAML {_target_: recrun.evaluation.metrics.Metric, function: ..., ...}.

    Attributes:
        function: Given a `Ranking` and a cut-off k, one value per unit, [B]; with over="catalogue", given the rankings
            of all units, one number.
        greater_is_better: Its direction, for early stopping and the best weights.
        over: Whether it has a value per unit, or only one for all.
    """

    function: Callable[[Ranking, int], Any]
    greater_is_better: bool = True
    over: Literal["units", "catalogue"] = "units"


def discounts(k: int, device: torch.device | None = None) -> Tensor:
    """1 / log2(rank + 1) for the ranks 1 to k, float64 [k]."""
    return 1 / torch.arange(2, k + 2, device=device, dtype=torch.float64).log2()


def recall(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Share of the relevant items that are among the first k."""
    return hits_BK[:, :k].sum(1).double() / relevant_B


def calibrated_recall(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Recall over what k ranks can hold, min(k, relevant): Liang et al. 2018 call this Recall@k."""
    return hits_BK[:, :k].sum(1).double() / relevant_B.clamp(max=k)


def precision(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Share of the first k ranks that hold a relevant item."""
    return hits_BK[:, :k].sum(1).double() / k


def hit(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """1 where at least one relevant item is among the first k."""
    return hits_BK[:, :k].any(1).double()


def mrr(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """1 / rank of the first relevant item, 0 where none is among the first k."""
    ranks_K = torch.arange(1, hits_BK[:, :k].shape[1] + 1, device=hits_BK.device)
    return (hits_BK[:, :k].double() / ranks_K).amax(1)


def average_precision(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Mean of precision@r over the ranks r <= k that hold a relevant item, over min(k, relevant)."""
    first_BK = hits_BK[:, :k].double()
    ranks_K = torch.arange(1, first_BK.shape[1] + 1, device=hits_BK.device)
    return (first_BK * first_BK.cumsum(1) / ranks_K).sum(1) / relevant_B.clamp(max=k)


def ndcg(hits_BK: Tensor, relevant_B: Tensor, k: int) -> Tensor:
    """Binary NDCG@k with discount 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002)."""
    weights_K = discounts(k, hits_BK.device)
    ideal_K = weights_K.cumsum(0)
    gained_B = hits_BK[:, :k].double() @ weights_K[: hits_BK[:, :k].shape[1]]
    return gained_B / ideal_K[relevant_B.clamp(max=k) - 1]


RANKING: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "recall": recall,
    "calibrated_recall": calibrated_recall,
    "precision": precision,
    "hit": hit,
    "mrr": mrr,
    "map": average_precision,
    "ndcg": ndcg,
}


def ranking(names: Sequence[str], ks: Sequence[int], hits_BK: Tensor, relevant_B: Tensor) -> dict[str, Tensor]:
    """The named metrics at every cut-off as {"name@k": float64 [B]}."""
    return {f"{name}@{k}": RANKING[name](hits_BK, relevant_B, k) for name in names for k in ks}


def greater_is_better(name: str, own: Mapping[str, Metric] | None = None) -> bool:
    """Whether a greater value of a metric ("ndcg@10", "income/rmse") means a better model.

    Args:
        name: Of the metric, with its cut-off.
        own: Metrics of one's own, which say it themselves, by name without a cut-off.
    """
    stem = name.partition("@")[0]
    if own and stem in own:
        return own[stem].greater_is_better
    return not lower_is_better(name)
