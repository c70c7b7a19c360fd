"""The feature layer: one table for the ids of all fields, looked up once per batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recrun.features import Features
from recrun.types import Batch


class FeatureEmbedding(nn.Module):
    """Vectors of a row's fields, and of its sequences as the mean over their ids.

    Args:
        features: What the batches hold.
        width: Of the vectors, E.
        std: Standard deviation of the normal distribution they start from.
    """

    def __init__(self, features: Features, width: int, std: float = 1e-4) -> None:
        super().__init__()
        self.features = features
        self.width = width
        self.table = nn.Parameter(torch.randn(features.n_ids, width) * std)

    def forward(self, batch: Batch) -> Tensor:
        """[B, F + S, E]: fields in order, then sequences; an empty sequence is 0."""
        sparse_BF = batch["sparse"]
        names = [field.name for field in self.features.sequences]
        flat_N = torch.cat([sparse_BF.flatten(), *(batch[name] for name in names)])
        sizes = [sparse_BF.numel(), *(len(batch[name]) for name in names)]
        first, *others = torch.split(self.table[flat_N], sizes)
        pooled = [mean_of_rows(rows, batch[f"{name}_offsets"]) for name, rows in zip(names, others, strict=True)]
        fields_BFE = first.view(*sparse_BF.shape, self.width)
        return torch.cat([fields_BFE, *(rows_BE[:, None] for rows_BE in pooled)], 1)


def mean_of_rows(flat_NE: Tensor, offsets: Tensor) -> Tensor:
    """Mean over the entries of each row of a ragged field, [B, E]; 0 where a row has none."""
    lengths_B = offsets.diff()
    row_N = torch.repeat_interleave(torch.arange(len(lengths_B), device=offsets.device), lengths_B)
    total_BE = flat_NE.new_zeros(len(lengths_B), flat_NE.shape[1]).index_add_(0, row_N, flat_NE)
    return total_BE / lengths_B.clamp(min=1)[:, None]
