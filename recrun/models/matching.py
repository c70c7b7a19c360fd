"""What models that retrieve share: rows of a table, means over histories, scores of users and items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.models.embedding import Bags, look_up
from recrun.models.mlp import hidden_layers, output_width
from recrun.types import Batch

ITEMS_AT_ONCE = 1 << 16


class Scores(nn.Module):
    """Inner products of users and items, of unit vectors if `normalize`, divided by the temperature.

    In eval mode the vectors of the catalogue are computed once, and again after `train` or `eval` was called.
    """

    def __init__(self, n_items: int, temperature: float, normalize: bool) -> None:
        super().__init__()
        self.n_items, self.temperature, self.normalize = n_items, temperature, normalize
        self.catalogue_ID: Tensor | None = None

    def train(self, mode: bool = True) -> Scores:
        """Forgets the catalogue: weights may have changed."""
        self.catalogue_ID = None
        return super().train(mode)

    def unit(self, vectors: Tensor) -> Tensor:
        """The vectors as they are compared."""
        return F.normalize(vectors, dim=-1) if self.normalize else vectors

    def forward(self, user_QD: Tensor, batch: Batch, item_vectors: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [Q, 1 + K] of the batch's `candidates` if it has them; in eval mode, else, of all items, [Q, I].

        Args:
            user_QD: What `queries` of the model gives.
            batch: See recrun.data.retrieval.
            item_vectors: Vectors of the items [U], [U, D].

        Raises:
            ConfigError: In training, the batch has no candidates.
        """
        if "candidates" in batch:
            items_U, place = distinct(batch["candidates"].flatten(), self.n_items)
            chosen_QCD = F.embedding(place.view_as(batch["candidates"]), item_vectors(items_U))
            return (chosen_QCD * (user_QD / self.temperature)[:, None]).sum(2)
        if self.training:
            raise ConfigError(
                "this objective compares a target with candidates of its own: set dataset.negatives=query and "
                "dataset.num_negatives above 0, or choose objective=in_batch or objective=catalogue_softmax"
            )
        return user_QD @ self.catalogue(item_vectors, user_QD.device).t() / self.temperature

    def catalogue(self, item_vectors: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
        """Vectors of all items, [I, D]; kept for the next batch where no gradient is wanted."""
        if self.catalogue_ID is not None and not torch.is_grad_enabled():
            return self.catalogue_ID
        parts = torch.split(torch.arange(self.n_items, device=device), ITEMS_AT_ONCE)
        vectors_ID = torch.cat([item_vectors(part) for part in parts])
        self.catalogue_ID = None if torch.is_grad_enabled() else vectors_ID
        return vectors_ID


def tower(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Hidden layers and, as wide as the last size says, a linear one."""
    *before, last = hidden
    return nn.Sequential(*hidden_layers(width, before, dropout), nn.Linear(output_width(width, before), last))


def distinct(index_N: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The distinct values of an index below `n`, [U], in any order, and where each entry is among them, [N]."""
    slot = index_N.new_empty(n)
    count = torch.arange(len(index_N), device=index_N.device)
    slot[index_N] = count
    values_U = index_N[slot[index_N] == count]
    slot[values_U] = count[: len(values_U)]
    return values_U, slot[index_N]


def rows_of(query: Tensor, offsets: Tensor) -> Tensor:
    """The row that each query is about, int64 [Q]."""
    return torch.bucketize(query, offsets[1:], right=True)


def at_queries(values_RE: Tensor, batch: Batch) -> Tensor:
    """What is known of a row, for each query about it, [Q, E]."""
    if len(batch["query"]) == len(values_RE):
        return values_RE
    return F.embedding(rows_of(batch["query"], batch["items_offsets"]), values_RE)


def history_means(table: Tensor, items_N: Tensor, offsets: Tensor, query: Tensor) -> Tensor:
    """Mean of the rows of a history up to each query, its own item included, [Q, E].

    Args:
        table: [I, E].
        items_N: Histories of R rows, flat; each row is asked about at its end, perhaps before.
        offsets: [R + 1].
        query: Places in `items_N`, ascending, [Q].
    """
    begins_Q = F.pad(query[:-1] + 1, (1, 0))
    between_QE = look_up(table, Bags(items_N, begins_Q.int()))
    if len(query) == len(offsets) - 1:
        return between_QE
    row_Q = rows_of(query, offsets)
    sums_QE = sums_within(between_QE * (query + 1 - begins_Q)[:, None], row_Q, len(offsets) - 1)
    return sums_QE / (query + 1 - offsets[row_Q])[:, None]


def sums_within(values_QE: Tensor, row_Q: Tensor, n_rows: int) -> Tensor:
    """Running sums over the entries of each row; rows ascend. No row's rounding reaches another one."""
    padded = places_within(row_Q, n_rows)
    return padded.flat(padded.pad(values_QE).cumsum(1))


class Padded(NamedTuple):
    """Where N entries of R ascending rows are in an array [R, longest]."""

    places: Tensor
    n_rows: int
    longest: int

    def pad(self, values_NE: Tensor) -> Tensor:
        """[R, longest, E], zero behind the end of a row."""
        rows = values_NE.new_zeros(self.n_rows * self.longest, values_NE.shape[1])
        return rows.index_copy(0, self.places, values_NE).view(self.n_rows, self.longest, -1)

    def flat(self, rows: Tensor) -> Tensor:
        """[N, E] of [R, longest, E]."""
        return rows.flatten(0, 1).index_select(0, self.places)


def places_within(row_N: Tensor, n_rows: int) -> Padded:
    """Of entries with ascending rows, int64 [N]."""
    counts = torch.bincount(row_N, minlength=n_rows)
    longest = int(counts.max())
    within_N = torch.arange(len(row_N), device=row_N.device) - (counts.cumsum(0) - counts)[row_N]
    return Padded(row_N * longest + within_N, n_rows, longest)


class Table(nn.Module):
    """Values of features for each of n things, from which batches of some of them are made; no weights.

    Args:
        values: By name, arrays [n, ...]; of ragged ones the flat values, and `name_offsets` [n + 1].
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.whole = [name for name in values if f"{name}_offsets" not in values and not name.endswith("_offsets")]
        self.ragged = [name for name in values if f"{name}_offsets" in values]
        for name, array in values.items():
            self.register_buffer(f"of_{name}", torch.as_tensor(array), persistent=False)

    def batch(self, index: Tensor) -> Batch:
        """The rows `index`, as a table's batch holds them."""
        found: Batch = {name: self.get_buffer(f"of_{name}")[index] for name in self.whole}
        for name in self.ragged:
            offsets = self.get_buffer(f"of_{name}_offsets")
            found |= take_ragged(name, self.get_buffer(f"of_{name}"), offsets, index)
        return found


def take_ragged(name: str, flat: Tensor, offsets: Tensor, index: Tensor) -> Batch:
    """Rows of a ragged field, under its name."""
    lengths = offsets.diff()[index]
    taken = F.pad(lengths.cumsum(0), (1, 0))
    shift = torch.repeat_interleave(offsets[index] - taken[:-1], lengths)
    return {name: flat[torch.arange(len(shift), device=flat.device) + shift], f"{name}_offsets": taken}
