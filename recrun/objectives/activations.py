"""Final activations of scores, in place, and the chain rule from what they gave."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Activation: TypeAlias = Literal["linear", "elu", "leaky", "relu", "selu", "tanh"]

SELU = (1.6732632423543772, 1.0507009873554805)  # alpha and scale; Klambauer et al. 2017
LEAK = 0.01  # slope of leaky below zero

aten = torch.ops.aten


def activate_(scores_BC: Tensor, name: Activation, alpha: float) -> Tensor:
    """The activation, in place; `alpha` is that of ELU: alpha * (exp(x) - 1) below zero."""
    match name:
        case "elu":
            return elu_(scores_BC, alpha)
        case "selu":
            return elu_(scores_BC, SELU[0]).mul_(SELU[1])
        case "leaky":
            return torch.nn.functional.leaky_relu_(scores_BC, LEAK)
        case "relu":
            return scores_BC.clamp_(min=0)
        case "tanh":
            return scores_BC.tanh_()
    return scores_BC


def elu_(scores_BC: Tensor, alpha: float) -> Tensor:
    """ELU in three passes over vectors; torch's own works number by number on a CPU."""
    falling = scores_BC.clamp(max=0).exp_()
    return scores_BC.clamp_(min=0).add_(falling, alpha=alpha).sub_(alpha)


def before_activation_(slope_BC: Tensor, active_BC: Tensor, name: Activation, alpha: float) -> Tensor:
    """A derivative in the activated scores as one in the scores, in place."""
    match name:
        case "elu":
            aten.elu_backward.grad_input(slope_BC, alpha, 1, 1, True, active_BC, grad_input=slope_BC)
        case "selu":
            aten.elu_backward.grad_input(slope_BC, *SELU, 1, True, active_BC, grad_input=slope_BC)
        case "leaky":
            aten.leaky_relu_backward.grad_input(slope_BC, active_BC, LEAK, True, grad_input=slope_BC)
        case "relu":
            aten.threshold_backward.grad_input(slope_BC, active_BC, 0, grad_input=slope_BC)
        case "tanh":
            aten.tanh_backward.grad_input(slope_BC, active_BC, grad_input=slope_BC)
    return slope_BC
