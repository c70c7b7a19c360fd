"""Delimited text, perhaps compressed: parsed fast by pandas, every row checked, exact about what is wrong where."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recrun.data.io.chunks import CHUNK_ROWS, Chunk, Lists, NotIntegers, Texts, Times, Wanted
from recrun.data.io.files import kind
from recrun.data.io.numerals import is_finite, is_plain_integer, numbers_of_texts
from recrun.data.io.streams import BLOCK_BYTES, CARRIAGE_RETURN, decoded, open_bytes, whole_lines
from recrun.data.io.times import times_of_texts
from recrun.data.io.widths import RowWidths
from recrun.data.types import Float
from recrun.errors import DataError

if TYPE_CHECKING:
    pass

LONGEST_HEADER = 1 << 20  # bytes
SAMPLE_BYTES, SAMPLE_ROWS = 1 << 17, 1000
TYPED = (".inter", ".user", ".item")  # "user_id:token" in their headers
PLAIN = (".tsv", ".dat", ".data", *TYPED)  # a quotation mark in them is a character like others
TABBED = (".tsv", *TYPED)
MOVIELENS = ("user_id", "item_id", "rating", "timestamp")  # the columns of u.data and ratings.dat, which have no header
SIGNS = tuple(b" +\t\v\f")  # what the parser of integers skips
BLANK_RUNS = (b"\t", b"  ", b"\n ", b" \n", b" \r")
UNIT_SEPARATOR = b"\x1f"  # replaces separators of several characters
NUL, NUL_STAND_IN = b"\0", "\ufffe".encode()  # the parser ends a cell at NUL; U+FFFE is no character


@dataclass(frozen=True)
class Layout:
    """How the rows of a file look.

    Attributes:
        separator: Between cells; " " is any run of blanks.
        names: Of the columns.
        has_header: Whether the first line holds them.
        quoting: Whether cells may be quoted.
        skip_blanks: Whether blanks after a separator are dropped.
    """

    separator: str
    names: tuple[str, ...]
    has_header: bool
    quoting: bool
    skip_blanks: bool

    @property
    def delimiter(self) -> bytes:
        """The separator as the parser sees it."""
        return self.separator.encode() if len(self.separator) == 1 else UNIT_SEPARATOR

    @property
    def quotes(self) -> int:
        """The same for pandas and Python's csv."""
        return csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE

    def plain(self, lines: bytes) -> bytes:
        """Whole lines with one character between cells."""
        if len(self.separator) > 1:
            return lines.replace(self.separator.encode(), UNIT_SEPARATOR)
        if self.separator != " " or not any(run in b"\n" + lines for run in BLANK_RUNS):
            return lines
        return re.sub(rb"(?m)^ | (?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", lines))


@dataclass(frozen=True)
class TextFile:
    """A text file. An empty cell is missing, and nothing else is: "NA" is a text like others.

    Attributes:
        path: The file.
        names: Of the columns of a file without a header line; None = it has one, or is one of MovieLens.
        separator: Between cells; None = as the ending or the first line has it.
        skip_blanks: Whether blanks after a separator are dropped.
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
            lines = _Lines(stream, self.layout, bool(wanted.integers))
            done = 0
            try:
                for frame in self._frames(lines, wanted, dates):
                    if lines.odd:
                        raise NotIntegers
                    self._refuse_wrong_width(lines)
                    chunk = _chunk(frame, wanted, dates, lines.nul)
                    done += chunk.size
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
        """How the rows look, as far as the ending and the first line say."""
        first = self._first_line()
        separator = self.separator or ("\t" if kind(self.path) in TABBED else sniff(first))
        if len(self.names or ()) > 1 and self.separator is None and separator not in first:  # nor any other
            separator = " "
        quoting = kind(self.path) not in PLAIN and separator != " "
        layout = Layout(separator, self.names or MOVIELENS, False, quoting, self.skip_blanks)
        cells = next(self._cells(layout))[1]
        if self.names is not None:
            if len(cells) != len(self.names):
                raise DataError(
                    f"{self.path}:1: the row has {len(cells)} cells, but dataset.columns names {len(self.names)}"
                )
            return layout
        if kind(self.path) in (".dat", ".data") and cells[0].strip().isdigit() and len(cells) == len(MOVIELENS):
            return layout
        names = [cell.strip() for cell in cells]
        if kind(self.path) in TYPED:
            names = [name.partition(":")[0] for name in names]
        refuse_twice(names, f"{self.path}:1")
        return Layout(separator, tuple(names), True, quoting, self.skip_blanks)

    def _first_line(self) -> str:
        """As far as a line break, even one within quotes. Raises DataError if there is none."""
        with open_bytes(self.path) as stream:
            line = decoded(self.path, 1, stream.readline(LONGEST_HEADER)).rstrip("\n").removesuffix("\r")
        if "\r" in line:
            raise DataError(f"{self.path}:1: {CARRIAGE_RETURN}")
        if not line.strip():
            raise DataError(f"{self.path}: the file is empty, or its first line is")
        return line

    @contextmanager
    def _body(self) -> Iterator[io.BufferedReader]:
        """The bytes behind the header."""
        layout = self.layout
        with open_bytes(self.path) as stream:
            if layout.has_header:
                next(_parsed(_texts(self.path, stream, layout), layout))
            yield stream

    def _sample(self, stream: io.BufferedReader) -> list[Mapping[str, str]]:
        """Whole rows at the beginning."""
        layout = self.layout
        begin = layout.plain(stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]).decode(errors="replace").splitlines()
        try:
            rows = [row for row in islice(_parsed(begin, layout), SAMPLE_ROWS) if len(row) == len(layout.names)]
        except csv.Error:
            rows = []
        return [dict(zip(layout.names, row, strict=True)) for row in rows]

    def _frames(self, lines: _Lines, wanted: Wanted, dates: frozenset[str]) -> Iterator[dict[str, np.ndarray]]:
        """Columns by name."""
        import pandas as pd

        layout = self.layout
        as_text = wanted.texts | wanted.lists.keys() | dates
        types: dict[int, Any] = {}
        for place, name in enumerate(layout.names):
            if name in wanted.columns:
                number = np.int64 if name in wanted.integers else np.float64
                types[place] = object if name in as_text else number
        optional = [at for at, kind in types.items() if kind is np.float64 and layout.names[at] not in wanted.required]
        try:
            with pd.read_csv(
                lines,  # type: ignore[call-overload]
                sep=layout.delimiter.decode(),
                header=None,
                names=range(len(layout.names)),
                usecols=list(types),
                dtype=types,
                na_filter=bool(optional),
                na_values={at: [""] for at in optional},
                keep_default_na=False,
                skipinitialspace=layout.skip_blanks,
                quoting=layout.quotes,
                index_col=False,
                chunksize=CHUNK_ROWS,
            ) as reader:
                for frame in reader:
                    yield {layout.names[at]: frame[at].to_numpy() for at in types}
        except pd.errors.EmptyDataError:
            return

    def _refuse_wrong_width(self, lines: _Lines) -> None:
        """Parses the file again, if a row may have another width than the header. Raises DataError if one has."""
        if lines.widths.wrong and not lines.parsed:
            lines.parsed = True
            for _ in self._rows():
                pass

    def _cells(self, layout: Layout) -> Iterator[tuple[int, list[str]]]:
        """Lines by number and their cells; slow. Raises DataError where they cannot be parsed."""
        with open_bytes(self.path) as stream:
            reader = _parsed(_texts(self.path, stream, layout), layout, strict=True)
            begin = 1
            try:
                for cells in reader:
                    if cells:
                        yield begin, cells
                    begin = reader.line_num + 1
            except csv.Error as error:
                fault = CARRIAGE_RETURN if "new-line" in str(error) else f"{error} (a quote that is not closed?)"
                raise DataError(f"{self.path}:{begin}: {fault}") from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Lines by number and their cells, without the header; slow. Raises DataError for a row that is not whole."""
        names = self.layout.names
        for line, cells in islice(self._cells(self.layout), int(self.layout.has_header), None):
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


class _Lines:
    """What the parser reads: blocks of whole lines, each looked at for what the parser does not report.

    Attributes:
        widths: Of the rows.
        odd: Whether a cell begins or ends like a number that is not written plainly: 007 and +7 are not the id 7.
        nul: Whether NUL characters were replaced.
        parsed: Whether the rows' widths were checked by parsing them.
    """

    def __init__(self, stream: io.BufferedReader, layout: Layout, integers: bool) -> None:
        self.stream, self.layout, self.integers = stream, layout, integers
        self.widths = RowWidths(len(layout.names), layout.delimiter, layout.quoting)
        self.odd = self.nul = self.parsed = False

    def read(self, size: int = -1) -> bytes:
        """The next block, whatever size is asked for."""
        block = self.stream.read(BLOCK_BYTES)
        if not block:
            self.widths.end()
            return b""
        block = self.layout.plain(whole_lines(block, self.stream))
        quoted = self.layout.quoting and (self.widths.inside or b'"' in block)
        if b"\r" in block and not quoted:
            block = block.replace(b"\r\n", b"\n")
            self.widths.wrong |= b"\r" in block
        self.widths.add(block)
        if self.integers and not self.odd:
            self.odd = odd_numbers(block, self.layout.delimiter[0])
        if NUL in block:
            self.nul, block = True, block.replace(NUL, NUL_STAND_IN)
        return block

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")


def odd_numbers(block: bytes, separator: int) -> bool:
    """Whether a cell of some lines is an integer that is not written plainly: 007, +7, -0, or 7 beside a blank."""
    text = np.frombuffer(b"\n" + block.replace(b'"', b"").replace(b"\r\n", b"\n"), np.uint8)
    edge = (text == separator) | (text == 10)
    zero, digit = text == 48, text - np.uint8(48) < 10
    odd = edge[:-2] & zero[1:-1] & digit[2:]
    if b"-0" in block:
        odd |= edge[:-2] & (text == 45)[1:-1] & zero[2:]
    if any(sign in block for sign in SIGNS):
        sign = np.isin(text, SIGNS, kind="table") & ~edge
        number = digit | sign | (text == 45)
        odd |= edge[:-2] & sign[1:-1] & number[2:]
        odd |= number[:-2] & sign[1:-1] & edge[2:]
    return bool(odd.any())


def _texts(path: Path, stream: io.BufferedReader, layout: Layout) -> Iterator[str]:
    """Lines for Python's csv."""
    return (layout.plain(decoded(path, number, line).encode()).decode() for number, line in enumerate(stream, 1))


def _parsed(lines: Iterable[str], layout: Layout, strict: bool = False) -> Any:
    """Rows of lines that are `Layout.plain`, by Python's csv; slow."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(
        lines,
        delimiter=layout.delimiter.decode(),
        quoting=layout.quotes,  # type: ignore[arg-type]
        skipinitialspace=layout.skip_blanks,
        strict=strict,
    )


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


def sniff(line: str) -> str:
    """The separator that a first line seems to have."""
    if "::" in line:
        return "::"
    return max((",", "\t", ";", "|"), key=line.count)


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Raises DataError if two columns have the same name."""
    for name, count in Counter(names).items():
        if name and count > 1:
            raise DataError(f"{where}: two columns are called {name!r}; rename one")
