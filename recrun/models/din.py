"""DIN: a user's past is weighed by how it bears on what is offered now (Zhou et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.models.layers.dice import Dice
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.models.layers.mlp import RowLayers, hidden_layers
from recrun.models.layers.ragged import for_entries, softmax_in_rows, weighted_sum
from recrun.types import Batch, Count, FromData, Positive, Probability


class DIN(nn.Module):
    """mlp(vectors of the fields, attended sequences, mean of the other sequences, numbers).

    A sequence is attended if it shares its ids with a field, its target (`dataset.share: {history: item_id}`).

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        attention_hidden_size: Sizes of the hidden layers that weigh an entry.
        attention_softmax: Whether the weights of a row's entries sum to 1; the paper keeps how strong they are.
        mlp_hidden_size: Sizes of the hidden layers.
        activation: Of all hidden layers; dice is the paper's PReLU that adapts to the data.
        dropout: Of the hidden layers' outputs.
        batch_norm: Whether hidden layers are normalised.
        init_std: Standard deviation of the vectors at the start.

    Raises:
        ConfigError: No sequence shares its ids with a field.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        embedding_dim: Count = 16,
        attention_hidden_size: Sequence[Count] = (36,),
        attention_softmax: bool = False,
        mlp_hidden_size: Sequence[Count] = (200, 80),
        activation: Literal["dice", "prelu", "relu"] = "dice",
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 0.01,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "din")
        self.softmax = attention_softmax
        self.targets = targets_of(features)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        self.attention = nn.ModuleDict(
            {name: Attention(embedding_dim, attention_hidden_size, activation) for name in self.targets}
        )
        width, n_dense = features.n_vectors * embedding_dim, len(features.dense)
        self.mlp = RowLayers(
            width, n_dense, mlp_hidden_size, dropout, batch_norm, lambda size: activated(activation, size)
        )
        self.output = nn.Linear(self.mlp.width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE, entries = self.embedding.with_entries(batch, list(self.targets))
        interests = []
        for name, target in self.targets.items():
            entries_NE, offsets = entries[name], batch[f"{name}_offsets"]
            weight_N = self.attention[name](vectors_BFE[:, target], entries_NE, offsets)
            weight_N = softmax_in_rows(weight_N, offsets) if self.softmax else weight_N
            interests.append(weighted_sum(weight_N, entries_NE, offsets))
        logits: Tensor = self.output(self.mlp(torch.cat([vectors_BFE.flatten(1), *interests], 1), batch))
        return logits


class Attention(nn.Module):
    """The weight of an entry for a target: hidden layers over both and their product, entry by entry.

    The difference of the two, which some implementations also feed in, is in the reach of the first linear layer.
    """

    def __init__(self, width: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        first = hidden[0] if hidden else 1
        self.of_target = nn.Linear(width, first)
        self.of_entry = nn.Linear(2 * width, first, bias=False)
        deeper = hidden_layers(first, hidden[1:], activation=lambda size: activated(activation, size))
        self.layers = nn.Sequential(activated(activation, first), *deeper, nn.Linear(hidden[-1], 1)) if hidden else None

    def forward(self, target_BE: Tensor, entries_NE: Tensor, offsets: Tensor) -> Tensor:
        """Weights [N]. The target's part of the first layer is computed once a row."""
        width = target_BE.shape[1]
        of_row_NX = for_entries(torch.cat([target_BE, self.of_target(target_BE)], 1), offsets, len(entries_NE))
        target_NE, first_NH = torch.split(of_row_NX, [width, of_row_NX.shape[1] - width], 1)
        hidden_NH = first_NH + self.of_entry(torch.cat([entries_NE, entries_NE * target_NE], 1))
        weights_N1: Tensor = self.layers(hidden_NH) if self.layers else hidden_NH
        return weights_N1.squeeze(1)


def activated(name: str, width: int) -> nn.Module:
    """The activation of that name."""
    if name == "dice":
        return Dice(width)
    return nn.PReLU(width, 0.25) if name == "prelu" else nn.ReLU()


def targets_of(features: Features) -> dict[str, int]:
    """Sequences that share their ids with a field, and that field's index."""
    indices = {field.first: index for index, field in reversed(list(enumerate(features.fields)))}
    found = {sequence.name: indices[sequence.first] for sequence in features.sequences if sequence.first in indices}
    if not found:
        raise ConfigError(
            "model=din needs a sequence that shares its ids with a sparse column, for example "
            "dataset.sequences={history: {}} dataset.share={history: item_id}; "
            f"sequences here: {', '.join(sequence.name for sequence in features.sequences) or 'none'}"
        )
    return found
