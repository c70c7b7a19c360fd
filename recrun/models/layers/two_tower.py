"""What models that retrieve share: scores of users and items, means over histories, rows of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.mlp import hidden_layers, output_width
from recrun.types import Batch

ITEMS_AT_ONCE = 1 << 16


class Retriever(nn.Module, ABC):
    """Base of models that rank a catalogue by inner products of users' and items' vectors over the temperature.

    In eval mode the vectors of the catalogue are computed once, and again after `train` or `eval` was called.

    Args:
        n_items: Items in the catalogue.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
    """

    kind: ClassVar[str] = "histories"
    sparse_gradients: ClassVar[bool] = True

    def __init__(self, n_items: int, temperature: float, normalize: bool) -> None:
        super().__init__()
        self.n_items, self.temperature, self.normalize = n_items, temperature, normalize
        self.catalogue_ID: Tensor | None = None

    @abstractmethod
    def queries(self, batch: Batch) -> Tensor:
        """A user's vector at each query of a batch, [Q, D]; see recrun.data.loaders.histories."""

    @abstractmethod
    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""

    def unit(self, vectors: Tensor) -> Tensor:
        """The vectors as they are compared."""
        return F.normalize(vectors.float(), dim=-1) if self.normalize else vectors

    def forward(self, batch: Batch) -> Tensor:
        """Logits [Q, 1 + K] of the batch's `candidates` if it has them; in eval mode, else, of all items, [Q, I].

        They are float32 also under autocast: in 16 bits the best of a catalogue tie by the dozen.

        Raises:
            ConfigError: In training, the batch has no candidates.
        """
        user_QD = self.queries(batch).float() / self.temperature
        if "candidates" in batch:
            chosen_QCD = F.embedding(batch["candidates"], self.item_vectors(batch["columns"]))
            return (chosen_QCD.float() * user_QD[:, None]).sum(2)
        if self.training:
            raise ConfigError(
                "this objective compares a target with candidates of its own: set loader.negatives=query and "
                "loader.num_negatives above 0, or choose objective=in_batch or objective=catalogue_softmax"
            )
        catalogue_ID = self.catalogue(user_QD.device)
        with torch.autocast(user_QD.device.type, enabled=False):
            return user_QD @ catalogue_ID.t()

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per user, float32 [B]."""
        return (self.queries(batch).float() * self.item_vectors(items_B).float()).sum(1) / self.temperature

    def embed_users(self, batch: Batch) -> Tensor:
        """Users' vectors, [B, D]."""
        return self.queries(batch)

    def embed_items(self, batch: Batch) -> Tensor:
        """Vectors of the items in `batch["item"]`, [B, D]."""
        return self.item_vectors(batch["item"])

    def catalogue(self, device: torch.device) -> Tensor:
        """Vectors of all items, float32 [I, D]; kept for the next batch where no gradient is wanted."""
        if self.catalogue_ID is not None and not torch.is_grad_enabled():
            return self.catalogue_ID
        parts = torch.split(torch.arange(self.n_items, device=device), ITEMS_AT_ONCE)
        vectors_ID = torch.cat([self.item_vectors(part).float() for part in parts])
        self.catalogue_ID = None if torch.is_grad_enabled() else vectors_ID
        return vectors_ID

    def train(self, mode: bool = True) -> Retriever:
        """Forgets the catalogue: weights may have changed."""
        self.catalogue_ID = None
        return super().train(mode)


def tower(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Hidden layers and, as wide as the last size says, a linear one."""
    *before, last = hidden
    return nn.Sequential(*hidden_layers(width, before, dropout), nn.Linear(output_width(width, before), last))


def row_of_query(query: Tensor, offsets: Tensor) -> Tensor:
    """The row that each query is about, int64 [Q]."""
    return torch.bucketize(query, offsets[1:], right=True)


def at_queries(values_RE: Tensor, batch: Batch) -> Tensor:
    """What is known of a row, for each query about it, [Q, E]."""
    if len(batch["query"]) == len(values_RE):
        return values_RE
    return F.embedding(row_of_query(batch["query"], batch["items_offsets"]), values_RE)


def history_means(table: Tensor, batch: Batch) -> Tensor:
    """Mean of the rows of a table over a history up to each query, its own item included, [Q, E].

    Args:
        table: [I, E].
        batch: `items`, `items_offsets`, `longest` and `query`; each row is asked about at its end, perhaps before.
    """
    offsets, query = batch["items_offsets"], batch["query"]
    begins_Q = F.pad(query[:-1] + 1, (1, 0))
    between_QE = look_up(table, Bags(batch["items"], begins_Q.int()))
    if len(query) == len(offsets) - 1:
        return between_QE
    row_Q = row_of_query(query, offsets)
    padded = Padded.of(row_Q, torch.bucketize(offsets[:-1], query), len(batch["longest"]))
    sums_QE = sums_within(between_QE * (query + 1 - begins_Q)[:, None], padded)
    return sums_QE / (query + 1 - offsets[row_Q])[:, None]


def sums_within(values_QE: Tensor, padded: Padded) -> Tensor:
    """Running sums over the entries of each row. No row's rounding reaches another one."""
    return padded.flat(padded.pad(values_QE).cumsum(1))


class Padded(NamedTuple):
    """Where N entries of R ascending rows are in an array [R, longest]."""

    positions: Tensor
    n_rows: int
    longest: int

    @classmethod
    def of(cls, row_N: Tensor, first_R: Tensor, longest: int) -> Padded:
        """Of the row of each entry, the first entry of each row, and how many entries a row has at most."""
        within_N = torch.arange(len(row_N), device=row_N.device) - first_R[row_N]
        return cls(row_N * longest + within_N, len(first_R), longest)

    def pad(self, values_NE: Tensor) -> Tensor:
        """[R, longest, E], zero behind the end of a row."""
        rows = values_NE.new_zeros(self.n_rows * self.longest, values_NE.shape[1])
        return rows.index_copy(0, self.positions, values_NE).view(self.n_rows, self.longest, -1)

    def flat(self, rows: Tensor) -> Tensor:
        """[N, E] of [R, longest, E]."""
        return rows.flatten(0, 1).index_select(0, self.positions)


class FeatureTable(nn.Module):
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
