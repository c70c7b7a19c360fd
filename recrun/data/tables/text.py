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

from recrun.data.io.text import Watched, decoded, open_bytes, sniff
from recrun.data.tables.chunks import Chunk, Lists, Texts, Wanted
from recrun.data.types import Float
from recrun.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 1 << 17
LONGEST_HEADER = 1 << 20  # bytes
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
        self._first_line()  # there is one
        with open_bytes(self.path) as stream:
            lines = (decoded(self.path, number, line) for number, line in enumerate(stream, 1))
            cells = next(csv.reader(lines, delimiter=self._separator(), skipinitialspace=True))
        if self.columns is not None:
            if len(cells) != len(self.columns):
                raise DataError(
                    f"{self.path}:1: the row has {len(cells)} cells, but dataset.columns names {len(self.columns)}"
                )
            return list(self.columns)
        names = [cell.strip().partition(":")[0] if self._ending() in TYPED else cell.strip() for cell in cells]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{self.path}:1: two columns are called {twice!r}; rename one")
        return names

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A row has too few or too many cells, or a number is none; names line and column.
        """
        header, separator = self.header(), self._separator()
        rows = 0
        with open_bytes(self.path) as stream:
            watched = Watched(stream, separator.encode())
            try:
                for frame in self._frames(watched, header, separator, wanted):
                    chunk = chunk_of(frame, wanted)
                    rows += chunk.size
                    yield chunk
            except (ValueError, OverflowError) as error:
                raise DataError(self._fault(wanted) or f"{self.path}: {error}") from None
        lines = rows + (self.columns is None)
        if watched.separators != lines * (len(header) - 1):
            fault = self._fault(wanted)  # none if quoted cells hold separators
            if fault:
                raise DataError(fault)

    def place(self, row: int) -> str:
        """The file and line of a row, counted from 0; below 0 the file alone.

        Raises:
            DataError: A row up to there is not whole.
        """
        place = str(self.path)
        for line, _ in islice(self._rows(), row + 1):
            place = f"{self.path}:{line}"
        return place

    def _ending(self) -> str:
        return Path(self.path.name.removesuffix(".gz")).suffix.lower()

    def _first_line(self) -> str:
        """As far as a line break, even one within quotes. Raises DataError if there is none."""
        with open_bytes(self.path) as stream:
            line = decoded(self.path, 1, stream.readline(LONGEST_HEADER)).strip("\r\n")
        if not line:
            raise DataError(f"{self.path}: the file is empty, or its first line is")
        return line

    def _separator(self) -> str:
        known = "\t" if self._ending() in (".tsv", *TYPED) else None
        found = self.separator or known or sniff(self._first_line())
        if len(found) > 1:
            raise DataError(f"{self.path}: separated by {found!r}; tables take a single character (dataset.separator)")
        return found

    def _frames(self, stream: Any, header: Sequence[str], separator: str, wanted: Wanted) -> Iterator[pd.DataFrame]:
        import pandas as pd

        numbers = wanted.numbers - wanted.texts
        types: dict[str, Any] = {
            name: np.float64 if name in numbers else object for name in header if name in wanted.columns
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

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Lines by number and their cells; slow, for errors only. Raises DataError for a row that is not whole."""
        header = self.header()
        with open_bytes(self.path) as stream:
            lines = (decoded(self.path, number, line) for number, line in enumerate(stream, 1))
            begin = 1
            reader = csv.reader(lines, delimiter=self._separator(), skipinitialspace=True)
            try:
                for cells in reader:
                    if cells and not (begin == 1 and self.columns is None):
                        if len(cells) != len(header):
                            found = f"{self.path}:{begin}: the row has {len(cells)} cells"
                            raise DataError(f"{found}, expected {len(header)}")
                        yield begin, cells
                    begin = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{self.path}:{begin}: {error} (a quote that is not closed?)") from None

    def _fault(self, wanted: Wanted) -> str | None:
        """Where and what the first number is that is none."""
        numbers = [(place, name) for place, name in enumerate(self.header()) if name in wanted.numbers]
        for line, cells in self._rows():
            for place, name in numbers:
                if cells[place] and not is_finite(cells[place]):
                    value = f"{self.path}:{line}: column {name} is {cells[place]!r}"
                    return f"{value}, not a finite number; an empty cell is a missing one"
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
    """A column of text. Raises ValueError where a row ended before it."""
    import pandas as pd

    codes, values = pd.factorize(column.to_numpy())
    if codes.min(initial=0) < 0:
        raise ValueError("a row ends before this column")
    return Texts(codes.astype(np.int32), values)


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
