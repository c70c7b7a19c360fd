"""Optimizers that leave torch's compiler alone: the same steps as torch's, bit by bit, without the import.

torch hides the methods of its optimizers from `torch.compile` by wrappers, whose first call imports the compiler, about
a CPU second and 700 modules. Here are the methods that the wrappers hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import unwrap
from typing import Any, ClassVar

import torch

from recrun.types import NonNegative, Probability

Stock = torch.optim.Optimizer


class Uncompiled(Stock):
    """An optimizer that a training without `torch.compile` can make, step, save and restore."""

    add_param_group = unwrap(Stock.add_param_group)
    zero_grad = unwrap(Stock.zero_grad)
    state_dict = unwrap(Stock.state_dict)
    load_state_dict = unwrap(Stock.load_state_dict)


class Adam(Uncompiled, torch.optim.Adam):
    """Adam (Kingma & Ba, 2015), as torch computes it.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the moving averages of the gradient and of its square.
        eps: Added to the root.
        weight_decay: L2 of all weights, added to the gradient.
        amsgrad: Divides by the largest mean square so far instead of the present one (Reddi et al., 2018).
        fused: One kernel for all weights.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegative = 0.001,
        betas: tuple[Probability, Probability] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
        amsgrad: bool = False,
        fused: bool = True,
    ) -> None:
        torch.optim.Adam.__init__(
            self,
            params,
            lr=lr,
            betas=tuple(betas),  # type: ignore[arg-type]
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            fused=fused,
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; see torch.optim.Adam."""
        return unwrap(torch.optim.Adam.step)(self, closure)


class SGD(Uncompiled, torch.optim.SGD):
    """Stochastic gradient descent with classical momentum, as torch computes it.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Share of the last step that goes into the next.
        dampening: Share of the gradient that the momentum leaves out.
        weight_decay: L2 of all weights, added to the gradient.
        nesterov: Looks ahead by the momentum (Sutskever et al., 2013).
    """

    supports_sparse: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegative = 0.001,
        momentum: NonNegative = 0.0,
        dampening: NonNegative = 0.0,
        weight_decay: NonNegative = 0.0,
        nesterov: bool = False,
    ) -> None:
        torch.optim.SGD.__init__(
            self,
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; see torch.optim.SGD."""
        return unwrap(torch.optim.SGD.step)(self, closure)
