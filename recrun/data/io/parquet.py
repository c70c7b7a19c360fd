"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io import arrays
from recrun.data.io.arrays import Unusable
from recrun.data.io.chunks import CHUNK_ROWS, Chunk, Lists, NotIntegers, Numbers, Texts, Times, Wanted
from recrun.data.io.layout import refuse_twice
from recrun.data.types import Int64
from recrun.errors import DataError


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file. Null and NaN are missing cells."""

    path: Path

    def header(self) -> list[str]:
        """Names of the columns."""
        with self._open() as file:
            names = list(file.schema_arrow.names)
            refuse_twice(names, str(self.path))
            return names

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A cell cannot be used; names row and column.
            NotIntegers: An id that is wanted as an integer is none.
        """
        begin = 0
        with self._open() as file:
            for batch in file.iter_batches(wanted.rows or CHUNK_ROWS, columns=sorted(wanted.columns)):
                yield arrays.chunk_of(
                    {name: _Column(batch[name]) for name in wanted.columns}, len(batch), wanted, self, begin
                )
                begin += len(batch)

    def location(self, row: int) -> str:
        """The file and number of a row; the file alone below 0."""
        return f"{self.path}: row {row + 1}" if row >= 0 else str(self.path)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise DataError(f"{self.path}: reading Parquet needs pyarrow: pip install 'recrun[parquet]'") from None
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None


class _Column:
    """A column of a batch, as cells of each kind."""

    def __init__(self, array: Any) -> None:
        import pyarrow as pa

        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_run_end_encoded(array.type):
            array = pa.compute.run_end_decode(array)
        self.array, self.type = array, array.type

    def texts(self) -> Texts:
        """See `arrays.texts_of`."""
        import pyarrow as pa

        types = _types()
        if types.is_integer(self.type) or types.is_floating(self.type) or types.is_boolean(self.type):
            return arrays.texts_of(*self._numpy())
        if types.is_nested(self.type) or types.is_duration(self.type) or types.is_interval(self.type):
            raise Unusable(f"is {self.type}, which is neither an id nor text")
        try:
            coded = self.array.cast(pa.large_string()).fill_null("").dictionary_encode()
        except pa.ArrowException as error:
            raise Unusable(f"is {self.type}, which has no text ({error})") from None
        codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        return Texts(codes, coded.dictionary.to_numpy(zero_copy_only=False).astype(object))

    def lists(self, separator: str) -> Lists:
        """A column of lists, or of text that a separator takes apart."""
        import pyarrow as pa

        array = self.array
        if pa.types.is_fixed_size_list(self.type):
            array = array.cast(pa.list_(self.type.value_type))
        elif not (pa.types.is_list(self.type) or pa.types.is_large_list(self.type)):
            return Lists.split(self.texts(), separator)
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return Lists(offsets, _Column(array.flatten()).texts())

    def numbers(self) -> Numbers:
        """See `arrays.numbers_of`."""
        return arrays.numbers_of(*self._numpy())

    def integers(self) -> Int64:
        """See `arrays.integers_of`."""
        if not (_types().is_integer(self.type) or _types().is_floating(self.type)):
            raise NotIntegers
        return arrays.integers_of(*self._numpy())

    def times(self) -> Times:
        """See `arrays.times_of`."""
        return arrays.times_of(*self._numpy())

    def _numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """Values, and where there are none."""
        import pyarrow as pa

        types, array = _types(), self.array
        missing = array.is_null().to_numpy(zero_copy_only=False)
        if types.is_null(self.type):
            return np.full(len(array), np.nan), missing
        if types.is_integer(self.type) or types.is_boolean(self.type):
            filled = array.fill_null(False if types.is_boolean(self.type) else 0)
            return filled.to_numpy(zero_copy_only=False), missing
        if types.is_floating(self.type):
            return array.to_numpy(zero_copy_only=False), missing
        if types.is_decimal(self.type):
            return array.cast(pa.float64()).to_numpy(zero_copy_only=False), missing
        if types.is_date(self.type) or types.is_timestamp(self.type):
            unit = "s" if types.is_date(self.type) else self.type.unit
            plain = array.cast(pa.timestamp(unit)) if types.is_date(self.type) else array
            whole = plain.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
            return whole.astype(f"datetime64[{unit}]"), missing
        if types.is_nested(self.type) or types.is_temporal(self.type):
            raise Unusable(f"is {self.type}, which is neither a number nor a date")
        texts = self.texts()
        return texts.values[texts.codes], missing


def _types() -> Any:
    import pyarrow as pa

    return pa.types
