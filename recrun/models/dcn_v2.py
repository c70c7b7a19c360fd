"""DCN-V2: layers that multiply the input with a linear map of what came before (Wang et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.models.layers.mlp import hidden_layers, output_width
from recrun.types import Batch, Count, FromData, Index, Positive, Probability


class DCNv2(nn.Module):
    """A cross network, and hidden layers beside it or after it. `experts` makes it DCN-Mix (section 3.2 of the paper).

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        cross_layers: Number of cross layers: each raises the degree of the polynomial by one.
        rank: Of the cross layers' matrices, W = U V^T; None = full.
        experts: Matrices of low rank in each cross layer, mixed by a gate; None = one, without a gate.
        structure: parallel: both read the input, the output reads both; stacked: the hidden layers read the crosses.
        mlp_hidden_size: Sizes of the hidden layers.
        dropout: Of the hidden layers' outputs.
        batch_norm: Whether hidden layers are normalised.
        init_std: Standard deviation of the vectors at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        embedding_dim: Count = 16,
        cross_layers: Index = 3,
        rank: Count | None = None,
        experts: Count | None = None,
        structure: Literal["parallel", "stacked"] = "parallel",
        mlp_hidden_size: Sequence[Count] = (256, 128),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "dcn_v2")
        self.structure = structure
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        width = features.n_vectors * embedding_dim + len(features.dense)
        self.crosses = nn.ModuleList(cross_layer(width, rank, experts) for _ in range(cross_layers))
        self.mlp = hidden_layers(width, mlp_hidden_size, dropout, batch_norm)
        last = output_width(width, mlp_hidden_size)
        self.output = nn.Linear(last if structure == "stacked" else width + last, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        input_BX = torch.cat([self.embedding(batch).flatten(1), batch["dense"]], 1)
        crossed_BX = input_BX
        for cross in self.crosses:
            crossed_BX = cross(input_BX, crossed_BX)
        if self.structure == "stacked":
            last_BH = self.mlp(crossed_BX)
        else:
            last_BH = torch.cat([crossed_BX, self.mlp(input_BX)], 1)
        logits: Tensor = self.output(last_BH)
        return logits


def cross_layer(width: int, rank: int | None, experts: int | None) -> nn.Module:
    """A cross layer.

    Raises:
        ConfigError: Experts without a rank.
    """
    if experts is None:
        return Cross(width, rank)
    if rank is None:
        raise ConfigError("model.experts are matrices of low rank: set model.rank, for example model.rank=32")
    return MixedCross(width, rank, experts)


class Cross(nn.Module):
    """x_next = x_0 * (W x + b) + x, with W of full rank or W = U V^T."""

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        self.into = nn.Linear(width, rank, bias=False) if rank else nn.Identity()
        self.matrix = nn.Linear(rank or width, width)

    def forward(self, input_BX: Tensor, x_BX: Tensor) -> Tensor:
        """[B, X]."""
        return torch.addcmul(x_BX, input_BX, self.matrix(self.into(x_BX)))


class MixedCross(nn.Module):
    """x_next = sum over experts k of g_k(x) x_0 * (U_k tanh(C_k tanh(V_k^T x)) + b) + x, with g = softmax(G x)."""

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.shape = (experts, rank)
        self.gate = nn.Linear(width, experts, bias=False)
        self.into = nn.Linear(width, experts * rank, bias=False)
        self.inner = nn.Parameter(torch.empty(experts, rank, rank))
        self.out = nn.Linear(experts * rank, width)
        nn.init.xavier_normal_(self.inner)

    def forward(self, input_BX: Tensor, x_BX: Tensor) -> Tensor:
        """[B, X]. The gate's weights sum to 1, so that the experts' shared bias is added once."""
        low_BKR = self.into(x_BX).unflatten(1, self.shape).tanh()
        inner_BKR = torch.einsum("bkr,kqr->bkq", low_BKR, self.inner).tanh()
        mixed_BKR = self.gate(x_BX).softmax(1)[..., None] * inner_BKR
        return torch.addcmul(x_BX, input_BX, self.out(mixed_BKR.flatten(1)))
