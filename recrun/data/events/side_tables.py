"""What is known of users and of items besides who took what: side tables, and their values as ids of one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from recrun.data.types import Ids, Int32, Mask
from recrun.errors import CheckpointError, ConfigError, DataError
from recrun.features import Features, Field
from recrun.runtime.escapes import escaped, unescaped

log = logging.getLogger("recrun")

ID = "id"  # the field that is the user or item itself, whatever the column is called


@dataclass(frozen=True)
class SideTable:
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
class EncodedSide:
    """The fields of n users or items.

    Attributes:
        features: Their names and sizes.
        values: As a batch of n rows would hold them: `sparse` int32 [n, F]; each list ragged, `name` int32 [N] and
            `name_offsets` int64 [n + 1].
        names: "field=value" by id, in lines that a file can hold.
        absent: How many of the n the table lacks; all their fields but the id are the unknown value.
    """

    features: Features
    values: Mapping[str, np.ndarray]
    names: Ids
    absent: int


@dataclass(frozen=True)
class SideFields:
    """What models see of users or of items.

    Attributes:
        key: "user" or "item", for messages.
        fields: Names of the columns with one value.
        lists: Names of the columns with any number of values.
        separator: Between the values of a list.
    """

    key: str
    fields: Sequence[str] = (ID,)
    lists: Sequence[str] = ()
    separator: str = " "

    def words(self, names: Ids) -> dict[str, list[str]]:
        """The values of each field, as `EncodedSide.names` of an earlier table says.

        Raises:
            CheckpointError: It speaks of other fields, or of these in another order.
        """
        mine = sorted((*self.fields, *self.lists), key=len, reverse=True)  # a name may hold "=" too
        cut = [_name_and_word(unescaped(line), mine) for line in names.tolist()]
        found = {name: [word for _, word in lines][1:] for name, lines in groupby(cut, itemgetter(0))}
        if list(found) != [*self.fields, *self.lists]:
            raise CheckpointError(
                f"the run was trained with other {self.key}_features, {', '.join(found) or 'none'}: keep "
                f"dataset.{self.key}_fields and {self.key}_lists"
            )
        return found


def _name_and_word(line: str, names: Sequence[str]) -> tuple[str, str]:
    name = next((name for name in names if line.startswith(f"{name}=")), line.partition("=")[0])
    return name, line[len(name) + 1 :]


def encode(side: SideTable | None, ids: Ids, known: Mask, wanted: SideFields, names: Ids | None = None) -> EncodedSide:
    """Fields of users or items as ids of one table; of each field the first one is the unknown value.

    Args:
        side: Their table, None if there is none: then the only field is ID.
        ids: Of the n users or items, as text.
        known: [n], who is trained on: values that nobody of these has are unknown.
        wanted: The columns.
        names: Of an earlier table, which say what is known instead.

    Raises:
        ConfigError: A column is not in the table.
        DataError: The table describes none of those a model is to be trained with.
        CheckpointError: `names` speak of other fields.
    """
    _refuse_unknown(side, wanted.fields, wanted.lists, wanted.key)
    words = None if names is None else wanted.words(names)
    in_table = _rows(side, ids)
    absent = 0 if side is None else _absent(side, ids, in_table, wanted.key, training=names is None)
    table = _Table(words)
    sparse = np.zeros((len(ids), len(wanted.fields)), np.int32)
    for at, name in enumerate(wanted.fields):
        values, seen = (ids, known) if name == ID else (_column(side, name, in_table), known & (in_table >= 0))
        sparse[:, at] = table.add(name, values, seen, None if name == ID else in_table < 0)
    lists: dict[str, np.ndarray] = {}
    for name in wanted.lists:
        values, offsets, row = _split(_column(side, name, in_table), wanted.separator)
        lists |= {name: table.add(name, values, known[row], None), f"{name}_offsets": offsets}
    fields, sequences = table.fields[: len(wanted.fields)], table.fields[len(wanted.fields) :]
    found = Features(tuple(fields), sequences=tuple(sequences))
    return EncodedSide(found, {"sparse": sparse, **lists}, np.array(table.names, object), absent)


class _Table:
    """Rows of one table for the values of several fields, each after the one before."""

    def __init__(self, words: Mapping[str, list[str]] | None) -> None:
        self.words = words
        self.fields: list[Field] = []
        self.names: list[str] = []

    def add(self, name: str, values: Ids, known: Mask, absent: Mask | None) -> Int32:
        """The row of each value: 1 + its rank among those known, 0 for others and where it is absent, of this field."""
        texts = values.tolist()
        words = sorted({str(word) for word in values[known].tolist()}) if self.words is None else self.words[name]
        number = {word: at for at, word in enumerate(words, 1)}
        code = np.fromiter((number.get(str(word), 0) for word in texts), np.int32, len(texts))
        if absent is not None:
            code[absent] = 0
        self.fields.append(Field(name, len(self.names), len(words) + 1))
        self.names += [escaped(f"{name}={word}") for word in ("?", *words)]
        return code + np.int32(self.fields[-1].first)


def _refuse_unknown(side: SideTable | None, fields: Sequence[str], lists: Sequence[str], key: str) -> None:
    columns = [] if side is None else list(side.columns)
    for name in (*fields, *lists):
        if name not in columns and name != ID:
            where = f"dataset.{key}_table is not given" if side is None else f"{side.name} has {', '.join(columns)}"
            raise ConfigError(f"dataset.{key}_fields or {key}_lists names {name}, but {where}; {ID} is always there")
    for name in lists:
        if name == "sparse" or name in (f"{other}_offsets" for other in lists):
            raise ConfigError(f"dataset.{key}_lists: {name!r} is what a batch calls something else; rename the column")


def _rows(side: SideTable | None, ids: Ids) -> np.ndarray:
    """The row of each id in the table, -1 where it has none."""
    if side is None:
        return np.full(len(ids), -1)
    row = {name: at for at, name in enumerate(side.ids.tolist())}
    return np.fromiter((row.get(name, -1) for name in ids.tolist()), np.int64, len(ids))


def _absent(side: SideTable, ids: Ids, row: np.ndarray, key: str, training: bool) -> int:
    """How many have no row in the table. Warns of most, refuses to learn from a table that describes nobody."""
    without = np.flatnonzero(row < 0)
    if 2 * len(without) > len(ids):
        message = (
            f"{side.name} describes {len(ids) - len(without)} of {len(ids)} {key}s: {ids[without[0]]!r} is not there"
        )
        if training and len(without) == len(ids):
            raise DataError(f"{message}, nor any other; its ids are like {side.ids[0]!r} (dataset.{key}_table)")
        log.warning("%s", message)
    return len(without)


def _column(side: SideTable | None, name: str, row: np.ndarray) -> Ids:
    assert side is not None
    return np.where(row >= 0, side.columns[name][row], "")


def _split(values: Ids, separator: str) -> tuple[Ids, np.ndarray, np.ndarray]:
    """Lists written as text: their words, offsets, and the row of each word."""
    words = [[word for word in str(value).split(separator) if word] for value in values.tolist()]
    lengths = np.array([len(row) for row in words], np.int64)
    flat = np.array([word for row in words for word in row], object)
    return flat, np.concatenate([[0], np.cumsum(lengths)]), np.repeat(np.arange(len(values)), lengths)
