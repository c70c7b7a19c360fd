"""The feature layer: one table for the ids of all fields, looked up once per batch.

A lookup of any kind is a mean over bags of ids, most of which hold one id; its gradient names the rows that the batch
used. Both passes are one call of `embedding_bag`: forward over the rows of the table, backward, with the entries
sorted by id, over the rows of the incoming gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.types import Batch


class FeatureEmbedding(nn.Module):
    """Vectors of a row's fields and sequences. Gradients are sparse: use an optimizer of `recrun.optim.row_optimizers`.

    Args:
        features: What the batches hold.
        width: Of the vectors, E.
        std: Standard deviation of the normal distribution they start from.
        first_order: Each id also has a weight of its own, 0 at first, as in a linear model.
    """

    def __init__(self, features: Features, width: int, std: float = 1e-4, first_order: bool = False) -> None:
        super().__init__()
        self.features = features
        self.width = width
        self.table = nn.Parameter(torch.randn(features.n_ids, width) * std)
        self.first_order = nn.Parameter(torch.zeros(features.n_ids, 1)) if first_order else None

    def forward(self, batch: Batch) -> Tensor:
        """[B, F + S, E]: fields in order, then sequences as the mean over their entries; an empty one is 0."""
        return in_rows(look_up(self.table, self.bags(batch)), len(batch["sparse"]), len(self.features.fields))

    def with_first_order(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and the sum of the ids' own weights (of a sequence, their mean), [B, 1]."""
        assert self.first_order is not None, "the layer was made without first_order"
        bags, size, n_fields = self.bags(batch), len(batch["sparse"]), len(self.features.fields)
        vectors_BFE = in_rows(look_up(self.table, bags), size, n_fields)
        return vectors_BFE, in_rows(look_up(self.first_order, bags), size, n_fields).sum(1)

    def with_entries(self, batch: Batch, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` gives but without some sequences, and the vectors of each entry of these, {name: [N, E]}."""
        sparse_BF, n_fields = batch["sparse"], len(self.features.fields)
        sizes = [len(batch[name]) for name in names]
        vectors_RE = look_up(self.table, self.bags(batch, names))
        sizes = [sparse_BF.numel(), *sizes]
        fields, *entries, pooled = torch.split(vectors_RE, [*sizes, len(vectors_RE) - sum(sizes)])
        vectors_RE = torch.cat([fields, pooled]) if len(pooled) else fields
        return in_rows(vectors_RE, len(sparse_BF), n_fields), dict(zip(names, entries, strict=True))

    def bags(self, batch: Batch, whole: Sequence[str] = ()) -> Bags:
        """Ids of all fields by row, of the sequences in `whole` one by one, then those of the others in bags."""
        names = [field.name for field in self.features.sequences if field.name not in whole]
        alone = [batch["sparse"].flatten(), *(batch[name] for name in whole)]
        if not names:
            return Bags(torch.cat(alone) if whole else alone[0])
        ids_N = torch.cat([*alone, *(batch[name] for name in names)])
        sizes = [len(ids) for ids in alone] + [len(batch[name]) for name in names]
        firsts = torch.tensor(sizes).cumsum(0).tolist()
        begins = [torch.arange(firsts[len(whole)], device=ids_N.device)]
        begins += [
            batch[f"{name}_offsets"][:-1] + first for name, first in zip(names, firsts[len(whole) :], strict=False)
        ]
        return Bags(ids_N, torch.cat(begins).int())


class NumberEmbedding(nn.Module):
    """A number as a vector: the vector of its column, times the number.

    Args:
        n_dense: How many columns of numbers, D.
        width: Of the vectors, E.
        std: Standard deviation of the normal distribution they start from.
    """

    def __init__(self, n_dense: int, width: int, std: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(n_dense, width) * std)

    def forward(self, batch: Batch) -> Tensor:
        """[B, D, E]."""
        return batch["dense"][..., None] * self.vectors


class Bags:
    """Ids to look up, int32 [N], and where each bag of them begins, int32 [R]; without it, each is a bag of its own."""

    def __init__(self, ids_N: Tensor, begins_R: Tensor | None = None) -> None:
        self.ids = ids_N
        self.pooled = begins_R is not None
        self.begins = self.numbers(len(ids_N)) if begins_R is None else begins_R

    def numbers(self, count: int) -> Tensor:
        """0, 1, ..., int32."""
        return torch.arange(count, dtype=torch.int32, device=self.ids.device)

    @cached_property
    def by_id(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The entries sorted by id.

        Returns:
            The distinct ids [U]; the bag of each entry [N]; where each id's entries begin [U]; and, if bags hold
            several ids, each entry's weight in its bag's mean [N].
        """
        ids_U, order_N, begins_U = sorted_by_id(self.ids)
        if not self.pooled:
            return ids_U, order_N, begins_U, None
        sizes_R = F.pad(self.begins[1:], (0, 1), value=len(self.ids)) - self.begins
        bag_N = torch.repeat_interleave(self.numbers(len(sizes_R)), sizes_R, output_size=len(self.ids))
        bag_N = bag_N.index_select(0, order_N)
        return ids_U, bag_N, begins_U, (1 / sizes_R).index_select(0, bag_N)


def sorted_by_id(ids_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct ids, int64 [U]; positions in their order, int32 [N]; where each id's positions begin, int32 [U].

    On a GPU this waits for the device once, to learn U.
    """
    return sorted_by_numpy(ids_N) if ids_N.device.type == "cpu" else sorted_by_torch(ids_N)


def sorted_by_torch(ids_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `sorted_by_id`, on any device."""
    sorted_N, order_N = ids_N.sort(stable=True)
    ids_U, counts_U = torch.unique_consecutive(sorted_N, return_counts=True)
    return ids_U.long(), order_N.int(), (counts_U.cumsum(0) - counts_U).int()


def sorted_by_numpy(ids_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `sorted_by_id`. One sort of integers, the id above its position, takes a third of the time of an argsort."""
    keys = ids_N.numpy().astype(np.int64)
    keys <<= 32
    keys |= np.arange(len(keys))
    keys.sort()
    sorted_N = (keys >> 32).astype(np.int32)
    begins_U = np.flatnonzero(np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]])[: len(keys)])
    found = sorted_N[begins_U].astype(np.int64), keys.astype(np.int32), begins_U.astype(np.int32)
    ids_U, order_N, begins = map(torch.from_numpy, found)
    return ids_U, order_N, begins


def look_up(table: Tensor, bags: Bags) -> Tensor:
    """The mean of each bag's rows of a table, [R, E]; 0 for an empty bag. The table's gradient is sparse, coalesced."""
    rows: Tensor = _LookUp.apply(table, bags)  # type: ignore[no-untyped-call]
    return rows


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, bags: Bags) -> Tensor:
        ctx.bags, ctx.shape = bags, table.shape
        if table.shape[1] == 1 and not bags.pooled:
            return table.detach().view(-1).index_select(0, bags.ids)[:, None]
        return F.embedding_bag(bags.ids, table.detach(), bags.begins, mode="mean" if bags.pooled else "sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RE: Tensor) -> tuple[Tensor, None]:
        ids_U, bag_N, begins_U, weight_N = ctx.bags.by_id
        weights = None if weight_N is None else weight_N.to(grad_RE.dtype)
        rows_UE = F.embedding_bag(bag_N, grad_RE.contiguous(), begins_U, mode="sum", per_sample_weights=weights)
        grad = torch.sparse_coo_tensor(ids_U[None], rows_UE, ctx.shape, is_coalesced=True, check_invariants=False)
        return grad, None


def in_rows(vectors_RE: Tensor, size: int, n_fields: int) -> Tensor:
    """[B, F + S, E] of what was looked up: vectors of fields row by row, then of one sequence after the other."""
    width = vectors_RE.shape[1]
    if len(vectors_RE) == size * n_fields:
        return vectors_RE.view(size, n_fields, width)
    fields, pooled = torch.split(vectors_RE, [size * n_fields, len(vectors_RE) - size * n_fields])
    return torch.cat([fields.view(size, n_fields, width), pooled.view(-1, size, width).transpose(0, 1)], 1)


def single_task(tasks: Sequence[Task], model: str) -> tuple[Task]:
    """The one classification task of a model of clicks.

    Raises:
        ConfigError: There are others.
    """
    if len(tasks) != 1 or tasks[0].kind != "classification":
        named = ", ".join(f"{task.name} ({task.kind})" for task in tasks)
        raise ConfigError(
            f"model={model} predicts one classification; the data set has the tasks {named or 'none'}: leave "
            "others out with ~dataset.tasks.NAME, or use a model of several such as shared_bottom"
        )
    return (tasks[0],)
