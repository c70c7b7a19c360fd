"""Parquet files as chunks of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.tables.chunks import Chunk, Lists, Texts, Wanted
from recrun.data.types import Float
from recrun.errors import DataError

CHUNK_ROWS = 1 << 17


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file. Null is a missing cell; ids of any type are taken as their text."""

    path: Path

    def header(self) -> list[str]:
        """Names of the columns."""
        with self._open() as file:
            return list(file.schema_arrow.names)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time. Raises DataError for a number that is none."""
        begin = 0
        with self._open() as file:
            for batch in file.iter_batches(CHUNK_ROWS, columns=sorted(wanted.columns)):
                yield Chunk(
                    len(batch),
                    {name: texts_of(batch[name]) for name in wanted.texts},
                    {name: lists_of(batch[name], separator) for name, separator in wanted.lists.items()},
                    {name: self._numbers(batch[name], name, begin) for name in wanted.numbers},
                )
                begin += len(batch)

    def place(self, row: int) -> str:
        """The file and number of a row; the file alone below 0."""
        return f"{self.path}: row {row + 1}" if row >= 0 else str(self.path)

    def _open(self) -> Any:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise DataError(f"{self.path}: reading Parquet needs pyarrow: pip install 'recrun[parquet]'") from None
        try:
            return pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path}: cannot be read as Parquet ({error})") from None

    def _numbers(self, column: Any, name: str, begin: int) -> Float:
        import pyarrow as pa

        try:
            numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowException as error:
            raise DataError(f"{self.path}: column {name} is not numbers ({error})") from None
        bad = ~np.isfinite(numbers) & column.is_valid().to_numpy(zero_copy_only=False)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{self.place(begin + row)}: column {name} is {numbers[row]}, not a finite number")
        return np.asarray(numbers, np.float64)


def texts_of(column: Any) -> Texts:
    """A column as text."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    coded = column.cast(pa.string()).fill_null("").dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return Texts(codes, coded.dictionary.to_numpy(zero_copy_only=False))


def lists_of(column: Any, separator: str) -> Lists:
    """A column of lists, or of text that a separator takes apart."""
    import pyarrow as pa

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return Lists.split(texts_of(column), separator)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Lists(offsets, texts_of(column.flatten()))
