"""Optimizers that touch only the rows of a table that a batch used: a step costs the same for any catalogue.

A sparse gradient names the rows. State and velocity of the other rows rest, as do their weights. A dense gradient is
treated as all rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from recrun.optim.row_gradients import put_rows, take_rows
from recrun.optim.uncompiled import Uncompiled
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


class RowOptimizer(Uncompiled, ABC):
    """What the optimizers share: the walk over the parameters, and the rows of each.

    Attributes:
        supports_sparse: Takes sparse gradients beside dense ones. A plain literal, which is read without importing.
    """

    supports_sparse: ClassVar[bool] = True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; torch's own reports itself to the profiler, which takes longer than the work."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of the rows that have gradients."""
        if closure is not None:
            raise TypeError("these optimizers take no closure")
        for group in self.param_groups:
            used = [parameter for parameter in group["params"] if parameter.grad is not None]
            if used:
                self.update(used, group)

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it, to call hooks and to notify the profiler

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Some parameters: their rows and moments are taken out, moved all together and put back."""
        states = [self.state_of(parameter, group) for parameter in parameters]
        indices, grads, rows = map(list, zip(*map(used_rows, parameters), strict=True))
        tables = [[state[name] for state in states] for name in self.moments_of(group)]
        moments = [list(map(take_rows, some, indices)) for some in tables]
        self.move(rows, grads, moments, [state["step"] for state in states], group)
        for some, moved in zip([parameters, *tables], [rows, *moments], strict=True):
            for table, index, part in zip(some, indices, moved, strict=True):
                put_rows(table, index, part)

    def state_of(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """A parameter's moments, made at its first step, and how many steps it has taken."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            for name, value in self.moments_of(group).items():
                state[name] = torch.full_like(parameter, value, memory_format=torch.contiguous_format)
        state["step"] = state.get("step", 0) + 1
        return state

    @abstractmethod
    def moments_of(self, group: dict[str, Any]) -> dict[str, float]:
        """Names of the state that each row has, and what it is at the start."""

    @abstractmethod
    def move(
        self,
        rows: list[Tensor],
        grads: list[Tensor],
        moments: list[list[Tensor]],
        steps: list[int],
        group: dict[str, Any],
    ) -> None:
        """Moves the rows of each parameter and their `moments`, a list for each name, in place."""


def used_rows(parameter: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """The rows that a parameter's gradient names, None for all; their gradient; and the rows themselves."""
    grad = parameter.grad
    assert grad is not None
    if not grad.is_sparse:
        return None, grad.contiguous(), take_rows(parameter, None)
    distinct = coalesced(grad)
    index, rows = distinct.indices()[0], getattr(grad, "rows", None)
    return index, distinct.values(), take_rows(parameter, index) if rows is None else rows


class RowAdagrad(RowOptimizer):
    """Adagrad with classical momentum: `sum += g^2; v = momentum * v - lr * g / sqrt(sum + eps); w += v`.

    The sum of squares starts at 0.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Share of the last step that goes into the next.
        eps: Added inside the root.
    """

    def __init__(
        self, params: Iterable[Any], lr: Positive = 0.05, momentum: Probability = 0.0, eps: Positive = 1e-6
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps})

    def moments_of(self, group: dict[str, Any]) -> dict[str, float]:
        """The sum of squares, which holds eps already, and the velocity if there is momentum."""
        return {"sum": group["eps"], "velocity": 0.0} if group["momentum"] else {"sum": group["eps"]}

    def move(
        self,
        rows: list[Tensor],
        grads: list[Tensor],
        moments: list[list[Tensor]],
        steps: list[int],
        group: dict[str, Any],
    ) -> None:
        """See the class."""
        sums, lr = moments[0], group["lr"]
        moved = decayed(moments[1], group["momentum"]) if group["momentum"] else rows
        if grads[0].device.type == "cpu":  # the same in one pass, in which the number of steps has no part
            some = [torch.ones(())] * len(grads)
            torch._fused_adagrad_(
                moved, grads, sums, some, lr=lr, lr_decay=0.0, weight_decay=0.0, eps=0.0, maximize=False
            )
        else:
            torch._foreach_addcmul_(sums, grads, grads)
            torch._foreach_addcdiv_(moved, grads, torch._foreach_sqrt(sums), value=-lr)
        if group["momentum"]:
            torch._foreach_add_(rows, moved)


class RowSGD(RowOptimizer):
    """Gradient descent with classical momentum: `v = momentum * v - lr * g; w += v`.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Share of the last step that goes into the next.
    """

    def __init__(self, params: Iterable[Any], lr: Positive = 0.05, momentum: Probability = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def moments_of(self, group: dict[str, Any]) -> dict[str, float]:
        """The velocity if there is momentum."""
        return {"velocity": 0.0} if group["momentum"] else {}

    def move(
        self,
        rows: list[Tensor],
        grads: list[Tensor],
        moments: list[list[Tensor]],
        steps: list[int],
        group: dict[str, Any],
    ) -> None:
        """See the class."""
        if group["momentum"]:
            velocities = decayed(moments[0], group["momentum"])
            torch._foreach_add_(velocities, grads, alpha=-group["lr"])
            torch._foreach_add_(rows, velocities)
        else:
            torch._foreach_add_(rows, grads, alpha=-group["lr"])


class RowAdam(RowOptimizer):
    """Adam; the moments of a row decay only when it is used, and the correction of the bias counts all steps.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the moving averages of the gradient and of its square.
        eps: Added to the root.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Positive = 0.001,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps})

    def moments_of(self, group: dict[str, Any]) -> dict[str, float]:
        """The means of the gradient and of its square."""
        return {"mean": 0.0, "square": 0.0}

    def move(
        self,
        rows: list[Tensor],
        grads: list[Tensor],
        moments: list[list[Tensor]],
        steps: list[int],
        group: dict[str, Any],
    ) -> None:
        """See the class."""
        torch._fused_adam_(
            rows,
            grads,
            moments[0],
            moments[1],
            [],
            [torch.full((), float(step), device=grad.device) for step, grad in zip(steps, grads, strict=True)],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def decayed(velocities: list[Tensor], momentum: float) -> list[Tensor]:
    """The velocities, times the momentum in place."""
    torch._foreach_mul_(velocities, momentum)
    return velocities


def coalesced(grad: Tensor) -> Tensor:
    """A sparse gradient whose rows are distinct.

    Autograd forgets that a gradient was so; on the CPU a look whether its rows ascend saves sorting them again.
    """
    if grad.is_coalesced():
        return grad
    rows = grad._indices()[0]
    if rows.device.type == "cpu" and bool((rows[1:] > rows[:-1]).all()):
        grad._coalesced_(True)
    return grad.coalesce()
