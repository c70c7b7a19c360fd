"""What the parser of delimited text reads: blocks of whole lines, looked at for what the parser does not report."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from recrun.data.io.layout import Layout
from recrun.data.io.streams import BLOCK_BYTES, whole_lines
from recrun.data.io.widths import RowWidths

SIGNS = tuple(b" +\t\v\f")  # what the parser of integers skips
NUL, NUL_STAND_IN = b"\0", "\ufffe".encode()  # the parser ends a cell at NUL; U+FFFE is no character


class Lines:
    """A text behind its header.

    Attributes:
        widths: Of the rows.
        odd: Whether a cell begins or ends like a number that is not written plainly: 007 and +7 are not the id 7.
        nul: Whether NUL characters were replaced.
    """

    def __init__(self, stream: io.BufferedReader, layout: Layout, integers: bool) -> None:
        self.stream, self.layout, self.integers = stream, layout, integers
        self.widths = RowWidths(len(layout.names), layout.delimiter, layout.quoting)
        self.odd = self.nul = False

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
