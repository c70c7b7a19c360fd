"""Delimited text, plain or gzipped: read fast by pandas, and exact about what is wrong on which line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recrun.data.io.columns import ID_ROLES, Columns, Role
from recrun.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
CHUNK_ROWS = 1 << 19
SAMPLE_BYTES = 1 << 16
MOVIELENS = ("user_id", "item_id", "rating", "timestamp")  # the columns of u.data and ratings.dat, which have no header
BOM = b"\xef\xbb\xbf"


class TextIdsError(Exception):
    """The ids are not all plain integers: read the files again with ids as text."""


@dataclass(frozen=True)
class Layout:
    """How the rows of a file look.

    A separator of two characters is parsed as its first one with empty fields between, which keeps the fast parser.
    With `text_time` the times are dates in ISO 8601, not numbers.
    """

    separator: str
    header: tuple[str, ...]
    has_header: bool
    text_time: bool = False

    @property
    def delimiter(self) -> str:
        return self.separator[0]

    @property
    def step(self) -> int:
        return len(self.separator)

    @property
    def width(self) -> int:
        """Fields per row as the parser sees them."""
        return (len(self.header) - 1) * self.step + 1


def text_chunks(path: Path, columns: Columns, rated: bool, text_ids: bool) -> Iterator[dict[Role, Any]]:
    """The wanted columns of a text file, some rows at a time: ids int64 or object arrays, numbers float64.

    Raises:
        DataError: The file or a row of it cannot be used; names the line.
        TextIdsError: `text_ids` is off and an id is not a plain integer ("007" is not).
    """
    with open_bytes(path) as stream:
        layout = _layout(path, stream, columns.header)
        names = columns.find(layout.header, path, rated)
        places = {role: layout.header.index(name) for role, name in names.items()}
        layout = replace(layout, text_time="time" in places and _dates(stream, layout, places["time"]))
        if not text_ids and not _integers(stream, layout, places):
            raise TextIdsError
        watched = Watched(stream, layout.delimiter.encode())
        rows = 0
        try:
            for frame in _frames(watched, layout, places, text_ids):
                chunk = {role: frame[place * layout.step].to_numpy() for role, place in places.items()}
                if "time" in chunk:
                    chunk["time"] = (
                        seconds(chunk["time"])
                        if layout.text_time
                        else chunk["time"] * SECONDS[columns.time_unit or "s"]
                    )
                _check(chunk)
                if watched.odd_number and not text_ids:
                    raise TextIdsError
                rows += len(frame)
                yield chunk
        except (ValueError, OverflowError) as error:
            if not (text_ids or isinstance(error, UnicodeDecodeError)):
                raise TextIdsError from None
            raise DataError(_first_fault(path, layout, places) or f"{path}: {error}") from None
    if watched.separators != rows * (layout.width - 1):
        fault = _first_fault(path, layout, places)  # none if quoted fields hold separators
        if fault:
            raise DataError(fault)


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unzipped, behind a byte order mark."""
    try:
        with path.open("rb") as file:
            raw: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            stream = io.BufferedReader(raw, SAMPLE_BYTES)
            if stream.peek(len(BOM))[: len(BOM)] == BOM:
                stream.read(len(BOM))
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip file ({error}); copy or download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


class Watched(io.RawIOBase):
    """Notices, in what is read through it, what the parser would not tell.

    Attributes:
        separators: How many there were: short rows show, even where they lack only columns that nobody reads.
        odd_number: Whether a field begins like a number that is not written plainly: 007 and +7 are not the id 7.
    """

    def __init__(self, stream: io.BufferedReader, separator: bytes) -> None:
        self.stream, self.separator, self.separators = stream, separator, 0
        self.odd_number = False
        beginnings = [edge + sign for edge in (b"\n", separator, b'"') for sign in (b"0", b"-0", b"+", b" ")]
        self.suspects = {begin: re.compile(re.escape(begin) + rb"\s*\d") for begin in beginnings}
        self.tail = b"\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self.stream.readinto(buffer)
        read = bytes(memoryview(buffer)[:size])
        self.separators += read.count(self.separator)
        if not self.odd_number:
            read = self.tail + read
            self.odd_number = any(
                all(byte in read for byte in begin) and odd.search(read) for begin, odd in self.suspects.items()
            )  # a single byte is found, or missed, much faster than several
            self.tail = read[-4:]
        return size


def _layout(path: Path, stream: io.BufferedReader, header: Sequence[str] | None) -> Layout:
    """Reads the header line, if the file has one."""
    sample = stream.peek(SAMPLE_BYTES)
    if not sample.strip():
        raise DataError(f"{path}: the file is empty; it needs a header line and one row per interaction")
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    first = decoded(path, 1, sample.split(b"\n", 1)[0])
    separator = "\t" if kind in ("tsv", "inter", "data") else sniff(first)
    if header is not None:
        blank = not any(mark in first for mark in ",\t;|") and "::" not in first
        return Layout(" " if blank else separator, tuple(header), has_header=False)
    if kind in ("dat", "data") and first.split(separator)[0].strip().isdigit():
        return Layout(separator, MOVIELENS, has_header=False)
    line = decoded(path, 1, stream.readline(1 << 20)).strip("\r\n")
    if "\r" in line:
        raise DataError(f"{path}:1: lines end with a carriage return alone; convert them to \\n or \\r\\n")
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator[0]))][:: len(separator)]
    if kind == "inter":
        names = [name.partition(":")[0] for name in names]  # user_id:token
    return Layout(separator, tuple(names), has_header=True)


def sniff(header: str) -> str:
    if "::" in header:
        return "::"
    return max((",", "\t", ";", "|"), key=header.count)


def decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 text (byte {error.start + 1} of the line)") from None


def _integers(stream: io.BufferedReader, layout: Layout, places: dict[Role, int]) -> bool:
    """Whether the ids at the beginning of the file are integers that are written plainly."""
    lines = stream.peek(SAMPLE_BYTES).decode(errors="replace").splitlines()
    for row in csv.reader(lines[:1000], delimiter=layout.delimiter):
        for role in ID_ROLES:
            place = places.get(role, layout.width) * layout.step
            if place < len(row) and not _is_plain(row[place]):
                return False
    return True


def _dates(stream: io.BufferedReader, layout: Layout, place: int) -> bool:
    """Whether the first time in the file is no number."""
    lines = stream.peek(SAMPLE_BYTES).decode(errors="replace").splitlines()
    first = next(csv.reader(lines[:1], delimiter=layout.delimiter), [])
    return place * layout.step < len(first) and not _is_number(first[place * layout.step])


def seconds(dates: Any) -> Any:
    """ISO 8601 text as seconds since 1970, float64; without a zone it is UTC.

    Raises:
        ValueError: It is something else.
    """
    import pandas as pd

    return pd.DatetimeIndex(pd.to_datetime(dates, format="ISO8601", utc=True)).as_unit("us").asi8 / 1e6


def _is_plain(text: str) -> bool:
    return text == "0" or (text.removeprefix("-").isdecimal() and text.isascii() and text.lstrip("-")[0] != "0")


def _frames(stream: Any, layout: Layout, places: dict[Role, int], text_ids: bool) -> Iterator[pd.DataFrame]:
    import pandas as pd

    ids = object if text_ids else np.int64
    kinds: dict[Role, Any] = {
        "user": ids,
        "item": ids,
        "session": ids,
        "time": object if layout.text_time else np.float64,
        "rating": np.float64,
    }
    types: dict[int, Any] = {place * layout.step: kinds[role] for role, place in places.items()}
    try:
        with pd.read_csv(
            stream,
            sep=layout.delimiter,
            header=None,
            names=list(range(layout.width)),
            usecols=sorted(types),
            dtype=types,
            na_filter=False,
            index_col=False,
            chunksize=CHUNK_ROWS,
        ) as reader:
            yield from reader
    except pd.errors.EmptyDataError:
        return


def _check(chunk: dict[Role, Any]) -> None:
    """Raises ValueError if there is an empty id or a number that is none; the line is looked up then."""
    for role, values in chunk.items():
        if role in ("rating", "time"):
            bad = not np.isfinite(values).all()
        else:
            bad = values.dtype == object and bool((values == "").any())
        if bad:
            raise ValueError(f"bad {role}")


def _first_fault(path: Path, layout: Layout, places: dict[Role, int]) -> str | None:
    """Where and what the first unusable row is; slow, for error messages only."""
    with open_bytes(path) as stream:
        lines = (decoded(path, number, line) for number, line in enumerate(stream, 1))
        reader = csv.reader(lines, delimiter=layout.delimiter, strict=True)
        begin = 1
        try:
            for row in reader:
                fault = None if not row or (begin == 1 and layout.has_header) else _fault(row, layout, places)
                if fault:
                    return f"{path}:{begin}: {fault}"
                begin = reader.line_num + 1
        except csv.Error as error:
            return f"{path}:{begin}: {error} (a quote that is not closed?)"
    return None


def _fault(row: list[str], layout: Layout, places: dict[Role, int]) -> str | None:
    if len(row) != layout.width:
        fields = (len(row) - 1) // layout.step + 1
        return f"the row has {fields} fields, expected {len(layout.header)}: {', '.join(layout.header)}"
    for role, place in places.items():
        value, name = row[place * layout.step], layout.header[place]
        if role in ID_ROLES:
            if not value:
                return f"the {role} id is empty (column {name})"
        elif role == "time" and layout.text_time:
            if not _is_date(value):
                return f"the time is {value!r}, not a date in ISO 8601 as in the first row (column {name})"
        elif not _is_number(value):
            return f"the {role} is {value!r}, not a finite number (column {name})"
    return None


def _is_date(text: str) -> bool:
    try:
        return bool(np.isfinite(seconds([text])).all())
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
