"""What the columns of a table are called and how wide they are. Data sets describe them, models are built from them.

Importing this costs nothing: no torch, no numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Field:
    """A feature whose values are ids.

    Ids in a batch are rows of one table that all fields share: `first` up to `first + size`, and `first` itself is
    whatever training did not know. Fields with equal `first` share their rows.

    Attributes:
        name: Of the column.
        first: The field's first row.
        size: Its number of rows, the unknown value included.
    """

    name: str
    first: int
    size: int


@dataclass(frozen=True)
class Features:
    """The inputs of a model, in the order in which batches hold them.

    Attributes:
        fields: One id a row: the columns of `batch["sparse"]`, int32 [B, F].
        dense: Names of the columns of `batch["dense"]`, float32 [B, D].
        sequences: Any number of ids a row, oldest first: ragged, `batch[name]` int32 [N] and `name_offsets`.
    """

    fields: tuple[Field, ...]
    dense: tuple[str, ...] = ()
    sequences: tuple[Field, ...] = ()

    @property
    def n_ids(self) -> int:
        """Rows of the table that the fields share."""
        return max((field.first + field.size for field in (*self.fields, *self.sequences)), default=0)

    @property
    def n_vectors(self) -> int:
        """Vectors of a row: one for each field and each sequence."""
        return len(self.fields) + len(self.sequences)


@dataclass(frozen=True)
class Task:
    """A column to predict; `batch["label"]` is float32 [B, T].

    Attributes:
        name: Of the column.
        kind: classification has labels 0 and 1, and models give its logit; regression has any finite number.
    """

    name: str
    kind: Literal["classification", "regression"] = "classification"
