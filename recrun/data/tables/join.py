"""Side tables: a row for each value of a column, whose other columns are put beside the rows."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recrun.data.tables.chunks import Chunk, TableFile, Wanted, joined_chunks
from recrun.data.types import Int64
from recrun.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Side:
    """A side table in memory.

    Attributes:
        key: The column that both tables have.
        rows: The wanted columns.
        index: Rows by the text of their key.
    """

    key: str
    rows: Chunk
    index: Any

    @classmethod
    def read(cls, key: str, table: TableFile, wanted: Wanted, elsewhere: Set[str]) -> Side:
        """Those of the wanted columns that are here and not in the table that is joined to.

        Raises:
            DataError: Two rows have the same key.
        """
        import pandas as pd

        wanted = wanted.only(set(table.header()) - elsewhere)
        rows = joined_chunks(list(table.chunks(wanted.and_texts([key]))), wanted.and_texts([key]))
        keys = rows.texts[key]
        index: pd.Index[Any] = pd.Index(keys.values[keys.codes], dtype=object)
        if not index.is_unique:
            row = int(np.flatnonzero(index.duplicated())[0])
            raise DataError(f"{table.place(row)}: {key} {index[row]!r} is there twice; a side table has each once")
        own = {name: texts for name, texts in rows.texts.items() if name in wanted.texts}
        return cls(key, Chunk(rows.size, own, rows.lists, rows.numbers), index)

    @property
    def columns(self) -> set[str]:
        """What it adds."""
        return {*self.rows.texts, *self.rows.lists, *self.rows.numbers}

    def attach(self, chunk: Chunk) -> Chunk:
        """A chunk with these columns; cells are empty where a key is not here."""
        keys = chunk.texts[self.key]
        row: Int64 = self.index.get_indexer(keys.values)[keys.codes]
        return Chunk(
            chunk.size,
            {**chunk.texts, **{name: texts.take(row) for name, texts in self.rows.texts.items()}},
            {**chunk.lists, **{name: lists.take(row) for name, lists in self.rows.lists.items()}},
            {**chunk.numbers, **{name: np.append(x, np.nan)[row] for name, x in self.rows.numbers.items()}},
        )
