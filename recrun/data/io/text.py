"""Delimited text, perhaps compressed: parsed fast by pandas, every row checked, exact about what is wrong where."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.chunks import CHUNK_ROWS, Chunk, Lists, NotIntegers, Texts, Times, Wanted
from recrun.data.io.layout import Layout, cells_of, lines_of, parsed, read_layout
from recrun.data.io.lines import NUL_STAND_IN, Lines
from recrun.data.io.numerals import is_finite, is_plain_integer, numbers_of_texts
from recrun.data.io.streams import open_bytes
from recrun.data.io.times import times_of_texts
from recrun.data.types import Float
from recrun.errors import DataError

SAMPLE_BYTES, SAMPLE_ROWS = 1 << 17, 1000


@dataclass(frozen=True)
class TextFile:
    """A text file. An empty cell is missing, and nothing else is: "NA" is a text like others.

    Attributes:
        path: The file.
        names: Of the columns of a file without a header line; None = it has one, or is one of MovieLens.
        separator: Between cells; None = as the ending or the first line has it.
        skip_blanks: Whether blanks after a separator are dropped; if not, they are where the first line has one after
            each. After tabs they are kept.
    """

    path: Path
    names: tuple[str, ...] | None = None
    separator: str | None = None
    skip_blanks: bool = False

    def header(self) -> list[str]:
        """Names of the columns. Raises DataError if there are none, or one is there twice."""
        return list(self.layout.names)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A row has too few or too many cells, or a cell cannot be used; names line and column.
            NotIntegers: An id that is wanted as an integer is none.
        """
        with self._body() as stream:
            sample = self._sample(stream)
            if not all(is_plain_integer(row[name]) for row in sample for name in wanted.integers):
                raise NotIntegers
            dates = frozenset(name for name in wanted.times for row in sample[:1] if not is_finite(row[name]))
            lines = Lines(stream, self.layout, bool(wanted.integers))
            done = 0
            try:
                for frame in self._frames(lines, wanted, dates):
                    if lines.odd:
                        raise NotIntegers
                    self._refuse_wrong_width(lines)
                    chunk = _chunk(frame, wanted, dates, lines.nul)
                    done += chunk.size
                    del frame  # the next is read without it in memory
                    yield chunk
            except (ValueError, OverflowError) as error:
                if wanted.integers and not isinstance(error, UnicodeDecodeError):
                    raise NotIntegers from None
                raise DataError(self._fault(wanted, dates) or f"{self.path}: {error}") from None
        self._refuse_wrong_width(lines)
        if done != lines.widths.rows and done != sum(1 for _ in self._rows()):
            raise DataError(f"{self.path}: blank lines or quotes so that rows cannot be recognised")

    def location(self, row: int) -> str:
        """The file and line of a row, counted from 0; below 0 the file alone.

        Raises:
            DataError: A row up to there is not whole.
        """
        place = str(self.path)
        for line, _ in islice(self._rows(), row + 1):
            place = f"{self.path}:{line}"
        return place

    @cached_property
    def layout(self) -> Layout:
        """How the rows look."""
        return read_layout(self.path, self.names, self.separator, self.skip_blanks)

    @contextmanager
    def _body(self) -> Iterator[io.BufferedReader]:
        """The bytes behind the header."""
        layout = self.layout
        with open_bytes(self.path) as stream:
            if layout.has_header:
                next(parsed(lines_of(self.path, stream, layout), layout))
            yield stream

    def _sample(self, stream: io.BufferedReader) -> list[Mapping[str, str]]:
        """Whole rows at the beginning."""
        layout = self.layout
        begin = layout.plain(stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]).decode(errors="replace").splitlines()
        try:
            rows = [row for row in islice(parsed(begin, layout), SAMPLE_ROWS) if len(row) == len(layout.names)]
        except csv.Error:
            rows = []
        return [dict(zip(layout.names, row, strict=True)) for row in rows]

    def _frames(self, lines: Lines, wanted: Wanted, dates: frozenset[str]) -> Iterator[dict[str, np.ndarray]]:
        """Columns by name."""
        import pandas as pd

        layout = self.layout
        as_text = wanted.texts | wanted.lists.keys() | dates
        types: dict[str, Any] = {}
        places = list(map(str, range(len(layout.names))))  # labels that pandas does not take for positions
        for place, name in zip(places, layout.names, strict=True):
            if name in wanted.columns:
                number = np.int64 if name in wanted.integers else np.float64
                types[place] = object if name in as_text else number

        def by_name(frame: pd.DataFrame) -> dict[str, np.ndarray]:
            return {layout.names[int(at)]: frame[at].to_numpy() for at in types}

        numbers = [at for at, kind in types.items() if kind is np.float64]
        optional = [at for at in numbers if layout.names[int(at)] not in wanted.required]
        try:
            with pd.read_csv(
                lines,  # type: ignore[call-overload]
                sep=layout.delimiter.decode(),
                header=None,
                names=places,
                usecols=list(types),
                dtype=types,
                na_filter=bool(optional),
                na_values={at: [""] for at in optional},
                keep_default_na=False,
                skipinitialspace=layout.skip_blanks,
                quoting=layout.quotes,
                index_col=False,
                chunksize=wanted.rows or CHUNK_ROWS,
            ) as reader:
                yield from map(by_name, reader)
        except pd.errors.EmptyDataError:
            return

    def _refuse_wrong_width(self, lines: Lines) -> None:
        """Parses the file, once, if a row may have another width than the header. Raises DataError if one has."""
        if lines.widths.wrong and not lines.widths.parsed:
            lines.widths.parsed = True
            for _ in self._rows():
                pass

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Lines by number and their cells, without the header; slow. Raises DataError for a row that is not whole."""
        names = self.layout.names
        for line, cells in islice(cells_of(self.path, self.layout), int(self.layout.has_header), None):
            if len(cells) != len(names):
                hint = ": " + ", ".join(names) if len(names) <= 8 else ""
                raise DataError(f"{self.path}:{line}: the row has {len(cells)} cells, expected {len(names)}{hint}")
            yield line, cells

    def _fault(self, wanted: Wanted, dates: frozenset[str]) -> str | None:
        """Where and what the first cell is that cannot be used."""
        for line, cells in self._rows():
            for name, cell in zip(self.layout.names, cells, strict=True):
                fault = _cell_fault(cell, name, wanted, dates)
                if fault:
                    return f"{self.path}:{line}: column {name} {fault}"
        return None


def _chunk(frame: Mapping[str, np.ndarray], wanted: Wanted, dates: frozenset[str], nul: bool) -> Chunk:
    """Columns as cells. Raises ValueError for one that cannot be used."""
    as_text = wanted.texts | wanted.lists.keys() | dates
    texts = {name: _texts_of(column, nul) for name, column in frame.items() if name in as_text}
    times = {name: _times(texts.get(name), frame[name]) for name in wanted.times}
    chunk = Chunk(
        size=len(next(iter(frame.values()))),
        texts={name: texts[name] for name in wanted.texts},
        lists={name: Lists.split(texts[name], separator) for name, separator in wanted.lists.items()},
        numbers={name: _numbers(texts.get(name), frame[name]) for name in wanted.numbers},
        integers={name: frame[name] for name in wanted.integers},
        times=times,
    )
    bad = chunk.bad_cell(wanted.required)
    if bad:
        raise ValueError(f"column {bad[1]} {bad[2]}")
    return chunk


def _texts_of(column: np.ndarray, nul: bool) -> Texts:
    import pandas as pd

    codes, values = pd.factorize(column)
    if nul:
        values = np.array([value.replace(NUL_STAND_IN.decode(), "\0") for value in values], object)
    return Texts(codes.astype(np.int32), values)


def _times(texts: Texts | None, numbers: np.ndarray) -> Times:
    if texts is None:
        return Times(numbers, dates=False)
    distinct = times_of_texts(texts.values)
    return Times(distinct.values[texts.codes], distinct.dates)


def _numbers(texts: Texts | None, numbers: np.ndarray) -> Float:
    return numbers if texts is None else numbers_of_texts(texts.values)[texts.codes]


def _cell_fault(cell: str, name: str, wanted: Wanted, dates: frozenset[str]) -> str | None:
    if name in wanted.required and not cell:
        return "is empty"
    if name in dates:
        return None if _is_date(cell) else f"is {cell!r}, not a date in ISO 8601 as in the first row"
    if name in wanted.numbers | wanted.times and cell and not is_finite(cell):
        optional = "" if name in wanted.required else "; an empty cell is a missing one"
        return f"is {cell!r}, not a finite number{optional}"
    return None


def _is_date(text: str) -> bool:
    try:
        return times_of_texts(np.array([text], object)).dates
    except ValueError:
        return False
