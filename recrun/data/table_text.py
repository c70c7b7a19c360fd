"""Delimited text as chunks of a table: any number of columns, with or without a header line, exact about faults."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recrun.data.rows import Float
from recrun.data.table_cells import Chunk, Lists, Texts, Wanted
from recrun.data.text import SAMPLE_BYTES, Watched, decoded, open_bytes, sniff
from recrun.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 1 << 17
TYPED = (".inter", ".user", ".item")  # "user_id:token" in their headers


@dataclass(frozen=True)
class TextTable:
    """A text file, plain or gzipped.

    Blanks after a separator are dropped. An empty cell is missing, and nothing else is: "NA" is a text like others.

    Attributes:
        path: The file.
        columns: Names of the columns of a file without a header line; None = it has one.
        separator: Between cells; None = as the ending or the first line has it.
    """

    path: Path
    columns: tuple[str, ...] | None = None
    separator: str | None = None

    def header(self) -> list[str]:
        """Names of the columns."""
        with open_bytes(self.path) as stream:
            line = decoded(self.path, 1, stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES].split(b"\n", 1)[0]).strip("\r\n")
        if not line.strip():
            raise DataError(f"{self.path}: the file is empty")
        cells = next(csv.reader([line], delimiter=self._separator(line)))
        if self.columns is not None:
            if len(cells) != len(self.columns):
                raise DataError(
                    f"{self.path}:1: the row has {len(cells)} cells, but dataset.columns names {len(self.columns)}"
                )
            return list(self.columns)
        names = [cell.strip() for cell in cells]
        return [name.partition(":")[0] for name in names] if self._ending() in TYPED else names

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A row has too few or too many cells, or a number is none; names line and column.
        """
        header = self.header()
        rows = 0
        with open_bytes(self.path) as stream:
            first = decoded(self.path, 1, stream.peek(SAMPLE_BYTES).split(b"\n", 1)[0])
            separator = self._separator(first)
            watched = Watched(stream, separator.encode())
            try:
                for frame in self._frames(watched, header, separator, wanted):
                    chunk = chunk_of(frame, wanted)
                    rows += chunk.size
                    yield chunk
            except (ValueError, OverflowError) as error:
                raise DataError(self._fault(header, separator, wanted) or f"{self.path}: {error}") from None
        lines = rows + (self.columns is None)
        if watched.separators != lines * (len(header) - 1):
            fault = self._fault(header, separator, wanted)  # none if quoted cells hold separators
            if fault:
                raise DataError(fault)

    def place(self, row: int) -> str:
        """The file and line of a row, watched from 0."""
        header = self.header()
        for line, _ in islice(self._rows(self._separator("\t".join(header))), row, row + 1):
            return f"{self.path}:{line}"
        return str(self.path)

    def _ending(self) -> str:
        return Path(self.path.name.removesuffix(".gz")).suffix.lower()

    def _separator(self, line: str) -> str:
        if self.separator is not None:
            return self.separator
        return "\t" if self._ending() in (".tsv", *TYPED) else sniff(line)

    def _frames(self, stream: Any, header: Sequence[str], separator: str, wanted: Wanted) -> Iterator[pd.DataFrame]:
        import pandas as pd

        numbers = wanted.numbers - wanted.texts
        types: dict[str, Any] = {
            name: np.float64 if name in numbers else "category" for name in header if name in wanted.columns
        }
        try:
            with pd.read_csv(
                stream,
                sep=separator,
                header=None,
                skiprows=int(self.columns is None),
                names=list(header),
                usecols=list(types),
                dtype=types,
                na_values={name: [""] for name in numbers},
                keep_default_na=False,
                skipinitialspace=True,
                index_col=False,
                chunksize=CHUNK_ROWS,
            ) as reader:
                yield from reader
        except pd.errors.EmptyDataError:
            return

    def _rows(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """Lines by number and their cells; slow, for errors only."""
        with open_bytes(self.path) as stream:
            lines = (decoded(self.path, number, line) for number, line in enumerate(stream, 1))
            reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
            begin = 1
            for cells in reader:
                if cells and not (begin == 1 and self.columns is None):
                    yield begin, cells
                begin = reader.line_num + 1

    def _fault(self, header: Sequence[str], separator: str, wanted: Wanted) -> str | None:
        """Where and what the first unusable cell is."""
        numbers = [(place, name) for place, name in enumerate(header) if name in wanted.numbers]
        for line, cells in self._rows(separator):
            if len(cells) != len(header):
                return f"{self.path}:{line}: the row has {len(cells)} cells, expected {len(header)}"
            for place, name in numbers:
                if cells[place] and not is_finite(cells[place]):
                    return f"{self.path}:{line}: column {name} is {cells[place]!r}, not a finite number"
        return None


def chunk_of(frame: pd.DataFrame, wanted: Wanted) -> Chunk:
    """Columns as cells. Raises ValueError for a number that is none."""
    cells = {name: texts_of(frame[name]) for name in frame.columns if name in wanted.texts | wanted.lists.keys()}
    numbers = {
        name: numbers_of(cells[name]) if name in cells else finite(frame[name].to_numpy()) for name in wanted.numbers
    }
    lists = {name: Lists.split(cells[name], separator) for name, separator in wanted.lists.items()}
    return Chunk(len(frame), {name: cells[name] for name in wanted.texts}, lists, numbers)


def texts_of(column: Any) -> Texts:
    """A categorical column."""
    codes = np.asarray(column.cat.codes, np.int32)
    return Texts(codes, np.asarray(column.cat.categories, object))


def numbers_of(texts: Texts) -> Float:
    """Text cells as numbers; "" is NaN. Raises ValueError for one that is none."""
    values = np.array([float(text) if text else math.nan for text in texts.values])
    if any(text and not math.isfinite(value) for text, value in zip(texts.values, values, strict=True)):
        raise ValueError("not a finite number")
    return values[texts.codes]


def finite(numbers: Any) -> Float:
    """The numbers, of which none is infinite; those missing are NaN."""
    if np.isinf(numbers).any():
        raise ValueError("not a finite number")
    return np.asarray(numbers, np.float64)


def is_finite(text: str) -> bool:
    """Whether a text is a number that is neither infinite nor NaN."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
