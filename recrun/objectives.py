"""What is minimised. A loss that only one model has lives beside that model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recrun.types import Batch


class Objective(nn.Module):
    """Named losses of a model on a batch, and how gradients come from them.

    Learnable weights are parameters and counters are buffers, so that checkpoints hold them.

    Attributes:
        needs: Names of the model's members that the objective uses besides `forward`. A plain literal.
        demands: Values that other keys must have, one of those listed, for example {"dataset.num_negatives": (0,)};
            a key without a dot in front of a group's name is a trainer's. A plain literal.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; what is minimised is their sum."""
        raise NotImplementedError

    def backward(self, losses: dict[str, Tensor], model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        """Adds the gradients to the parameters' `grad`.

        Args:
            losses: What `forward` returned.
            model: The model they came from.
            scale: Multiplies a loss for mixed precision; the identity otherwise.
        """
        scale(torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]
