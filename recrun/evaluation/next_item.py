"""Next-item evaluation: after every event of a session the true next item is ranked among all items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from recrun.errors import DataError
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.top_k import top_k
from recrun.interfaces import ComputeDevice, Dataset
from recrun.types import Batch, Count, Counts, Evaluation, Metrics, Split

MB = 2**20
SESSIONS_AT_ONCE = 4096

Ties: TypeAlias = Literal["conservative", "standard", "median"]


class NextItem:
    """Ranks the whole catalogue after every event; nothing is sampled, what the session holds is not left out.

    The rank of a target is 1 + the number of better items, and of the T others that score the same: T if ties are
    `conservative`, 0 if `standard`, T / 2 if `median`. A score that is no number ranks last.

    Args:
        metrics: With cut-offs: recall (1 if the target is among the first k), mrr, ndcg, precision (recall / k).
            Without: bpr, the mean over the other items j of -log sigmoid(target - j), and warp, the sum of 1 / r over
            the ranks r better than the target's.
        ks: Cut-offs.
        ties: See above.
        memory_mb: Memory for scores, in MiB.
    """

    ranks_catalogue: ClassVar[bool] = True  # `predict --k` says how many items

    def __init__(
        self,
        metrics: Sequence[Literal["recall", "mrr", "ndcg", "precision", "bpr", "warp"]] = ("recall", "mrr"),
        ks: Counts = (5, 20),
        ties: Ties = "conservative",
        memory_mb: Count = 32,
    ) -> None:
        self.metrics, self.ks, self.ties, self.memory_mb = list(metrics), sorted(ks), ties, memory_mb

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
            DataError: The split has no event to predict.
            RecrunError: An event's scores are no numbers.
        """
        model.eval()
        numbers = NaNLast(f"the {split} part")
        found = [
            part
            for batch in islice(dataset.eval_batches(split, SESSIONS_AT_ONCE), limit)
            for part in self.blocks(model, device.move(batch), device, dataset.sizes["n_items"], numbers)
        ]
        numbers.warn()
        if not found:
            raise DataError(f"the {split} part has no event to predict: there is nothing to evaluate")
        rank, bpr = (np.concatenate(values) for values in zip(*found, strict=True))
        units = self.values(rank, bpr)
        means: Metrics = {name: float(values.mean()) for name, values in units.items()}
        return Evaluation(means, dataset.units(split)[: len(rank)], units)

    def names(self, dataset: Dataset) -> list[str]:
        """Every metric this evaluator computes; the same on all data."""
        return [*self.values(np.ones(1), np.ones(1))]

    def blocks(
        self, model: nn.Module, batch: Batch, device: ComputeDevice, n_items: int, numbers: NaNLast
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ranks and bpr losses of the judged events, some at a time under the memory budget."""
        with device.autocast():
            hidden_ND = model.encode(batch)  # type: ignore[operator]
        hidden_ND, target_N = hidden_ND[batch["judged"]], batch["target"][batch["judged"]]
        size = max(1, self.memory_mb * MB // (4 * n_items))
        for at in range(0, len(target_N), size):
            scores_BI = numbers(model.score(hidden_ND[at : at + size].float()))  # type: ignore[operator]  # 16 bits tie
            target_B1 = target_N[at : at + size, None]
            rank_B = ranks(scores_BI, target_B1, self.ties).cpu().numpy()
            yield rank_B, bpr(scores_BI, target_B1).cpu().numpy() if "bpr" in self.metrics else rank_B

    @torch.inference_mode()
    def predict(self, model: nn.Module, dataset: Dataset, split: Split, device: ComputeDevice) -> Iterator[str]:
        """A line for each of a session's best next items, up to the largest cut-off: session, item, rank, score."""
        model.eval()
        items, numbers = dataset.vocabulary()["items"], NaNLast(f"the {split} part")
        size = max(1, self.memory_mb * MB // (4 * len(items)))
        for names, batch in dataset.entities("user", split):
            with device.autocast():
                hidden_BD = model.embed_users(device.move(batch))  # type: ignore[operator]
            for at in range(0, len(names), size):
                scores_BI = numbers(model.score(hidden_BD[at : at + size].float()))  # type: ignore[operator]
                top_BK = top_k(scores_BI, max(self.ks))
                found = zip(names[at : at + size], top_BK.tolist(), scores_BI.gather(1, top_BK).tolist(), strict=True)
                for name, row, scores in found:
                    for place, (item, score) in enumerate(zip(row, scores, strict=True), 1):
                        yield f"{name}\t{items[item]}\t{place}\t{score:.7g}"
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
                found |= {f"{name}@{k}": np.where(rank <= k, gain(name, rank, k), 0.0) for k in self.ks}
        return found


def gain(metric: str, rank: np.ndarray, k: int) -> Any:
    """What a target at a rank within the first k adds to a metric."""
    match metric:
        case "mrr":
            return 1 / rank
        case "ndcg":
            return 1 / np.log2(rank + 1)
        case "precision":
            return 1 / k
    return 1.0


def ranks(scores_BI: Tensor, target_B1: Tensor, ties: Ties) -> Tensor:
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
