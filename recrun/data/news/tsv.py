"""Tab-separated files without header or quoting, in blocks of whole lines: a column at a time, never row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recrun.data.io.streams import line_blocks
from recrun.data.types import Int64
from recrun.errors import DataError

Bytes: TypeAlias = npt.NDArray[np.uint8]
BLOCK_BYTES = 1 << 23
TAB, NEWLINE = b"\t\n"


@dataclass(frozen=True)
class TsvBlock:
    """Some whole lines of a tab-separated file.

    Attributes:
        path: The file.
        line: Number of the first line.
        text: The bytes; the last is a newline.
        edges: Where fields end: -1, then every tab and newline.
        last: For each row, the position of its newline in `edges`.
    """

    path: Path
    line: int
    text: Bytes
    edges: Int64
    last: Int64

    @classmethod
    def of(cls, path: Path, line: int, content: bytes) -> TsvBlock:
        """Finds the fields."""
        text = np.frombuffer(content, np.uint8)
        edges = np.concatenate([[-1], np.flatnonzero((text == TAB) | (text == NEWLINE))])
        return cls(path, line, text, edges, np.flatnonzero(text[edges[1:]] == NEWLINE) + 1)

    def fields(self) -> Int64:
        """Fields of each row."""
        return np.diff(self.last, prepend=0)

    def column(self, from_right: int) -> Bytes:
        """One field of every row, counted from the right (1 = the last), each ended by a newline."""
        start = self.edges[self.last - from_right] + 1
        end = self.edges[self.last - from_right + 1]
        change = np.zeros(len(self.text) + 1, np.int8)
        change[start] += 1
        change[end + 1] -= 1
        cut: Bytes = self.text[np.cumsum(change[:-1], dtype=np.int8).astype(bool)]
        cut[np.cumsum(end - start + 1) - 1] = NEWLINE
        return cut

    def refuse(self, bad: npt.NDArray[np.bool_], what: str) -> None:
        """Raises DataError for the first row that is bad."""
        if bad.any():
            raise DataError(f"{self.path}:{self.line + int(bad.argmax())}: {what}")

    def refuse_width(self, allowed: tuple[int, ...], names: tuple[str, ...]) -> None:
        """Raises DataError for the first row with another number of columns."""
        fields = self.fields()
        bad = ~np.isin(fields, allowed)
        found, expected = fields[bad.argmax()], " or ".join(map(str, allowed))
        what = f"the row has {found} tab-separated columns, expected {expected}: {', '.join(names)}"
        self.refuse(bad, what)


def tsv_blocks(path: Path) -> Iterator[TsvBlock]:
    """The file in blocks of whole lines."""
    return (TsvBlock.of(path, line, content) for line, content in line_blocks(path, BLOCK_BYTES))


def strings(column: Bytes) -> list[str]:
    """A column's fields."""
    return column.tobytes().decode().split("\n")[:-1]
