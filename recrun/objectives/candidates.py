"""A right candidate against those shown or drawn with it, or each candidate by itself."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.capabilities import OwnLosses, Retriever
from recrun.objectives.base import Objective
from recrun.types import Batch, Share


class Listwise(Objective):
    """Softmax over a click and the candidates shown or drawn with it.

    Reads `batch["label_mask"]`, bool [B, C], if there is one: False where a row has fewer candidates. A model may have
    losses of its own, see `scores_and_losses`.
    """

    needs_candidates: ClassVar[bool] = True
    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "loader.negatives": {"batch": "a target needs negatives of its own, loader.negatives=query"},
        "loader.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"listwise": mean cross-entropy}; the model gives logits [B, C], the click first."""
        logits_BC, own = scores_and_losses(model, batch)
        return {"listwise": listwise(logits_BC, batch.get("label_mask")), **own}


class Pairwise(Objective):
    """BPR: a click above each candidate shown or drawn with it (Rendle et al. 2009).

    Reads `batch["label_mask"]` and takes the model's own losses as `Listwise` does.
    """

    needs_candidates: ClassVar[bool] = True
    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "loader.negatives": {"batch": "a target needs negatives of its own, loader.negatives=query"},
        "loader.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"pairwise": mean of -log sigmoid(click - other)}; the model gives logits [B, C], the click first."""
        logits_BC, own = scores_and_losses(model, batch)
        logits_BC = logits_BC.float()
        loss_BC = F.softplus(logits_BC[:, 1:] - logits_BC[:, :1])
        return {"pairwise": masked_mean(loss_BC, _others(batch)), **own}

    def terms(self, batch: Batch) -> int:
        """The other candidates, where rows differ in their number."""
        mask = _others(batch)
        return super().terms(batch) if mask is None else int(mask.sum())


class Pointwise(Objective):
    """Binary cross-entropy of every candidate or row by itself.

    Reads `batch["label"]`, of the logits' shape, and `batch["label_mask"]` if there is one. A model may have losses of
    its own, see `scores_and_losses`.
    """

    excludes: ClassVar[tuple[str, ...]] = ("per_task",)
    needs_labels: ClassVar[bool] = True
    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "loader.negatives": {"batch": "a target needs negatives of its own, loader.negatives=query"},
        "loader.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"pointwise": mean binary cross-entropy} and the model's own."""
        scored, own = scores_and_losses(model, batch)
        logits = scored.float()
        loss = F.binary_cross_entropy_with_logits(logits, batch["label"].to(logits.dtype), reduction="none")
        return {"pointwise": masked_mean(loss, batch.get("label_mask")), **own}

    def terms(self, batch: Batch) -> int:
        """The candidates, where rows differ in their number."""
        mask = batch.get("label_mask")
        return super().terms(batch) if mask is None else int(mask.sum())


class GBCE(Objective):
    """Generalised binary cross-entropy: the right candidate's probability is raised to a power below 1.

    With k drawn candidates j of n_items - 1 others, each as likely, and a = k / (n_items - 1),

        -(b log sigmoid(s) + sum_j log(1 - sigmoid(s_j))) / (k + 1),    b = a (t (1 - 1 / a) + 1 / a) = 1 - t (1 - a)

    Sampling makes a binary cross-entropy overrate what is right: b = a undoes that.
    Petrov, Macdonald: gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling,
    RecSys 2023.

    Args:
        calibration: t: 0 = binary cross-entropy, 1 = sigmoid(s) is the probability of the item.
    """

    needs: ClassVar[tuple[str, ...]] = ("n_items",)
    needs_candidates: ClassVar[bool] = True
    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "loader.negatives": {"batch": "a target needs negatives of its own, loader.negatives=query"},
        "loader.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
        "loader.sampler": {
            "popularity": "its calibration supposes loader.sampler=uniform",
            "log": "its calibration supposes loader.sampler=uniform",
        },
    }

    def __init__(self, calibration: Share = 0.75) -> None:
        super().__init__()
        self.calibration = calibration

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"gbce": mean over the rows} and the model's own; the model gives logits [B, 1 + k], the right one first."""
        scored, own = scores_and_losses(model, batch)
        logits_BC = scored.float()
        share = (logits_BC.shape[1] - 1) / (cast(Retriever, model).n_items - 1)
        power = 1 - self.calibration * (1 - share)
        right_B, others_BK = power * F.softplus(-logits_BC[:, 0]), F.softplus(logits_BC[:, 1:])
        return {"gbce": (right_B + others_BK.sum(1)).mean() / logits_BC.shape[1], **own}


def scores_and_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """What `forward` gives, and the losses of its own that a model with a method `with_losses` adds: {name: loss}."""
    return cast(OwnLosses, model).with_losses(batch) if hasattr(model, "with_losses") else (model(batch), {})


def listwise(logits_BC: Tensor, mask_BC: Tensor | None) -> Tensor:
    """Mean over rows of the cross-entropy of a softmax whose first entry is the right one."""
    logits_BC = logits_BC.float()
    if mask_BC is not None:
        logits_BC = logits_BC.masked_fill(~mask_BC, -torch.inf)
    return (logits_BC.logsumexp(1) - logits_BC[:, 0]).mean()


def masked_mean(loss: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of what the mask lets through; of everything without one."""
    return loss.mean() if mask is None else loss.where(mask, 0).sum() / mask.sum()


def _others(batch: Batch) -> Tensor | None:
    mask_BC = batch.get("label_mask")
    return None if mask_BC is None else mask_BC[:, 1:]
