"""Tables in the program's memory, read as files are: pandas and polars frames, numpy arrays, sparse matrices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from recrun.data.io import memory
from recrun.data.io.arrays import chunks_of
from recrun.data.io.chunks import Chunk, Wanted
from recrun.data.io.columns import Columns
from recrun.data.io.layout import refuse_twice
from recrun.data.io.raw_events import RawEvents
from recrun.errors import DataError

FORMS = (
    "a pandas or polars DataFrame, a structured numpy array, a numpy array [events, 2] of users and items (or "
    "with more columns, which dataset.columns names), a scipy sparse matrix of users and items, or a mapping of column "
    "names to arrays"
)

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class MemoryTable:
    """A table by columns, as long as someone holds this object.

    Attributes:
        name: What stands for it in a config, "memory:<hash>".
        columns: Arrays [rows] by name; copies, so that the program may change its own.
        names: What the columns are called instead, in their order; None = by their own names.
    """

    name: str
    columns: Arrays
    names: Sequence[str] | None = None

    def called(self, names: Sequence[str] | None) -> MemoryTable:
        """The same table with other names of its columns; None leaves them."""
        return self if names is None else replace(self, names=tuple(names))

    def header(self) -> list[str]:
        """Names of the columns."""
        return list(self._named())

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A cell cannot be used; names row and column.
            NotIntegers: An id that is wanted as an integer is none.
        """
        return chunks_of(self._named(), wanted, self)

    def location(self, row: int) -> str:
        """The table and the number of a row; the table alone below 0."""
        return f"{self.name}: row {row + 1}" if row >= 0 else self.name

    def _named(self) -> Arrays:
        if self.names is None:
            return self.columns
        if len(self.names) != len(self.columns):
            raise DataError(
                f"{self.name} has {len(self.columns)} columns, dataset.columns names {len(self.names)}: "
                f"{', '.join(self.names)}"
            )
        return dict(zip(self.names, self.columns.values(), strict=True))


def hold(table: Any) -> MemoryTable:
    """Makes a table readable under its name, for as long as what is returned is held.

    Args:
        table: See FORMS. Cells mean what they would mean in a file: None and NaN are empty cells.

    Raises:
        DataError: It is no table, or a column is none of ids, texts, numbers or times.
    """
    columns = {name: plain(name, column) for name, column in columns_of(table)}
    name = f"{memory.PREFIX}{digest(columns)}"
    found: MemoryTable = memory.keep(name, MemoryTable(name, columns))
    return found


def is_table(value: Any) -> bool:
    """Whether a value is data rather than a plain value of a config."""
    if isinstance(value, np.ndarray) or hasattr(value, "tocoo") or _is_frame(value):
        return True
    return (
        isinstance(value, Mapping) and bool(value) and all(isinstance(column, np.ndarray) for column in value.values())
    )


def events_of_table(table: Any, columns: Columns | None = None) -> RawEvents:
    """The events of a table, for a `dataset.source` that reads a format of one's own.

    Args:
        table: See FORMS.
        columns: Names of its columns; None = recognised by common names.

    Raises:
        DataError: As for a file.
    """
    from recrun.data.io.event_reader import read_events

    held = hold(table)
    return read_events([(None, Path(held.name))], columns or Columns())


def columns_of(table: Any) -> list[tuple[str, Any]]:
    """The columns of a table with their names, in order."""
    if _is_frame(table):
        if any(name is not None for name in getattr(getattr(table, "index", None), "names", ())):
            table = table.reset_index()  # a named index of pandas is a column
        refuse_twice(list(map(str, table.columns)), "the table")
        return [(str(name), table[name]) for name in table.columns]
    if hasattr(table, "tocoo"):
        matrix = table.tocoo()
        return [("user", matrix.row), ("item", matrix.col), ("rating", matrix.data)]
    if isinstance(table, np.ndarray) and table.dtype.names:
        return [(name, table[name]) for name in table.dtype.names]
    if isinstance(table, np.ndarray) and table.ndim == 2:
        names = ("user", "item") if table.shape[1] == 2 else map(str, range(table.shape[1]))
        return list(zip(names, table.T, strict=True))
    if isinstance(table, Mapping) and len({len(column) for column in table.values()}) == 1:
        return [(str(name), column) for name, column in table.items()]
    shape = f" of shape {list(table.shape)}" if isinstance(table, np.ndarray) else ""
    raise DataError(f"expected {FORMS}, not {type(table).__name__}{shape}")


def plain(name: str, column: Any) -> np.ndarray:
    """A column as a numpy array of its own: dates in UTC, categories as their values, None and NaN where empty."""
    zone = getattr(getattr(column, "dtype", None), "tz", None)
    if zone is not None:  # pandas
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    array = np.array(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if array.ndim == 1 and array.dtype.kind == "O":
        found = next((cell for cell in array if cell is not None and cell is not np.nan), None)
        if isinstance(found, list | tuple | dict | set | np.ndarray):
            raise DataError(
                f"column {name} holds a {type(found).__name__} in each cell: give a row for each value, or join the "
                "values of a cell to a text"
            )
        return array
    if array.ndim != 1 or array.dtype.kind not in "biufMSU":
        raise DataError(
            f"column {name} is {array.dtype} of {array.ndim} dimensions: expected ids, texts, numbers, times"
        )
    return array


def digest(columns: Arrays) -> str:
    """sha256 of names, types and cells."""
    found = hashlib.sha256()
    for name, column in columns.items():
        found.update(f"{name}\0{column.dtype.str}\0{len(column)}\n".encode())
        if column.dtype.kind == "O":
            texts = [str(cell) for cell in column.tolist()]
            found.update(np.array([len(text) for text in texts], np.int64).data)
            found.update("".join(texts).encode(errors="surrogatepass"))
        else:
            found.update(np.ascontiguousarray(column).view(np.uint8).data)
    return found.hexdigest()


def _is_frame(value: Any) -> bool:
    """Whether a value is a DataFrame of pandas, polars or a library like them."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and hasattr(value, "shape")
