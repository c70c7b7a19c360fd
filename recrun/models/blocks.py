"""What models of tables are built from: the vector of a row, experts and their mixtures, towers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.features import Features
from recrun.models.embedding import FeatureEmbedding
from recrun.models.mlp import hidden_layers, output_width
from recrun.types import Batch


class RowVector(nn.Module):
    """The vectors of a row's fields and sequences, and its dense values, side by side.

    Attributes:
        width: W, how many numbers these are.
    """

    def __init__(self, features: Features, embedding_dim: int) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(features, embedding_dim)
        self.width = (len(features.fields) + len(features.sequences)) * embedding_dim + len(features.dense)

    def forward(self, batch: Batch) -> Tensor:
        """[B, W]."""
        vectors_BX = self.embedding(batch).flatten(1)
        return torch.cat([vectors_BX, batch["dense"]], 1) if batch["dense"].shape[1] else vectors_BX


def last_weight(layers: nn.Module) -> Tensor:
    """The weight of the last linear layer."""
    return [module.weight for module in layers.modules() if isinstance(module, nn.Linear)][-1]


class Towers(nn.Module):
    """What each task makes of its input: hidden layers and one linear output.

    Args:
        n_tasks: Tasks.
        width: Of the inputs.
        hidden: Units of the layers.
        dropout, batch_norm: Of the layers.
    """

    def __init__(
        self, n_tasks: int, width: int, hidden: Sequence[int], dropout: float = 0.0, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.of_task = nn.ModuleList(
            nn.Sequential(hidden_layers(width, hidden, dropout, batch_norm), nn.Linear(output_width(width, hidden), 1))
            for _ in range(n_tasks)
        )

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """[B] for each task from its input, [B, W]."""
        return [tower(input_BW).squeeze(1) for tower, input_BW in zip(self.of_task, inputs, strict=True)]


class Experts(nn.Module):
    """E networks of equal shape on the same input: the first layer is one product for all, the others are batched.

    Args:
        n_experts: E.
        sizes: Width of the input and units of each expert's layers.
        dropout: Of the layers.
    """

    def __init__(self, n_experts: int, sizes: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(sizes[0], n_experts * sizes[1])
        pairs = list(pairwise(sizes))[1:]
        self.weights = nn.ParameterList(uniform(width, n_experts, width, units) for width, units in pairs)
        self.biases = nn.ParameterList(uniform(width, n_experts, 1, units) for width, units in pairs)

    def forward(self, input_BW: Tensor) -> Tensor:
        """[E, B, H], H the units of the last layer."""
        first_BX = self.dropout(F.relu(self.first(input_BW), inplace=True))
        hidden_EBH: Tensor = first_BX.view(len(input_BW), self.n_experts, -1).transpose(0, 1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden_EBH = self.dropout(F.relu(torch.baddbmm(bias, hidden_EBH, weight), inplace=True))
        return hidden_EBH

    def last_weight(self) -> Tensor:
        """The weight of the last layer."""
        return self.weights[-1] if len(self.weights) else self.first.weight


def mixtures(weight_BGE: Tensor, experts_EBH: Tensor) -> tuple[Tensor, ...]:
    """For each of G gates the experts' outputs by its weights, [B, H]."""
    return torch.bmm(weight_BGE, experts_EBH.transpose(0, 1)).unbind(1)


def mixture(weight_BE: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """The outputs of experts, in groups of [n, B, H] that together are E, by their weights, [B, H]."""
    parts = torch.split(weight_BE.T[:, :, None], [len(group) for group in groups])
    return torch.stack([(part * group).sum(0) for part, group in zip(parts, groups, strict=True)]).sum(0)


def uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter that starts as `nn.Linear` would start it."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
