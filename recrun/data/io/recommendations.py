"""Recommendation lists of any program: a row per item, `user item [rank] [score]`, perhaps with a header line."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recrun.data.io.chunks import DataFile, Wanted
from recrun.data.io.coder import Coder
from recrun.data.io.columns import COMMON_NAMES
from recrun.data.io.files import TEXT_ENDINGS, kind
from recrun.data.io.formats import data_file
from recrun.data.io.layout import LONGEST_HEADER, TABBED
from recrun.data.io.streams import CARRIAGE_RETURN, decoded, open_bytes
from recrun.data.ragged import Ragged
from recrun.data.types import Float, Ids, Int32, Int64
from recrun.errors import DataError

NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (*COMMON_NAMES["user"], *COMMON_NAMES["session"], "unit", "unitid"),
    "item": COMMON_NAMES["item"],
    "rank": ("rank", "position"),
    "score": ("score", "prediction", "rating"),
}
HEADLESS = {2: ("user", "item"), 3: ("user", "item", "rank or score"), 4: ("user", "item", "rank", "score")}
FORM = "a row is `user item`, `user item rank`, `user item score` or `user item rank score`"


@dataclass(frozen=True)
class Recommendations:
    """L lists, best item first.

    Attributes:
        users: Ids as text, distinct, [L].
        items: Ids as text, distinct.
        lists: Indices into `items`, int32; no list has one twice.
    """

    users: Ids
    items: Ids
    lists: Ragged


def read_recommendations(path: Path) -> Recommendations:
    """Reads a file: CSV, TSV or other text, perhaps compressed, or Parquet.

    Ranks order the items of a user, else scores do, the highest first and equal ones as in the file, else the order of
    the rows.

    Raises:
        DataError: A row cannot be used, or an item is in a list twice; names the file and the line.
    """
    file, columns = opened(path)
    ids = frozenset({columns["user"], columns["item"]})
    values = frozenset(columns.values()) - ids
    coders = {"user": Coder(), "item": Coder()}
    codes: dict[str, list[Int32]] = {role: [] for role in coders}
    parts: dict[str, list[Float]] = {role: [] for role in columns if role not in coders}
    for chunk in file.chunks(Wanted(texts=ids, numbers=values, required=ids | values)):
        for role, coder in coders.items():
            cells = chunk.texts[columns[role]]
            used, code = np.unique(cells.codes, return_inverse=True)  # a reader may know more texts than it has cells
            codes[role].append(coder(cells.values[used], code.astype(np.int32)))
        for role, found in parts.items():
            found.append(chunk.numbers[columns[role]].astype(np.float64))
    if not any(map(len, codes["user"])):
        raise DataError(f"{path}: no recommendation; {FORM}")
    user, item = np.concatenate(codes["user"]), np.concatenate(codes["item"])
    numbers = {role: np.concatenate(found) for role, found in parts.items()}
    users, items = coders["user"].values(), coders["item"].values()
    refuse_repeats(file, user.astype(np.int64) * len(items) + item, users[user], items[item])
    order = sorted_by(file, user, numbers)
    return Recommendations(users, items, Ragged.of(user[order], item[order], len(users)))


def opened(path: Path) -> tuple[DataFile, dict[str, str]]:
    """The file, and the name of the column of each role that it has."""
    if kind(path) not in ("", *TEXT_ENDINGS):
        return with_header(path)
    cells = first_row(path)
    if {"user", "item"} <= roles(cells).keys():
        return with_header(path)
    if len(cells) not in HEADLESS:
        raise DataError(f"{path}:1: {len(cells)} cells; {FORM}, or the first line names the columns (user, item, …)")
    names = HEADLESS[len(cells)]
    return data_file(path, names), {name: name for name in names}


def with_header(path: Path) -> tuple[DataFile, dict[str, str]]:
    """A file whose header names the columns, and the column of each role."""
    file = data_file(path)
    found = roles(file.header())
    if not {"user", "item"} <= found.keys():
        raise DataError(f"{path}: no column of users and of items; the columns are {', '.join(file.header())}")
    return file, found


def first_row(path: Path) -> list[str]:
    """The cells of the first line. Raises DataError if the file is empty."""
    with open_bytes(path) as stream:
        line = decoded(path, 1, stream.readline(LONGEST_HEADER)).rstrip("\r\n")
    if not line.strip():
        raise DataError(f"{path}: the file is empty, or its first line is")
    if "\r" in line:
        raise DataError(f"{path}:1: {CARRIAGE_RETURN}")
    separator = "\t" if kind(path) in TABBED else max((",", "\t", ";", "|"), key=line.count)
    return next(csv.reader([line], delimiter=separator)) if separator in line else line.split()


def roles(header: Sequence[str]) -> dict[str, str]:
    """The columns that a header names, by role: `user_id`, or `user_id:token`, is of users."""
    plain = {name.partition(":")[0].lower().translate(str.maketrans("", "", "_- ")): name for name in reversed(header)}
    found = {role: next((plain[name] for name in names if name in plain), None) for role, names in NAMES.items()}
    return {role: name for role, name in found.items() if name is not None}


def refuse_repeats(file: DataFile, pair: Int64, users: Ids, items: Ids) -> None:
    """Raises DataError, naming both lines, if a user has an item twice."""
    order = np.argsort(pair, kind="stable")
    again = order[1:][pair[order][1:] == pair[order][:-1]]
    if len(again):
        row = int(again.min())
        first = int(np.flatnonzero(pair == pair[row])[0])
        raise DataError(
            f"{file.location(row)}: user {users[row]!r} has item {items[row]!r} already, in "
            f"{file.location(first)}; a list holds an item once"
        )


def sorted_by(file: DataFile, user: np.ndarray, numbers: Mapping[str, Float]) -> Int64:
    """Positions of the rows by user, each user's best first."""
    row = np.arange(len(user))
    for name, values in numbers.items():
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            raise DataError(f"{file.location(int(odd[0]))}: the {name} is {values[odd[0]]}: no number to sort by")
    if "rank or score" in numbers:
        numbers = {of_third(file, user, numbers["rank or score"]): numbers["rank or score"]}
    if "rank" in numbers:
        order = np.lexsort((row, numbers["rank"], user))
        refuse_odd_ranks(file, user[order], numbers["rank"][order], order)
        return order
    return np.lexsort((row, -numbers["score"], user)) if "score" in numbers else np.lexsort((row, user))


def of_third(file: DataFile, user: np.ndarray, values: Float) -> str:
    """Whether the third column of a file without a header is a rank: 1, 2, 3, … of each user, in the file's order.

    Raises:
        DataError: It may be either: read as the other, a list would be upside down.
    """
    order = np.argsort(user, kind="stable")
    if (values[order] == place_within(user[order]) + 1).all():
        return "rank"
    if (values == np.floor(values)).all():
        raise DataError(
            f"{file.location(0)}: the third column holds whole numbers that may be ranks or scores; let the first line "
            "name the columns: user, item, rank (or score)"
        )
    return "score"


def refuse_odd_ranks(file: DataFile, user: np.ndarray, rank: Float, row: Int64) -> None:
    """Raises DataError unless each user's ranks are 1, 2, 3, …, or 0, 1, 2, … of all users."""
    begin = 0 if rank.min() == 0 else 1
    expected = place_within(user) + begin
    odd = np.flatnonzero(rank != expected)
    if len(odd):
        at = odd[0]
        raise DataError(
            f"{file.location(int(row[at]))}: rank {rank[at]:g} where {expected[at]} is expected: the ranks of a user "
            f"are {begin}, {begin + 1}, {begin + 2}, … without gaps"
        )


def place_within(user: np.ndarray) -> Int64:
    """The place of each row among those of its user, from 0; users are sorted."""
    lengths = np.unique(user, return_counts=True)[1]
    return np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
