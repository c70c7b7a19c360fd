"""Sequence files: a line per user, `user item item item …` in order, separated by blanks or tabs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recrun.data.io.chunks import Chunk, Texts
from recrun.data.io.streams import line_blocks
from recrun.data.types import Ids, Int64
from recrun.errors import DataError

FORM = "a line is `user item item …`, separated by blanks"


def sequence_chunks(path: Path, split: bool, counts: dict[str, int]) -> Iterator[Chunk]:
    """The events of a file, some lines at a time, with the texts "user" and "item".

    Args:
        path: The file.
        split: Whether it is one of train, valid and test: then a user may have no items here, which is counted.
        counts: Gets `users_without_items`.

    Raises:
        DataError: A line cannot be used, or a user has two; names it.
    """
    users: list[Ids] = []
    lines: list[Int64] = []
    events = 0
    for begin, block in line_blocks(path):
        cells, lengths = _cells(block)
        line = begin + np.flatnonzero(lengths)
        lengths = lengths[lengths > 0]
        first = np.cumsum(lengths) - lengths
        user = cells.codes[first]
        alone = np.flatnonzero(lengths == 1)
        if len(alone) and not split:
            name = cells.values[user[alone[0]]]
            raise DataError(f"{path}:{line[alone[0]]}: user {name!r} has no items; {FORM}")
        counts["users_without_items"] = counts.get("users_without_items", 0) + len(alone)
        users.append(cells.values[user])
        lines.append(line)
        items = np.delete(cells.codes, first)
        events += len(items)
        if len(items):
            texts = {"user": Texts(np.repeat(user, lengths - 1), cells.values), "item": Texts(items, cells.values)}
            yield Chunk(len(items), texts)
    if not events:
        raise DataError(f"{path}: no line has an item; {FORM}")
    _refuse_twice(path, np.concatenate(users), np.concatenate(lines))


def _cells(block: bytes) -> tuple[Texts, Int64]:
    """All cells, one line after another, and how many each line has."""
    import pandas as pd

    text = block.decode().replace("\t", " ").replace("\n", " \n ")
    codes, values = pd.factorize(np.array(text.split(" "), object))
    codes = codes[codes != _code("", values)]
    newline = codes == _code("\n", values)
    cells, ends = codes[~newline], np.flatnonzero(newline)
    return Texts(cells.astype(np.int32), values), np.diff(ends, prepend=-1) - 1


def _code(value: str, values: Ids) -> int:
    found = np.flatnonzero(values == value)
    return int(found[0]) if len(found) else -1


def _refuse_twice(path: Path, users: Ids, lines: Int64) -> None:
    import pandas as pd

    again = np.flatnonzero(pd.Index(users, dtype=object).duplicated())
    if len(again):
        name, line = users[again[0]], lines[again[0]]
        first = lines[np.flatnonzero(users == name)[0]]
        raise DataError(f"{path}:{line}: user {name!r} has a line already, line {first}; {FORM}")
