"""How the rows of a text file look, and its cells by Python's csv: slow, exact, and the parser's own rules."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.data.io.files import kind
from recrun.data.io.streams import CARRIAGE_RETURN, decoded, open_bytes
from recrun.errors import DataError

LONGEST_HEADER = 1 << 20  # bytes
TYPED = (".inter", ".user", ".item")  # "user_id:token" in their headers
PLAIN = (".tsv", ".dat", ".data", *TYPED)  # a quotation mark in them is a character like others
TABBED = (".tsv", *TYPED)
MOVIELENS = ("user_id", "item_id", "rating", "timestamp")  # the columns of u.data and ratings.dat, which have no header
BLANK_RUNS = (b"\t", b"  ", b"\n ", b" \n", b" \r")
UNIT_SEPARATOR = b"\x1f"  # stands for separators of several bytes


@dataclass(frozen=True)
class Layout:
    """How the rows of a file look.

    Attributes:
        separator: Between cells; " " is any run of blanks.
        names: Of the columns.
        has_header: Whether the first line holds them.
        quoting: Whether cells may be quoted.
        skip_blanks: Whether blanks after a separator are dropped; never after tabs.
    """

    separator: str
    names: tuple[str, ...]
    has_header: bool
    quoting: bool
    skip_blanks: bool

    @property
    def delimiter(self) -> bytes:
        """The separator as the parser sees it."""
        return self.separator.encode() if self.is_byte else UNIT_SEPARATOR

    @property
    def is_byte(self) -> bool:
        """Whether the separator is a single byte."""
        return len(self.separator.encode()) == 1

    @property
    def quotes(self) -> int:
        """The same for pandas and Python's csv."""
        return csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE

    def plain(self, lines: bytes) -> bytes:
        """Whole lines with one character between cells."""
        if not self.is_byte:
            return lines.replace(self.separator.encode(), UNIT_SEPARATOR)
        if self.separator != " " or not any(run in b"\n" + lines for run in BLANK_RUNS):
            return lines
        return re.sub(rb"(?m)^ | (?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", lines))


def read_layout(
    path: Path, names: tuple[str, ...] | None = None, separator: str | None = None, skip_blanks: bool = False
) -> Layout:
    """How the rows of a file look, as far as its ending and its first line say.

    Args:
        path: The file.
        names, separator, skip_blanks: See `TextFile`.

    Raises:
        DataError: The file is empty, or its first line is not of the names, or has one twice.
    """
    first = _first_line(path)
    if separator is None:
        separator = "\t" if kind(path) in TABBED else _sniff(first)
        if len(names or ()) > 1 and separator not in first:  # nor any other
            separator = " "
    quoting = kind(path) not in PLAIN and separator != " "
    skip_blanks &= separator != "\t"
    layout = Layout(separator, names or MOVIELENS, False, quoting, skip_blanks)
    cells = next(cells_of(path, layout))[1]
    if not skip_blanks and len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:]) and separator != "\t":
        return read_layout(path, names, separator, skip_blanks=True)
    if names is not None:
        if len(cells) != len(names):
            raise DataError(f"{path}:1: the row has {len(cells)} cells, but dataset.columns names {len(names)}")
        return layout
    if kind(path) in (".dat", ".data") and cells[0].strip().isdigit() and len(cells) == len(MOVIELENS):
        return layout
    found = [cell.strip() for cell in cells]
    if kind(path) in TYPED:
        found = [name.partition(":")[0] for name in found]
    refuse_twice(found, f"{path}:1")
    return Layout(separator, tuple(found), True, quoting, skip_blanks)


def _first_line(path: Path) -> str:
    """As far as a line break, even one within quotes. Raises DataError if there is none."""
    with open_bytes(path) as stream:
        line = decoded(path, 1, stream.readline(LONGEST_HEADER)).rstrip("\n").removesuffix("\r")
    if "\r" in line:
        raise DataError(f"{path}:1: {CARRIAGE_RETURN}")
    if not line.strip(" "):
        raise DataError(f"{path}: the file is empty, or its first line is")
    return line


def _sniff(line: str) -> str:
    """The separator that a first line seems to have."""
    if "::" in line:
        return "::"
    return max((",", "\t", ";", "|"), key=line.count)


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Raises DataError if two columns have the same name."""
    for name, count in Counter(names).items():
        if name and count > 1:
            raise DataError(f"{where}: two columns are called {name!r}; rename one")


def cells_of(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Lines by number and their cells; slow. Raises DataError where they cannot be parsed."""
    with open_bytes(path) as stream:
        reader = parsed(lines_of(path, stream, layout), layout, strict=True)
        begin = 1
        try:
            for cells in reader:
                if cells:
                    yield begin, cells
                begin = reader.line_num + 1
        except csv.Error as error:
            fault = CARRIAGE_RETURN if "new-line" in str(error) else f"{error} (a quote that is not closed?)"
            raise DataError(f"{path}:{begin}: {fault}") from None


def lines_of(path: Path, stream: io.BufferedReader, layout: Layout) -> Iterator[str]:
    """Lines for Python's csv."""
    return (layout.plain(decoded(path, number, line).encode()).decode() for number, line in enumerate(stream, 1))


def parsed(lines: Iterable[str], layout: Layout, strict: bool = False) -> Any:
    """Rows of lines that are `Layout.plain`, by Python's csv; slow."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(
        lines,
        delimiter=layout.delimiter.decode(),
        quoting=layout.quotes,  # type: ignore[arg-type]
        skipinitialspace=layout.skip_blanks,
        strict=strict,
    )
