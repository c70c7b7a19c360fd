"""Which columns of a table are features, and how labels come from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from recrun.data.io.chunks import Chunk, Wanted
from recrun.data.tables.history import History
from recrun.data.types import Float
from recrun.errors import ConfigError, DataError, did_you_mean
from recrun.features import Task

TaskKind: TypeAlias = Literal["classification", "regression"]
TASK_KEYS = ("kind", "column", "at_least", "equals")
SEQUENCE_KEYS = ("separator", "max_length")
BATCH_NAMES = ("sparse", "dense", "label", "group")  # what else a batch holds, besides sequences
HISTORY_KEYS = ("of", "by", "where", "unless", "max_length")


@dataclass(frozen=True)
class Sequence_:
    """A column whose cells hold several ids; of more than `max_length` the last are kept."""

    name: str
    separator: str = "|"
    max_length: int = 50


@dataclass(frozen=True)
class Label:
    """How a task's label comes from a column: its number, whether that is `at_least` so much, or a text `equals`."""

    task: Task
    column: str
    at_least: float | None = None
    equals: str | None = None

    def of(self, chunk: Chunk) -> Float:
        """float64 [R]; NaN where a number is missing."""
        if self.equals is not None:
            texts = chunk.texts[self.column]
            return np.asarray(texts.values == self.equals, np.float64)[texts.codes]
        numbers = chunk.numbers[self.column]
        if self.at_least is None:
            return numbers.astype(np.float64)
        return np.where(np.isnan(numbers), np.nan, numbers >= float(self.at_least))  # in the precision of the file

    def fault(self, label: float) -> str:
        """What is wrong with a label that is missing or outside its type."""
        name, column = self.task.name, f" (column {self.column})" * (self.column != self.task.name)
        if np.isnan(label):
            return f"the label {name} is missing{column}"
        if self.task.kind == "regression":
            value = f"the label {name} is {label!r}{column}"
            return f"{value}, which float32 cannot hold; divide the column by a constant"
        ways = f"regression, {{column: {self.column}, at_least: NUMBER}} or {{…, equals: TEXT}}"
        return (
            f"the label {name} is {label:g}{column}, and a classification label is 0 or 1; "
            f"dataset.tasks.{name} may be {ways}"
        )


@dataclass(frozen=True)
class TableSchema:
    """The columns that are used.

    Attributes:
        sparse: One id a row.
        dense: Numbers.
        sequences: Several ids a row.
        labels: What is predicted.
        share: Columns that number their ids as another one does, by name.
        histories: Sequences that are made of earlier rows.
        group: The column that group_auc groups by.
        time: The column that split=temporal and histories order by.
        part: The column that split=column divides by.
    """

    sparse: tuple[str, ...]
    dense: tuple[str, ...]
    sequences: tuple[Sequence_, ...]
    labels: tuple[Label, ...]
    share: Mapping[str, str]
    histories: tuple[History, ...] = ()
    group: str | None = None
    time: str | None = None
    part: str | None = None

    def wanted(self) -> Wanted:
        """What to read."""
        as_text = [label.column for label in self.labels if label.equals is not None]
        as_number = [label.column for label in self.labels if label.equals is None]
        others = [name for name in (self.group, self.part, self.time) if name is not None]
        return Wanted(
            texts=frozenset((*self.sparse, *as_text, *others)),
            numbers=frozenset((*self.dense, *as_number)),
            lists={sequence.name: sequence.separator for sequence in self.sequences},
        )

    @property
    def id_columns(self) -> tuple[str, ...]:
        """Columns of ids: one a row, then several a row."""
        return (*self.sparse, *self.sequence_names)

    @property
    def sequence_names(self) -> tuple[str, ...]:
        """Columns with several ids a row, those that are made last."""
        return (*(sequence.name for sequence in self.sequences), *(history.name for history in self.histories))

    @property
    def owners(self) -> tuple[str, ...]:
        """Columns that have a vocabulary of their own, in the order of the table of ids."""
        return tuple(dict.fromkeys(self.owner(name) for name in self.id_columns))

    def to_evaluate(self, header: Collection[str], where: str) -> TableSchema:
        """Of a table that is not divided, need not have labels or groups, and has histories as columns.

        Raises:
            DataError: It does not have them; names `where` they were looked for.
        """
        lacking = next((made.name for made in self.histories if made.name not in header), None)
        if lacking is not None:
            raise DataError(
                f"{where}: no column {lacking!r}: rows to evaluate or to predict have their histories as columns, ids "
                f"divided by '|' (dataset.histories.{lacking})"
            )
        labels = self.labels if all(label.column in header for label in self.labels) else ()
        group = self.group if self.group in header else None
        read = (*self.sequences, *(Sequence_(made.name, max_length=made.max_length) for made in self.histories))
        return replace(self, sequences=read, histories=(), labels=labels, group=group, time=None, part=None)

    def first_metric(self) -> str:
        """The metric of the first task; with several tasks the task's name comes first."""
        task = self.labels[0].task
        name = "auc" if task.kind == "classification" else "rmse"
        return f"{task.name}/{name}" if len(self.labels) > 1 else name

    def refuse_absent(self, texts: Mapping[str, Iterable[str]]) -> None:
        """Raises DataError for a label that is to equal a text which no row has.

        Args:
            texts: Distinct texts of the columns that labels come from.
        """
        for label in self.labels:
            seen = list(texts.get(label.column, ()))
            if label.equals is not None and label.equals not in seen:
                hint = did_you_mean(label.equals, seen) or f"; there are {', '.join(map(repr, seen[:5]))}"
                path = f"dataset.tasks.{label.task.name}.equals"
                raise DataError(f"column {label.column} is {label.equals!r} in no row ({path}){hint}")

    def owner(self, name: str) -> str:
        """The column in whose vocabulary a column's ids are."""
        return self.share.get(name, name)

    def require(self, header: Sequence[str], where: str) -> None:
        """Raises DataError unless all the columns are there."""
        keys = dict.fromkeys(self.sparse, "sparse") | dict.fromkeys(self.dense, "dense")
        keys |= {sequence.name: "sequences" for sequence in self.sequences}
        keys |= {label.column: f"tasks.{label.task.name}" for label in self.labels}
        others = {self.group: "group", self.time: "time_column", self.part: "split_column"}
        keys |= {name: key for name, key in others.items() if name is not None}
        for name, key in keys.items():
            if name not in header:
                hint = did_you_mean(name, header)
                there = "" if hint else f"; there are {', '.join(header)}"
                raise DataError(f"{where}: no column {name!r} (dataset.{key}){hint}{there}")


def read_schema(
    sparse: Sequence[str],
    dense: Sequence[str],
    sequences: Mapping[str, Mapping[str, Any] | None],
    tasks: Mapping[str, str | Mapping[str, Any] | None],
    share: Mapping[str, str],
    histories: Mapping[str, Mapping[str, Any]],
    group: str | None,
    time: str | None,
    part: str | None,
) -> TableSchema:
    """A schema from the keys of a config.

    Raises:
        ConfigError: Keys contradict each other.
    """
    _refuse_batch_names([*sequences, *histories])
    lists = tuple(_sequence(name, keys or {}) for name, keys in sequences.items())
    labels = tuple(_label(name, keys) for name, keys in tasks.items())
    if not labels:
        raise ConfigError("dataset.tasks is missing: what to predict, dataset.tasks={click: classification}")
    names = [*sparse, *dense, *sequences, *histories]
    if not names:
        raise ConfigError("no features: name columns in dataset.sparse, dataset.dense or dataset.sequences")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"column {twice!r} is a feature more than once (dataset.sparse, dense, sequences, histories)")
    for label in labels:
        if label.column in names:
            raise ConfigError(f"column {label.column!r} is the label of task {label.task.name} and a feature too")
    ids = [*sparse, *sequences]
    for name, owner in share.items():
        for one in (name, owner):
            if one not in ids:
                raise ConfigError(f"dataset.share.{name}={owner}: {one!r} is no id feature{did_you_mean(one, ids)}")
        if owner in share:
            raise ConfigError(f"dataset.share.{name}={owner}: {owner!r} shares too; name {share[owner]!r} in both")
    pasts = tuple(_history(name, keys, sparse, group, labels) for name, keys in histories.items())
    share = {**share, **{past.name: share.get(past.of, past.of) for past in pasts}}
    return TableSchema(tuple(sparse), tuple(dense), lists, labels, share, pasts, group, time, part)


def _refuse_batch_names(sequences: Sequence[str]) -> None:
    """Raises ConfigError for a sequence that would replace something else in a batch."""
    taken = {*BATCH_NAMES, *(f"{name}_offsets" for name in sequences)}
    for name in sequences:
        if name in taken:
            raise ConfigError(
                f"dataset.sequences or histories: {name!r} is what a batch calls something else; rename the column"
            )


def _sequence(name: str, keys: Mapping[str, Any]) -> Sequence_:
    _known(f"dataset.sequences.{name}", keys, SEQUENCE_KEYS)
    sequence = Sequence_(name, **keys)
    if not isinstance(sequence.separator, str) or not sequence.separator:
        raise ConfigError(f"dataset.sequences.{name}.separator={sequence.separator}: expected text")
    _length(f"dataset.sequences.{name}", sequence.max_length)
    return sequence


def _history(
    name: str, keys: Mapping[str, Any], sparse: Sequence[str], group: str | None, labels: Sequence[Label]
) -> History:
    path = f"dataset.histories.{name}"
    _known(path, keys, HISTORY_KEYS)
    tasks = [label.task.name for label in labels if label.task.kind == "classification"]
    grouping = [*sparse, *([] if group is None else [group])]
    for key, allowed, kind in (("of", sparse, "sparse column"), ("by", grouping, "sparse column or group")):
        if keys.get(key) not in allowed:
            hint = did_you_mean(str(keys.get(key)), allowed)
            raise ConfigError(f"{path}.{key}={keys.get(key)}: expected a {kind}{hint}; there are {', '.join(allowed)}")
    for key in ("where", "unless"):
        if keys.get(key) is not None and keys[key] not in tasks:
            raise ConfigError(f"{path}.{key}={keys[key]}: no classification{did_you_mean(keys[key], tasks)}")
    history = History(name, **keys)
    _length(path, history.max_length)
    return history


def _length(path: str, length: object) -> None:
    if not isinstance(length, int) or length < 1:
        raise ConfigError(f"{path}.max_length={length}: expected a whole number of 1 or more")


def _label(name: str, keys: str | Mapping[str, Any] | None) -> Label:
    keys = {"kind": keys or "classification"} if keys is None or isinstance(keys, str) else keys
    path = f"dataset.tasks.{name}"
    if name == "mean":
        raise ConfigError(f"{path}: mean/auc is the mean over the tasks; give the task another name")
    _known(path, keys, TASK_KEYS)
    kind, at_least, equals = keys.get("kind", "classification"), keys.get("at_least"), keys.get("equals")
    if kind not in get_args(TaskKind):
        raise ConfigError(
            f"{path}={kind}: expected {' or '.join(get_args(TaskKind))}{did_you_mean(kind, get_args(TaskKind))}"
        )
    if at_least is not None and equals is not None:
        raise ConfigError(f"{path}: at_least and equals are two ways to make a label; give one")
    if kind == "regression" and (at_least is not None or equals is not None):
        raise ConfigError(f"{path}: at_least and equals make labels of 0 and 1, which is kind: classification")
    if at_least is not None and (isinstance(at_least, bool) or not isinstance(at_least, int | float)):
        raise ConfigError(f"{path}.at_least={at_least}: expected a number")
    text = None if equals is None else str(equals).lower() if isinstance(equals, bool) else str(equals)
    return Label(Task(name, kind), str(keys.get("column") or name), at_least, text)


def _known(path: str, keys: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in keys:
        if key not in known:
            raise ConfigError(f"unknown key {path}.{key}{did_you_mean(key, known)}; it takes {', '.join(known)}")
