"""FinalMLP: two streams of hidden layers with feature selection, fused bilinearly (Mao et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.models.layers.mlp import hidden_layers
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class FinalMLP(nn.Module):
    """logit = bias + sum over heads k of <w1_k, h1_k> + <w2_k, h2_k> + h1_k^T W_k h2_k, of two streams h1 and h2.

    h_s = mlp_s(gate_s * e), gate_s = 2 sigmoid(linear(mlp(context_s))), where e is a row's vectors and numbers and
    context_s the vectors of some columns, or a learned one where none are named (equations 3 to 9).

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        mlp_1_hidden_size: Sizes of the first stream's layers.
        mlp_2_hidden_size: Sizes of the second stream's layers.
        head_num: Parts into which both streams' outputs are cut before the product; it divides both.
        feature_selection: Whether the streams have gates.
        context_1: Columns of ids that the first stream's gate sees, for example those of the user.
        context_2: Columns of ids that the second stream's gate sees, for example those of the item.
        gate_hidden_size: Sizes of the gates' hidden layers.
        dropout: Of the streams' hidden layers.
        batch_norm: Whether the streams' hidden layers are normalised.
        init_std: Standard deviation of the vectors at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        embedding_dim: Count = 16,
        mlp_1_hidden_size: Counts = (256, 128),
        mlp_2_hidden_size: Counts = (256, 128),
        head_num: Count = 1,
        feature_selection: bool = True,
        context_1: Sequence[str] = (),
        context_2: Sequence[str] = (),
        gate_hidden_size: Sequence[Count] = (64,),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "final_mlp")
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        width = features.n_vectors * embedding_dim + len(features.dense)
        contexts = [columns_of(features, context_1, "context_1"), columns_of(features, context_2, "context_2")]
        self.gates = nn.ModuleList(
            Gate(columns, embedding_dim, gate_hidden_size, width) for columns in contexts if feature_selection
        )
        sizes = [mlp_1_hidden_size, mlp_2_hidden_size]
        self.streams = nn.ModuleList(hidden_layers(width, hidden, dropout, batch_norm) for hidden in sizes)
        self.fusion = BilinearFusion(mlp_1_hidden_size[-1], mlp_2_hidden_size[-1], head_num)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE = self.embedding(batch)
        input_BX = torch.cat([vectors_BFE.flatten(1), batch["dense"]], 1)
        inputs = [gate(vectors_BFE) * input_BX for gate in self.gates] or [input_BX, input_BX]
        first_BH, second_BH = (stream(x_BX) for stream, x_BX in zip(self.streams, inputs, strict=True))
        logits: Tensor = self.fusion(first_BH, second_BH)
        return logits


class Gate(nn.Module):
    """2 sigmoid(linear(mlp(context))): a weight between 0 and 2 for every input.

    Args:
        columns: Positions of the vectors that are the context; without any it is learned, and the same for all rows.
        embedding_dim: Width of the vectors.
        hidden: Sizes of the hidden layers.
        width: Of the inputs, X.
    """

    def __init__(self, columns: Sequence[int], embedding_dim: int, hidden: Sequence[int], width: int) -> None:
        super().__init__()
        self.columns = list(columns)
        self.context = None if columns else nn.Parameter(torch.zeros(1, embedding_dim))
        before = max(len(self.columns), 1) * embedding_dim
        self.mlp = hidden_layers(before, hidden)
        self.output = nn.Linear([before, *hidden][-1], width)

    def forward(self, vectors_BFE: Tensor) -> Tensor:
        """[B, X], or [1, X] where the context is learned."""
        context_BC = vectors_BFE[:, self.columns].flatten(1) if self.context is None else self.context
        weights_BX: Tensor = 2 * self.output(self.mlp(context_BC)).sigmoid()
        return weights_BX


class BilinearFusion(nn.Module):
    """bias + <w1, x> + <w2, y> + sum over heads k of x_k^T W_k y_k.

    Args:
        first: Width of x.
        second: Width of y.
        heads: How many, K.
    """

    def __init__(self, first: int, second: int, heads: int) -> None:
        super().__init__()
        if first % heads or second % heads:
            raise ConfigError(
                f"model.head_num={heads} must divide the last of model.mlp_1_hidden_size ({first}) and "
                f"model.mlp_2_hidden_size ({second})"
            )
        self.linear = nn.Linear(first + second, 1)
        self.weight = nn.Parameter(torch.empty(heads, first // heads, second // heads))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x_BH: Tensor, y_BH: Tensor) -> Tensor:
        """[B, 1]."""
        shape_BK = (len(x_BH), len(self.weight), -1)
        products_BK = torch.einsum("bkx,kxy,bky->bk", x_BH.view(shape_BK), self.weight, y_BH.view(shape_BK))
        linear_B1: Tensor = self.linear(torch.cat([x_BH, y_BH], 1))
        return linear_B1 + products_BK.sum(1, keepdim=True)


def columns_of(features: Features, names: Sequence[str], key: str) -> list[int]:
    """Positions of the vectors of some columns or sequences.

    Raises:
        ConfigError: The data have no such column.
    """
    known = [field.name for field in (*features.fields, *features.sequences)]
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(f"model.{key} names {', '.join(missing)}; the data set's columns of ids: {', '.join(known)}")
    return [known.index(name) for name in names]
