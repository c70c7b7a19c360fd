"""What is minimised. A loss that only one model has lives beside that model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recrun.types import Batch


class Objective(nn.Module, ABC):
    """Named losses of a model on a batch, and how gradients come from them.

    Learnable weights are parameters and counters are buffers, so that checkpoints hold them.

    Attributes:
        needs: Names of the model's members that the objective uses besides `forward`. A plain literal.
        excludes: Names of members of models that it is not for. A plain literal.
        demands: Values that other keys must have, one of those listed, for example {"loader.num_negatives": (0,)};
            a key without a dot in front of a group's name is a trainer's. A plain literal.
        refuses: Values that other keys must not have, each with what to do instead. A plain literal.
        needs_candidates: Whether it compares a row's candidates; loaders and data sets say `has_candidates`.
        whole_terms: `terms` of the whole batch, of which several devices have a part each; set before every step of a
            training. A loss that is no mean over terms, a penalty divided by them, needs it. None outside one.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    excludes: ClassVar[tuple[str, ...]] = ()
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {}
    refuses: ClassVar[dict[str, dict[Any, str]]] = {}
    needs_candidates: ClassVar[bool] = False
    whole_terms: int | None = None

    @abstractmethod
    def forward(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; what is minimised is their sum.

        Args:
            model: Each objective says which of recrun.capabilities it needs.
            batch: On the model's device.
        """

    def terms(self, batch: Batch) -> int:
        """How many terms the losses are means over: what a device's share of a batch counts among those of the others.

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


def units_in(batch: Batch) -> int:
    """The number of units in a batch."""
    name, value = next(iter(batch.items()))
    return len(value) - 1 if name.endswith("_offsets") else len(value)
