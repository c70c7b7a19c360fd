"""Arrays of a .npz file as chunks of a table."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recrun.data.tables.chunks import Chunk, Lists, Texts, Wanted
from recrun.data.types import Float
from recrun.errors import DataError

CHUNK_ROWS = 1 << 17


@dataclass(frozen=True)
class ArrayTable:
    """A .npz file: an array [R] is a column of its name, an array [R, W] is the columns name0, name1, ….

    Arrays of another length than the most are left out. They are in memory as a whole while they are read.
    """

    path: Path

    def header(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time. Raises DataError for a number that is none."""
        columns = {name: self._columns[name] for name in wanted.columns}
        rows = len(next(iter(columns.values())))
        for begin in range(0, rows, CHUNK_ROWS):
            some = {name: column[begin : begin + CHUNK_ROWS] for name, column in columns.items()}
            yield Chunk(
                min(CHUNK_ROWS, rows - begin),
                {name: texts_of(some[name]) for name in wanted.texts},
                {name: Lists.split(texts_of(some[name]), separator) for name, separator in wanted.lists.items()},
                {name: self._numbers(some[name], name, begin) for name in wanted.numbers},
            )

    def place(self, row: int) -> str:
        """The file and number of a row; the file alone below 0."""
        return f"{self.path}: row {row + 1}" if row >= 0 else str(self.path)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files if stored[name].ndim in (1, 2)}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: not a .npz file of plain arrays ({error})") from None
        lengths = [len(array) for array in arrays.values()]
        rows = max(set(lengths), key=lengths.count, default=0)
        columns: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            if len(array) == rows:
                columns |= {name: array} if array.ndim == 1 else {f"{name}{at}": x for at, x in enumerate(array.T)}
        return columns

    def _numbers(self, column: np.ndarray, name: str, begin: int) -> Float:
        try:
            numbers = column.astype(np.float64)
        except ValueError as error:
            raise DataError(f"{self.path}: column {name} is not numbers ({error})") from None
        if np.isfinite(numbers).all():
            return numbers
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{self.place(begin + row)}: column {name} is {numbers[row]}, not a finite number")


def texts_of(column: np.ndarray) -> Texts:
    """A column as text."""
    values, codes = np.unique(column, return_inverse=True)
    return Texts(codes.astype(np.int32), values.astype(str).astype(object))
