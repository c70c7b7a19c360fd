"""Hidden layers, as every model of tables has some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.types import Batch


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
        # A bias would be lost in the normalisation, and costs a pass over the batch.
        layers += [nn.Linear(before, after, bias=not batch_norm), *finish(after, dropout, batch_norm, activation)]
    return nn.Sequential(*layers)


def finish(
    width: int, dropout: float, batch_norm: bool, activation: Callable[[int], nn.Module] = relu
) -> list[nn.Module]:
    """What follows the product of a layer."""
    norms, drops = [BatchNorm(width)] * batch_norm, [nn.Dropout(dropout)] if dropout else []
    return [*norms, activation(width), *drops]


def output_width(width: int, hidden: Sequence[int]) -> int:
    """Of what `hidden_layers` gives."""
    return [width, *hidden][-1]


class RowLayers(nn.Module):
    """Hidden layers over a row's vectors and numbers.

    Args:
        width: Of all vectors side by side, X.
        n_dense: How many numbers, D.
        hidden: Sizes of the layers; without any, vectors and numbers come out as they are.
        dropout, batch_norm, activation: As of `hidden_layers`.

    Attributes:
        width: H, of what comes out.
    """

    def __init__(
        self,
        width: int,
        n_dense: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
        batch_norm: bool = False,
        activation: Callable[[int], nn.Module] = relu,
    ) -> None:
        super().__init__()
        self.width = output_width(width + n_dense, hidden)
        self.first = SideBySide(width, n_dense, hidden[0], not batch_norm) if hidden else None
        after = finish(hidden[0], dropout, batch_norm, activation) if hidden else []
        deeper = hidden_layers(hidden[0], hidden[1:], dropout, batch_norm, activation) if hidden else nn.Sequential()
        self.others = nn.Sequential(*after, *deeper)

    def forward(self, vectors_BX: Tensor, batch: Batch) -> Tensor:
        """[B, H]."""
        dense_BD = batch["dense"]
        first_BH = torch.cat([vectors_BX, dense_BD], 1) if self.first is None else self.first(vectors_BX, dense_BD)
        hidden_BH: Tensor = self.others(first_BH)
        return hidden_BH

    def last_weight(self) -> Tensor:
        """The weight of the last layer."""
        layers = [*(module.weight for module in self.others if isinstance(module, nn.Linear))]
        if self.first is not None:
            layers.insert(0, self.first.of_vectors)
        return layers[-1]


class SideBySide(nn.Module):
    """A linear layer of vectors and numbers: two products cost less than putting both into one matrix.

    Attributes:
        of_vectors: Weights of the vectors, [H, X].
        of_numbers: Weights of the numbers, [D, H], and in one more row the bias, the weight of a number that is always
            1. Their gradient takes half the time that it takes the other way round.
    """

    def __init__(self, width: int, n_dense: int, after: int, bias: bool = True) -> None:
        super().__init__()
        whole = nn.Linear(width + n_dense, after, bias)
        weight, rows = whole.weight.detach(), [] if whole.bias is None else [whole.bias.detach()[None]]
        self.of_vectors = nn.Parameter(weight[:, :width].clone())
        self.of_numbers = nn.Parameter(torch.cat([weight[:, width:].t(), *rows]))

    def forward(self, vectors_BX: Tensor, dense_BD: Tensor) -> Tensor:
        """[B, H]."""
        product_BH = F.linear(vectors_BX, self.of_vectors)
        numbers_BD = dense_BD if len(self.of_numbers) == dense_BD.shape[1] else with_one(dense_BD)
        return product_BH.addmm_(numbers_BD.to(product_BH.dtype), self.of_numbers.to(product_BH.dtype))


def with_one(dense_BD: Tensor) -> Tensor:
    """Numbers and, in one more column, 1."""
    return F.pad(dense_BD, (0, 1), value=1.0)
