"""Whether every row of a text has as many cells as the header, exactly, at the speed of whole arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recrun.data.types import Mask

Bytes: TypeAlias = NDArray[np.uint8]

NEWLINE, RETURN, QUOTE = b'\n\r"'


class RowWidths:
    """Looks at the separators of a text, block by block.

    A row that is too long and another that is too short do not cancel out: each row is looked at.

    Attributes:
        rows: Rows so far; blank lines are none.
        wrong: Whether there may be a row of another width. It may be a false alarm only where cells hold quotes in
            odd places, such as `5" disk`: then the text has to be parsed to know.
        parsed: Whether that was done; for the reader to remember.
        inside: Whether the text so far ends within quotes.
    """

    def __init__(self, width: int, separator: bytes, quoting: bool) -> None:
        """Sets up.

        Args:
            width: Cells that a row should have.
            separator: One byte.
            quoting: Whether cells may be quoted.
        """
        self.width, self.separator, self.quoting = width, separator, quoting
        self.row = separator * (width - 1) + b"\n"
        kept = separator + b'\n"' if quoting else separator + b"\n"
        self.others = bytes(byte for byte in range(256) if byte not in kept)
        self.rows, self.wrong, self.parsed = 0, False, False
        self.inside = False  # quotes, at the end of the last block
        self._begun = np.zeros(0, np.uint8)  # separators of a row that goes on in the next block

    def add(self, block: bytes) -> None:
        """Counts a block of whole lines in."""
        marks = block.translate(None, self.others)
        rows, rest = divmod(len(marks), self.width)
        if not (self.inside or rest) and marks == self.row * rows:
            self.rows += rows
        else:
            self._look_closely(block.replace(b"\r\n", b"\n"))

    def end(self) -> None:
        """At the end of the text: quotes that are still open are wrong."""
        self.wrong |= self.inside

    def _look_closely(self, block: bytes) -> None:
        """The same where there are quotes or blank lines."""
        text = np.frombuffer(block, np.uint8)
        before = np.concatenate([[np.uint8(NEWLINE)], text[:-1]])
        edge = (text == self.separator[0]) | (text == NEWLINE)
        outside = ~self._quoted(text, before) if self.quoting else np.ones(len(text), np.bool_)
        edge &= outside
        self.wrong |= bool((outside & (text == RETURN)).any())
        blank = edge & (text == NEWLINE) & (before == NEWLINE)
        marks = np.concatenate([self._begun, text[edge & ~blank]])
        newlines = np.flatnonzero(marks == NEWLINE)
        whole = int(newlines[-1]) + 1 if len(newlines) else 0
        self._begun = marks[whole:]
        self.rows += len(newlines)
        ends = marks[self.width - 1 : whole : self.width]
        self.wrong |= whole != len(newlines) * self.width or bool((ends != NEWLINE).any())

    def _quoted(self, text: Bytes, before: Bytes) -> Mask:
        """Which bytes are within quotes, the opening ones included; these may be at the beginning of a cell alone."""
        quote = text == QUOTE
        inside: Mask = (np.cumsum(quote, dtype=np.uint8) + self.inside) % 2 == 1  # a sum that wraps keeps its parity
        opening = before[quote & inside]
        self.wrong |= bool(((opening != self.separator[0]) & (opening != NEWLINE) & (opening != QUOTE)).any())
        self.inside = bool(inside[-1])
        return inside
