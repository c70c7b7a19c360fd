"""What is minimised. A loss that only one model has lives beside that model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.features import Task
from recrun.types import Batch


class Objective(nn.Module, ABC):
    """Named losses of a model on a batch, and how gradients come from them.

    Learnable weights are parameters and counters are buffers, so that checkpoints hold them.

    Attributes:
        needs: Names of the model's members that the objective uses besides `forward`. A plain literal.
        excludes: Names of members of models that it is not for. A plain literal.
        demands: Values that other keys must have, one of those listed, for example {"dataset.num_negatives": (0,)};
            a key without a dot in front of a group's name is a trainer's. A plain literal.
        refuses: Values that other keys must not have, each with what to do instead. A plain literal.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    excludes: ClassVar[tuple[str, ...]] = ()
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {}
    refuses: ClassVar[dict[str, dict[Any, str]]] = {}

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; what is minimised is their sum."""

    def terms(self, batch: Batch) -> int:
        """How many terms the losses are means over: what a device's part of a batch counts among the others' parts.

        The queries of the batch if it has any, else its rows.
        """
        return len(batch["query"]) if "query" in batch else units_in(batch)

    def backward(self, losses: dict[str, Tensor], model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        """Adds the gradients to the parameters' `grad`.

        Args:
            losses: What `forward` returned.
            model: The model they came from.
            scale: Multiplies a loss for mixed precision; the identity otherwise.
        """
        scale(torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]


class Listwise(Objective):
    """Softmax over a click and the candidates shown or drawn with it.

    Reads `batch["label_mask"]`, bool [B, C], if there is one: False where a row has fewer candidates.
    """

    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "dataset.negatives": {"batch": "a target needs negatives of its own, dataset.negatives=query"},
        "dataset.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
        "dataset._target_": {
            "recrun.data.tables.table.Table": "a row has no others beside it, choose objective=pointwise"
        },
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"listwise": mean cross-entropy}; the model gives logits [B, C], the click first."""
        return {"listwise": listwise(model(batch), batch.get("label_mask"))}


class Pairwise(Objective):
    """BPR: a click above each candidate shown or drawn with it (Rendle et al. 2009).

    Reads `batch["label_mask"]` as `Listwise` does.
    """

    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "dataset.negatives": {"batch": "a target needs negatives of its own, dataset.negatives=query"},
        "dataset.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
        "dataset._target_": {
            "recrun.data.tables.table.Table": "a row has no others beside it, choose objective=pointwise"
        },
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """{"pairwise": mean of -log sigmoid(click - other)}; the model gives logits [B, C], the click first."""
        logits_BC = model(batch).float()
        loss_BC = F.softplus(logits_BC[:, 1:] - logits_BC[:, :1])
        return {"pairwise": masked_mean(loss_BC, _others(batch))}

    def terms(self, batch: Batch) -> int:
        """The other candidates, where rows differ in their number."""
        mask = _others(batch)
        return super().terms(batch) if mask is None else int(mask.sum())


class Pointwise(Objective):
    """Binary cross-entropy of every candidate or row by itself.

    Reads `batch["label"]`, of the logits' shape, and `batch["label_mask"]` if there is one. A model may have losses of
    its own: then its `with_losses(batch)` gives what `forward` gives and {name: loss}, and these are added.
    """

    excludes: ClassVar[tuple[str, ...]] = ("per_task",)
    refuses: ClassVar[dict[str, dict[Any, str]]] = {
        "dataset.negatives": {"batch": "a target needs negatives of its own, dataset.negatives=query"},
        "dataset.num_negatives": {0: "draw some, or choose objective=catalogue_softmax"},
    }

    def forward(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """{"pointwise": mean binary cross-entropy} and the model's own."""
        scored, own = model.with_losses(batch) if hasattr(model, "with_losses") else (model(batch), {})
        logits = scored.float()
        loss = F.binary_cross_entropy_with_logits(logits, batch["label"].to(logits.dtype), reduction="none")
        return {"pointwise": masked_mean(loss, batch.get("label_mask")), **own}

    def terms(self, batch: Batch) -> int:
        """The candidates, where rows differ in their number."""
        mask = batch.get("label_mask")
        return super().terms(batch) if mask is None else int(mask.sum())


class MultiTask(Objective):
    """One loss per task: binary cross-entropy of a classification, mean squared error of a regression.

    Attributes:
        per_task: Says that the losses are named after `model.tasks`, so that a weighting can balance them.
    """

    needs: ClassVar[tuple[str, ...]] = ("tasks", "per_task")
    per_task: ClassVar[bool] = True

    def forward(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """{task: mean loss}; `model.per_task(batch)` gives each task's logits or values, [B], the label is [B, T]."""
        return self.losses(model.tasks, model.per_task(batch), batch["label"])

    def losses(self, tasks: Sequence[Task], outputs: Sequence[Tensor], label_BT: Tensor) -> dict[str, Tensor]:
        """Each task has an output of its own, so that its gradient does not go through the others' towers."""
        found = {}
        for task, output_B, label_B in zip(tasks, outputs, label_BT.unbind(1), strict=True):
            fit = F.binary_cross_entropy_with_logits if task.kind == "classification" else F.mse_loss
            found[task.name] = fit(output_B.float(), label_B.float())
        return found


def units_in(batch: Batch) -> int:
    """The number of units in a batch."""
    name, value = next(iter(batch.items()))
    return len(value) - 1 if name.endswith("_offsets") else len(value)


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
