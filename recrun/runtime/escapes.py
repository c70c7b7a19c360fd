"""Ids, which may be any text, in files: in lines of a file, in cells of a table, in arrays of numpy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recrun.errors import DataError

Ids: TypeAlias = NDArray[Any]


def escaped(text: str) -> str:
    """Text that neither a tab nor the end of a line is in."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    if "\\" not in text:
        return text
    signs = {"t": "\t", "n": "\n", "r": "\r"}
    pieces = text.split("\\\\")
    for sign, meaning in signs.items():
        pieces = [piece.replace(f"\\{sign}", meaning) for piece in pieces]
    return "\\".join(pieces)


def as_lines(values: Iterable[str]) -> str:
    """A text with one value per line; those that hold an end of a line, or a backslash, are escaped."""
    kept = list(map(str, values))
    text = "".join(f"{value}\n" for value in kept)
    if "\\" in text or "\r" in text or text.count("\n") > len(kept):
        return "".join(f"{_in_line(value)}\n" for value in kept)
    return text


def from_lines(text: str) -> Ids:
    """The values that `as_lines` was given."""
    lines = text.split("\n")[:-1]
    return np.array(list(map(unescaped, lines)) if "\\" in text else lines, object)


def _in_line(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def in_cells(ids: Ids, what: str) -> Ids:
    """Ids as text for the cells of a TSV file.

    Args:
        ids: Of any type.
        what: Whose they are, for the message.

    Raises:
        DataError: One would not stay in its cell.
    """
    found = np.empty(len(ids), object)
    found[:] = [str(name) for name in ids.tolist()]
    for name in found:
        if "\t" in name or "\n" in name or "\r" in name:
            raise DataError(
                f"{what} id {name!r} holds a tab or a line break: it cannot be written in a table; rename it"
            )
    return found


def in_array(ids: Ids) -> np.ndarray:
    """Ids as an array of numpy's text type, which forgets NUL characters at the end: where one has some, all have
    their backslashes doubled and these NUL characters written as `\\0`."""
    texts = [str(name) for name in ids.tolist()]
    if any(text.endswith("\0") for text in texts):
        texts = [text.replace("\\", "\\\\") for text in texts]
        texts = [text.rstrip("\0") + "\\0" * (len(text) - len(text.rstrip("\0"))) for text in texts]
    return np.array(texts, str)
