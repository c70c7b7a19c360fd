"""Hidden layers, as every model of tables has some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row as well, by the statistics known so far."""

    def forward(self, x_BH: Tensor) -> Tensor:
        """[B, H]."""
        if len(x_BH) > 1:
            return super().forward(x_BH)
        return F.batch_norm(x_BH, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def relu(width: int) -> nn.Module:
    """In place: nothing before it needs its own output again."""
    return nn.ReLU(inplace=True)


def hidden_layers(
    width: int,
    hidden: Sequence[int],
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: Callable[[int], nn.Module] = relu,
) -> nn.Sequential:
    """Linear, normalisation, activation and dropout for each size in `hidden`: [B, width] to [B, hidden[-1]]."""
    layers: list[nn.Module] = []
    for before, after in zip([width, *hidden], hidden, strict=False):
        layers += [nn.Linear(before, after), *([BatchNorm(after)] if batch_norm else []), activation(after)]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


def output_width(width: int, hidden: Sequence[int]) -> int:
    """Of what `hidden_layers` gives."""
    return [width, *hidden][-1]
