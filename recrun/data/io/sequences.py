"""Sequence files: a line per user, `user item item item …` in order, separated by blanks or tabs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.columns import Role
from recrun.data.io.text import decoded, open_bytes
from recrun.errors import DataError

BLOCK_BYTES = 1 << 22
BLANKS = bytes.maketrans(b"\t", b" ")


def sequence_chunks(path: Path, split: bool, counts: dict[str, int]) -> Iterator[dict[Role, Any]]:
    """The events of a file, some lines at a time: user and item, objects that are text.

    Args:
        path: The file.
        split: Whether it is one of train, valid and test: then a user may have no items here, which is counted.
        counts: Gets `users_without_items`.

    Raises:
        DataError: A line cannot be used; names it.
    """
    lines_of: dict[str, int] = {}
    line = 1
    with open_bytes(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            block += stream.readline()
            chunk = _events(block, path, line, lines_of)
            alone = _count_alone(chunk)
            if len(alone) and not split:
                user = chunk[0][alone[0]]
                raise DataError(f"{path}:{lines_of[user]}: user {user!r} has no items; a line is `user item item …`")
            counts["users_without_items"] = counts.get("users_without_items", 0) + len(alone)
            users, items, lengths = chunk
            yield {"user": np.repeat(users, lengths), "item": items}
            line += block.count(b"\n")


def _count_alone(chunk: tuple[Any, Any, Any]) -> Any:
    return np.flatnonzero(chunk[2] == 0)


def _events(block: bytes, path: Path, line: int, lines_of: dict[str, int]) -> tuple[Any, Any, Any]:
    """Users, all their items, and how many each has."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\r" in block:
        number = line + block.count(b"\n", 0, block.index(b"\r"))
        raise DataError(f"{path}:{number}: a carriage return within the line; end lines with \\n or \\r\\n")
    try:
        block.decode()
    except UnicodeDecodeError:
        for number, row in enumerate(block.split(b"\n"), line):
            decoded(path, number, row)
    rows = [[cell for cell in row.split(" ") if cell] for row in block.translate(BLANKS).decode().split("\n")]
    numbered = [(number, row) for number, row in enumerate(rows, line) if row]
    for number, (user, *_) in numbered:
        if lines_of.setdefault(user, number) != number:
            raise DataError(f"{path}:{number}: user {user!r} has a line already, line {lines_of[user]}")
    users = np.array([row[0] for _, row in numbered], object)
    items = np.array([item for _, row in numbered for item in row[1:]], object)
    return users, items, np.array([len(row) - 1 for _, row in numbered], np.int64)
