"""Optimizers that touch only the rows of a table that a batch used: a step costs the same for any catalogue.

A sparse gradient names the rows. State and velocity of the other rows rest, as do their weights. A dense gradient is
treated as all rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from recrun.types import NonNegative, Positive, Probability


def clip_norm(parameters: Iterable[Tensor], largest: float) -> None:
    """Scales all gradients down so that their global Euclidean norm is at most `largest`; sparse ones by their rows."""
    values = []
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None and grad.is_sparse:
            parameter.grad = grad = coalesced(grad)
            grad = grad.values()
        if grad is not None:
            values.append(grad)
    if values:
        scale = (largest / (torch.nn.utils.get_total_norm(values) + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(values, scale)


class RowOptimizer(torch.optim.Optimizer, ABC):
    """What the optimizers share: the walk over the parameters, and the rows of each."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of the rows that have gradients."""
        if closure is not None:
            raise TypeError("these optimizers take no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, group)

    def update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """One parameter: its rows and their moments are taken out, changed and put back."""
        state = self.state[parameter]
        if not state:
            state.update({name: torch.zeros_like(parameter) for name in self.moments_of(group)})
            state["step"] = torch.zeros(())
        state["step"] += 1
        grad = parameter.grad
        assert grad is not None
        names = self.moments_of(group)
        if not grad.is_sparse:
            parameter.add_(self.change(grad, [state[name] for name in names], state["step"], group))
            return
        grad = coalesced(grad)
        index, rows = grad.indices()[0], grad.values()
        moments = [state[name].index_select(0, index) for name in names]
        change = self.change(rows, moments, state["step"], group)
        for name, moment in zip(names, moments, strict=True):
            state[name].index_copy_(0, index, moment)
        parameter.index_add_(0, index, change)

    @abstractmethod
    def moments_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the state that each row has."""

    @abstractmethod
    def change(self, grad: Tensor, moments: list[Tensor], step: Tensor, group: dict[str, Any]) -> Tensor:
        """What is added to the rows; `moments` are changed in place."""


class RowAdagrad(RowOptimizer):
    """Adagrad with classical momentum: `sum += g^2; v = momentum * v - lr * g / sqrt(sum + eps); w += v`.

    `eps` stands inside the root and the sum starts at 0.
    """

    def __init__(
        self, params: Iterable[Any], lr: Positive = 0.05, momentum: Probability = 0.0, eps: Positive = 1e-6
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps})

    def moments_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The sum of squares, and the velocity if there is momentum."""
        return ("sum", "velocity") if group["momentum"] else ("sum",)

    def change(self, grad: Tensor, moments: list[Tensor], step: Tensor, group: dict[str, Any]) -> Tensor:
        """See the class."""
        total = moments[0].addcmul_(grad, grad)
        change = (total + group["eps"]).rsqrt_().mul_(grad).mul_(-group["lr"])
        return moments[1].mul_(group["momentum"]).add_(change) if group["momentum"] else change


class RowSGD(RowOptimizer):
    """Gradient descent with classical momentum: `v = momentum * v - lr * g; w += v`."""

    def __init__(self, params: Iterable[Any], lr: Positive = 0.05, momentum: Probability = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def moments_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The velocity if there is momentum."""
        return ("velocity",) if group["momentum"] else ()

    def change(self, grad: Tensor, moments: list[Tensor], step: Tensor, group: dict[str, Any]) -> Tensor:
        """See the class."""
        change = grad * -group["lr"]
        return moments[0].mul_(group["momentum"]).add_(change) if group["momentum"] else change


class RowAdam(RowOptimizer):
    """Adam; the moments of a row decay only when it is used, and the correction of the bias counts all steps."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: Positive = 0.001,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})

    def moments_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The means of the gradient and of its square."""
        return ("mean", "square")

    def change(self, grad: Tensor, moments: list[Tensor], step: Tensor, group: dict[str, Any]) -> Tensor:
        """See the class."""
        mean, square = moments
        grad = grad.contiguous()  # as the moments are: the kernel looks at no strides
        change = torch.zeros_like(grad)  # torch's kernel moves it as it would move weights, all in one pass
        torch._fused_adam_(
            [change],
            [grad],
            [mean],
            [square],
            [],
            [step.to(grad.device, non_blocking=True)],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        return change


def coalesced(grad: Tensor) -> Tensor:
    """A sparse gradient whose rows are distinct.

    Autograd forgets that a gradient was so; on the CPU a look whether its rows ascend saves sorting them again.
    """
    rows = grad._indices()[0]
    if rows.device.type == "cpu" and bool((rows[1:] > rows[:-1]).all()):
        grad._coalesced_(True)
    return grad.coalesce()
