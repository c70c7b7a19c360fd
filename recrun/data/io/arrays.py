"""Arrays as the cells of a column: what .npz files hold, and what Parquet becomes. They read as their text would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from recrun.data.io.chunks import CHUNK_ROWS, Chunk, DataFile, Lists, NotIntegers, Numbers, Texts, Times, Wanted
from recrun.data.io.numerals import numbers_of_texts
from recrun.data.io.times import times_of_texts
from recrun.data.types import Int64, Mask
from recrun.errors import DataError

INT64 = np.iinfo(np.int64)
WHOLE = 2.0**53  # above, floating numbers are not all whole numbers there are


class Unusable(ValueError):
    """A column that cannot be what it is wanted as; says why, without its name."""


class Cells(Protocol):
    """Cells, as each kind there is; each method raises `Unusable` if they are not of that kind."""

    def texts(self) -> Texts:
        """As text."""

    def lists(self, separator: str) -> Lists:
        """As lists of texts."""

    def numbers(self) -> Numbers:
        """As numbers."""

    def integers(self) -> Int64:
        """As int64. Raises `NotIntegers` if they are others."""

    def times(self) -> Times:
        """As times."""


@dataclass(frozen=True)
class ArrayColumn:
    """An array as a column."""

    array: NDArray[Any]

    def texts(self) -> Texts:
        """See `texts_of`."""
        return texts_of(self.array)

    def lists(self, separator: str) -> Lists:
        """Texts taken apart."""
        return Lists.split(self.texts(), separator)

    def numbers(self) -> Numbers:
        """See `numbers_of`."""
        return numbers_of(self.array)

    def integers(self) -> Int64:
        """See `integers_of`."""
        return integers_of(self.array)

    def times(self) -> Times:
        """See `times_of`."""
        return times_of(self.array)


T = TypeVar("T")


def chunk_of(columns: Mapping[str, Cells], size: int, wanted: Wanted, file: DataFile, begin: int) -> Chunk:
    """The wanted cells of some rows.

    Args:
        columns: By name.
        size: Rows.
        wanted: What is read.
        file: Where they are from, for messages.
        begin: Number of the first row in the file.

    Raises:
        DataError: A column is not of the wanted kind, or a cell is missing or infinite.
    """

    def read(name: str, cells: Callable[[Cells], T]) -> T:
        try:
            return cells(columns[name])
        except Unusable as error:
            raise DataError(f"{file.location(-1)}: column {name} {error}") from None

    chunk = Chunk(
        size,
        texts={name: read(name, methodcaller("texts")) for name in wanted.texts},
        lists={name: read(name, methodcaller("lists", by)) for name, by in wanted.lists.items()},
        numbers={name: read(name, methodcaller("numbers")) for name in wanted.numbers},
        integers={name: read(name, methodcaller("integers")) for name in wanted.integers},
        times={name: read(name, methodcaller("times")) for name in wanted.times},
    )
    bad = chunk.bad_cell(wanted.required)
    if bad:
        row, name, fault = bad
        raise DataError(f"{file.location(begin + row)}: column {name} {fault}")
    return chunk


def chunks_of(columns: Mapping[str, NDArray[Any]], wanted: Wanted, file: DataFile) -> Iterator[Chunk]:
    """The wanted columns of whole arrays, some rows at a time.

    Args:
        columns: Arrays [R] by name.
        wanted: What is read.
        file: Where they are from, for messages.

    Raises:
        DataError: As `chunk_of`.
    """
    arrays = {name: columns[name] for name in wanted.columns}
    size, step = len(next(iter(arrays.values()))), wanted.rows or CHUNK_ROWS
    for begin in range(0, size, step):
        some = {name: ArrayColumn(array[begin : begin + step]) for name, array in arrays.items()}
        yield chunk_of(some, min(step, size - begin), wanted, file, begin)


def texts_of(array: NDArray[Any], missing: Mask | None = None) -> Texts:
    """Cells as text: whole numbers without a point, true and false, dates in ISO 8601; "" where missing or NaN.

    Raises:
        Unusable: They have no text.
    """
    import pandas as pd

    if array.dtype.kind not in "biufMSUO":
        raise Unusable(f"is {array.dtype}, which is neither an id nor text")
    if array.dtype.kind in "fM":
        absent = np.isnan(array) if array.dtype.kind == "f" else np.isnat(array)
        missing = absent if missing is None else missing | absent
    if array.dtype.kind == "f":
        distinct, codes = np.unique(array, return_inverse=True)
    else:
        codes, distinct = pd.factorize(array)
    values = np.empty(len(distinct) + 1, object)
    values[:-1] = _texts(distinct)
    values[-1] = ""
    codes = np.where(codes < 0, len(distinct), codes)
    if missing is not None:
        codes = np.where(missing, len(distinct), codes)
    return Texts(codes.astype(np.int32), values)


def _texts(distinct: NDArray[Any]) -> list[str]:
    kind = distinct.dtype.kind
    if kind == "b":
        return [str(value).lower() for value in distinct.tolist()]
    if kind == "f":
        return [_number(value) for value in distinct]
    if kind == "S":
        return _decoded(distinct.tolist())
    if kind == "M":
        return [text.replace("T", " ") for text in np.datetime_as_string(distinct)]
    return [str(value) for value in distinct.tolist()]


def _number(value: np.floating) -> str:
    """As short as its precision allows: "7", "0.7"."""
    number = float(value)
    return str(int(number)) if abs(number) < WHOLE and number.is_integer() else str(value)


def _decoded(values: list[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise Unusable("holds bytes that are not UTF-8 text") from None


def numbers_of(array: NDArray[Any], missing: Mask | None = None) -> Numbers:
    """Cells as numbers in their own precision, NaN where missing.

    Raises:
        Unusable: They are none.
    """
    if array.dtype.kind in "SUO":
        texts = texts_of(array, missing)
        try:
            return numbers_of_texts(texts.values)[texts.codes]
        except ValueError as error:
            raise Unusable(f"is not numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise Unusable(f"is {array.dtype}, not numbers")
    floating = array if array.dtype.kind == "f" else array.astype(np.float64)
    if floating.dtype.itemsize > 8:
        floating = floating.astype(np.float64)
    return floating if missing is None else np.where(missing, floating.dtype.type(np.nan), floating)


def integers_of(array: NDArray[Any], missing: Mask | None = None) -> Int64:
    """Cells as int64. Raises NotIntegers if one is missing, or would be another id then."""
    if missing is not None and missing.any():
        raise NotIntegers
    if array.dtype.kind in "iu" and (array.dtype != np.uint64 or array.max(initial=0) <= np.uint64(INT64.max)):
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise NotIntegers
    numbers = array.astype(np.float64)
    if not ((numbers == np.floor(numbers)) & (np.abs(numbers) < WHOLE)).all():
        raise NotIntegers
    return numbers.astype(np.int64)


def times_of(array: NDArray[Any], missing: Mask | None = None) -> Times:
    """Cells as times: dates, numbers, or texts of either; NaN where missing.

    Raises:
        Unusable: They are none.
    """
    if array.dtype.kind == "M":
        absent = np.isnat(array) if missing is None else missing | np.isnat(array)
        values = array.astype("datetime64[us]").astype(np.int64) / 1e6
        return Times(np.where(absent, np.nan, values), dates=True)
    if array.dtype.kind not in "SUO":
        return Times(numbers_of(array, missing).astype(np.float64), dates=False)
    texts = texts_of(array, missing)
    known = texts.values != ""
    try:
        found = times_of_texts(texts.values[known])
    except ValueError as error:
        raise Unusable(f"is neither numbers nor dates in ISO 8601 ({error})") from None
    values = np.full(len(texts.values), np.nan)
    values[known] = found.values
    return Times(values[texts.codes], found.dates)
