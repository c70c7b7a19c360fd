"""What is known of users and of items besides who took what: side tables, and their values as ids of one table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recrun.data.rows import Ids, Int32, Mask
from recrun.errors import ConfigError, DataError
from recrun.features import Features, Field

ID = "id"  # the field that is the user or item itself, whatever the column is called


@dataclass(frozen=True)
class Side:
    """A table with a row per user or item.

    Attributes:
        name: What it is called in messages, a file or "dataset.source".
        ids: Ids by row, as text.
        columns: Values by row for every other column, as text; "" where there is none.
    """

    name: str
    ids: Ids
    columns: Mapping[str, Ids]


@dataclass(frozen=True)
class Encoded:
    """The fields of n users or items.

    Attributes:
        features: Their names and sizes.
        values: As a batch of n rows would hold them: `sparse` int32 [n, F]; each list ragged, `name` int32 [N] and
            `name_offsets` int64 [n + 1].
        names: "field=value" by id.
        absent: How many of the n the table lacks; all their fields but the id are the unknown value.
    """

    features: Features
    values: Mapping[str, np.ndarray]
    names: Ids
    absent: int


def read_side(path: str, root: str | None, key: str) -> Side:
    """Reads a table whose first column holds the ids: CSV, TSV or the typed headers of RecBole (`age:token`).

    Args:
        path: Relative to `root`, else to the working directory.
        root: The data folder.
        key: The config key that names the file, for messages.

    Raises:
        DataError: The file cannot be used, a row has not as many values as the header, an id occurs twice.
    """
    file = _existing(path, root, key)
    rows = _rows(file)
    _, header = next(rows, (1, []))
    names = [name.partition(":")[0].strip() for name in header]
    if len(names) < 2:
        raise DataError(f"{file}:1: the header needs the name of the ids and of one value at least")
    cells: list[list[str]] = []
    lines: dict[str, int] = {}
    for number, row in rows:
        if len(row) != len(names):
            raise DataError(f"{file}:{number}: {len(row)} values where the header has {len(names)}")
        if row[0] in lines:
            raise DataError(f"{file}:{number}: {names[0]} {row[0]} was described before, in line {lines[row[0]]}")
        lines[row[0]] = number
        cells.append(row)
    if not cells:
        raise DataError(f"{file}: no rows behind the header")
    ids, *columns = (np.array(column, object) for column in zip(*cells, strict=True))
    return Side(str(file), ids, dict(zip(names[1:], columns, strict=True)))


def _existing(path: str, root: str | None, key: str) -> Path:
    places = [Path(root or ".").expanduser() / path, Path(path).expanduser()]
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"dataset.{key}={path} is not a file; looked for {' and '.join(map(str, dict.fromkeys(places)))}")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            tabs = "\t" in header
            separator = "\t" if tabs else max((",", ";", "|"), key=header.count)
            reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def encode(
    side: Side | None, ids: Ids, known: Mask, fields: Sequence[str], lists: Sequence[str], separator: str, key: str
) -> Encoded:
    """Fields of users or items as ids of one table; of each field the first one is the unknown value.

    Args:
        side: Their table, None if there is none: then the only field is ID.
        ids: Of the n users or items, as text.
        known: [n], who is trained on: values that nobody of these has are unknown.
        fields: Names of the columns with one value.
        lists: Names of the columns with any number of values.
        separator: Between the values of a list.
        key: "user" or "item", for messages.

    Raises:
        ConfigError: A column is not in the table.
    """
    _refuse_unknown(side, [*fields, *lists], key)
    place = _places(side, ids)
    first, names, found = 0, [], []
    values: dict[str, np.ndarray] = {}
    sparse = np.zeros((len(ids), len(fields)), np.int32)
    for at, name in enumerate(fields):
        column = ids if name == ID else _column(side, name, place)
        code, words = _codes(column, known if name == ID else known & (place >= 0), place < 0 if name != ID else None)
        sparse[:, at] = first + code
        found.append(Field(name, first, len(words) + 1))
        names += [f"{name}=?", *(f"{name}={word}" for word in words)]
        first += len(words) + 1
    sequences = []
    for name in lists:
        flat, offsets, row = _split(_column(side, name, place), separator)
        code, words = _codes(flat, known[row], None)
        values |= {name: (first + code).astype(np.int32), f"{name}_offsets": offsets}
        sequences.append(Field(name, first, len(words) + 1))
        names += [f"{name}=?", *(f"{name}={word}" for word in words)]
        first += len(words) + 1
    features = Features(tuple(found), sequences=tuple(sequences))
    absent = 0 if side is None else int(np.count_nonzero(place < 0))
    return Encoded(features, {"sparse": sparse, **values}, np.array(names, str), absent)


def _refuse_unknown(side: Side | None, names: Sequence[str], key: str) -> None:
    columns = [] if side is None else list(side.columns)
    for name in names:
        if name not in columns and name != ID:
            where = f"dataset.{key}_table is not given" if side is None else f"{side.name} has {', '.join(columns)}"
            raise ConfigError(f"dataset.{key}_fields or {key}_lists names {name}, but {where}; {ID} is always there")


def _places(side: Side | None, ids: Ids) -> np.ndarray:
    """The row of each id in the table, -1 where it has none."""
    if side is None:
        return np.full(len(ids), -1)
    row = {name: at for at, name in enumerate(side.ids.tolist())}
    return np.fromiter((row.get(name, -1) for name in ids.tolist()), np.int64, len(ids))


def _column(side: Side | None, name: str, place: np.ndarray) -> Ids:
    assert side is not None
    return np.where(place >= 0, side.columns[name][place], "")


def _codes(values: Ids, known: Mask, absent: Mask | None) -> tuple[Int32, list[str]]:
    """1 + the rank of each value among the known ones, 0 for others and where it is absent; the known values."""
    words = sorted({str(word) for word in values[known].tolist()})
    number = {word: at for at, word in enumerate(words, 1)}
    code = np.fromiter((number.get(str(word), 0) for word in values.tolist()), np.int32, len(values))
    if absent is not None:
        code[absent] = 0
    return code, words


def _split(values: Ids, separator: str) -> tuple[Ids, np.ndarray, np.ndarray]:
    """Lists written as text: their words, offsets, and the row of each word."""
    words = [[word for word in str(value).split(separator) if word] for value in values.tolist()]
    lengths = np.array([len(row) for row in words], np.int64)
    flat = np.array([word for row in words for word in row], object)
    return flat, np.concatenate([[0], np.cumsum(lengths)]), np.repeat(np.arange(len(values)), lengths)
