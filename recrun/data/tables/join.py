"""Side tables: a row for each value of a column, whose other columns are put beside the rows."""

from __future__ import annotations

import logging
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recrun.data.io.chunks import Chunk, DataFile, Texts, Wanted, joined_chunks
from recrun.data.types import Int64
from recrun.errors import DataError

log = logging.getLogger("recrun")

if TYPE_CHECKING:
    import pandas as pd


LOW_SHARE = 0.5  # of rows that a side table describes; below there is a warning


@dataclass
class JoinTable:
    """A side table in memory.

    Attributes:
        name: Its file.
        key: The column that both tables have.
        rows: The wanted columns.
        index: Rows by the text of their key.
        seen, matched: Rows that were joined, and how many of them the side table describes.
        unmatched: A key that it does not have.
    """

    name: str
    key: str
    rows: Chunk
    index: Any
    seen: int = 0
    matched: int = 0
    unmatched: str = ""

    @classmethod
    def read(cls, key: str, table: DataFile, wanted: Wanted, elsewhere: Set[str]) -> JoinTable:
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
            raise DataError(f"{table.location(row)}: {key} {index[row]!r} is there twice; a side table has each once")
        own = {name: texts for name, texts in rows.texts.items() if name in wanted.texts}
        return cls(table.location(-1), key, Chunk(rows.size, own, rows.lists, rows.numbers), index)

    @property
    def columns(self) -> set[str]:
        """What it adds."""
        return {*self.rows.texts, *self.rows.lists, *self.rows.numbers}

    def attach(self, chunk: Chunk) -> Chunk:
        """A chunk with these columns; cells are empty where a key is not here."""
        keys = chunk.texts[self.key]
        row: Int64 = self.index.get_indexer(keys.values)[keys.codes]
        self._count(keys, row)
        numbers = {name: np.append(x, x.dtype.type(np.nan))[row] for name, x in self.rows.numbers.items()}
        return Chunk(
            chunk.size,
            {**chunk.texts, **{name: texts.take(row) for name, texts in self.rows.texts.items()}},
            {**chunk.lists, **{name: lists.take(row) for name, lists in self.rows.lists.items()}},
            {**chunk.numbers, **numbers},
        )

    def _count(self, keys: Texts, row: Int64) -> None:
        without = np.flatnonzero(row < 0)
        self.seen, self.matched = self.seen + len(row), self.matched + len(row) - len(without)
        if len(without) and not self.unmatched:
            self.unmatched = keys.values[keys.codes[without[0]]]

    def check_matches(self, learning: bool) -> None:
        """Warns of a side table that describes few of the rows. Raises DataError if a model is to learn from none."""
        if not self.columns or self.matched >= LOW_SHARE * self.seen:
            return
        found = (
            f"{self.name} describes {self.matched} of {self.seen} rows ({self.matched / self.seen:.1%}): "
            f"{self.key} {self.unmatched!r} is not there"
        )
        if learning and not self.matched:
            like = f"its ids are like {self.index[0]!r}" if len(self.index) else "it has no rows"
            raise DataError(f"{found}, nor any other; {like} (dataset.join.{self.key})")
        log.warning("%s (dataset.join.%s)", found, self.key)
