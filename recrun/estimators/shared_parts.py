"""Which parameters of any module several tasks share: those that more than one task's loss reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Task
from recrun.training.loss_weighting import Weighting


class Shared:
    """What a weighting asks of a model.

    Args:
        model: Any module.
        tasks: In the order of its outputs.
        losses: Of one batch, by task.
    """

    def __init__(self, model: nn.Module, tasks: Sequence[Task], losses: Mapping[str, Tensor]) -> None:
        self.tasks = tasks
        named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        reached = [
            torch.autograd.grad(losses[task.name], [value for _, value in named], retain_graph=True, allow_unused=True)
            for task in tasks
            if task.name in losses
        ]
        counts = [sum(moves(grads[at]) for grads in reached) for at in range(len(named))]
        self.found = [value for (_, value), count in zip(named, counts, strict=True) if count > 1]
        if not self.found:
            raise ConfigError("adaptive_params: no parameter of the model is shared by several tasks")

    def shared_parameters(self) -> list[nn.Parameter]:
        """The tensors that several tasks share."""
        return self.found

    def last_shared_layer(self) -> nn.Parameter:
        """The last shared matrix, in the order in which the module names its parameters."""
        return next((value for value in reversed(self.found) if value.ndim > 1), self.found[-1])


def moves(gradient: Tensor | None) -> bool:
    """Whether a loss reaches a tensor: outputs that were put together send zeros to each other's parts."""
    return gradient is not None and bool(gradient.any())


def asks(backward: Callable[..., None], shared: Any) -> Callable[..., None]:
    """A weighting's `backward` with another object for its questions than the model."""

    def of_losses(losses: dict[str, Tensor], model: Any, scale: Callable[[Tensor], Tensor]) -> None:
        backward(losses, shared, scale)

    return of_losses


def bound(make: Callable[..., Weighting], shared: Any) -> Callable[[Any], Weighting]:
    """A weighting that asks `shared`, whatever the model."""

    def made(model: Any) -> Weighting:
        weighting = make(shared)
        weighting.backward = asks(weighting.backward, shared)  # type: ignore[method-assign]
        return weighting

    return made
