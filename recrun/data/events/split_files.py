"""A split as files: for those who train elsewhere on the same events, and for recrun, which reads them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from recrun.data.events.log import EventLog, UnitName
from recrun.data.events.queries import Rankings, rankings
from recrun.data.events.split_log import CODES, SplitLog
from recrun.data.io.files import EVENT_SPLITS
from recrun.data.ragged import Ragged
from recrun.data.types import DROPPED, TRAIN, Ids, Int64, as_text
from recrun.errors import DataError
from recrun.runtime.escapes import in_cells

Form: TypeAlias = Literal["tsv", "inter"]

SEPARATORS = " |,;"  # between the items of a row of units/, the first that no id contains
TYPES = {"timestamp": "float", "order": "float"}  # of .inter; all other columns are tokens


@dataclass(frozen=True)
class SplitFiles:
    """A split log with the log that it was made from, as tables.

    Attributes:
        log: The filtered log.
        made: The same after the split.
        unit: What a unit is.
    """

    log: EventLog
    made: SplitLog
    unit: UnitName

    @property
    def unit_column(self) -> str:
        """The column of the unit's id."""
        return f"{self.unit}_id"

    def kept(self) -> Int64:
        """Positions in `log` of the events that `made` holds, in the same order, [N]."""
        part = self.made.assignment.part
        kept = part != DROPPED
        if len(self.made.items) < len(self.log.items):  # split.catalogue=train: only items that are trained on
            trained = np.zeros(len(self.log.items), np.bool_)
            trained[self.log.item[part == TRAIN]] = True
            kept &= trained[self.log.item]
        return np.flatnonzero(kept)

    def columns(self) -> dict[str, np.ndarray]:
        """Of every event the unit, its user where a session has one, the item, the time and the rank, [N] each.

        Raises:
            DataError: An id cannot be written in a line of a table.
        """
        log, kept = self.log, self.kept()
        found: dict[str, np.ndarray] = {self.unit_column: in_cells(log.units, "unit")[log.unit[kept]]}
        if log.owners is not None:
            found["user_id"] = in_cells(log.owners, "user")[log.unit[kept]]
        found["item_id"] = in_cells(log.items, "item")[log.item[kept]]
        if log.time is not None:
            found["timestamp"] = numbers(log.time[kept])
        if log.rank is not None:
            found["order"] = log.rank[kept]
        return found

    def unit_in_one_file(self) -> bool:
        """Whether no unit has events in two of the files."""
        unit, part = np.repeat(np.arange(len(self.made.units)), np.diff(self.made.offsets)), self.made.part
        return bool((part[1:] == part[:-1])[unit[1:] == unit[:-1]].all())

    def keys(self) -> dict[str, Any]:
        """The keys that read the files back as the same split; `dataset.path` apart."""
        as_sessions = self.unit == "session" and self.unit_in_one_file()
        user = "user_id" if self.log.owners is not None else "none"
        timed = self.log.rank is not None
        return {
            "dataset.unit": "session" if as_sessions else "user",
            "dataset.user_column": user if as_sessions else self.unit_column,
            "dataset.session_column": self.unit_column if as_sessions else "none",
            "dataset.item_column": "item_id",
            "dataset.rating_column": "none",
            "dataset.time_column": "order" if timed else "none",
            "dataset.time_unit": "s" if timed else None,
            "dataset.order": "time" if timed else "none",
            "dataset.filters.repeats": "keep",
            "split.in_order": self.made.assignment.in_order,
            "split.hold_out_units": self.made.assignment.whole_units,
            "split.catalogue": "all" if len(self.made.items) == len(self.log.items) else "train",
            "split.test_input": self.made.test_input,
            "split.targets": self.made.targets,
        }

    def write(self, folder: Path, form: Form) -> dict[str, int]:
        """Writes train, fold_in, valid and test, those that have events, and units/.

        Args:
            folder: An empty folder.
            form: TSV with a header line, or RecBole's .inter, called <folder>.train.inter and so on.

        Returns:
            Rows by file.

        Raises:
            DataError: An id cannot be written in a line of a table.
        """
        columns, rows = self.columns(), {}
        typed = {name: f"{name}:{TYPES.get(name, 'token')}" if form == "inter" else name for name in columns}
        prefix = f"{folder.resolve().name}." if form == "inter" else ""
        separator = separator_of(self.made.items)
        for name, code in EVENT_SPLITS.items():
            mine = self.made.part == code
            if mine.any():
                table = {typed[column]: values[mine] for column, values in columns.items()}
                rows[f"{prefix}{name}.{form}"] = write_table(folder / f"{prefix}{name}.{form}", table)
        (folder / "units").mkdir()
        for split in CODES:
            units = rankings(self.made, split)
            if len(units):
                table = units_table(units, self.unit_column, in_cells(self.made.items, "item"), separator)
                rows[f"units/{split}.tsv"] = write_table(folder / "units" / f"{split}.tsv", table)
        return rows

    def without_events(self) -> tuple[int, int]:
        """Units, and items of the catalogue, that no file names."""
        units = int(np.count_nonzero(np.diff(self.made.offsets) == 0))
        return units, len(self.made.items) - len(np.unique(self.made.item))


def numbers(times: np.ndarray) -> np.ndarray:
    """Times, as whole numbers where all are."""
    whole = times.astype(np.int64)
    return whole if (whole == times).all() else times


def separator_of(items: Ids) -> str:
    """What can stand between ids. Raises DataError if ids contain all that could."""
    names = as_text(items).tolist()
    found = next((mark for mark in SEPARATORS if not any(mark in name for name in names)), None)
    if found is None:
        raise DataError(
            f"item ids contain all of {' '.join(SEPARATORS[1:])} and blanks: lists of them cannot be written"
        )
    return found


def units_table(units: Rankings, name: str, items: Ids, separator: str) -> dict[str, Ids]:
    """A row per unit: its id, its input in order, what it has seen, and its targets."""
    return {
        name: in_cells(units.ids, "unit"),
        "input": joined_rows(units.inputs, items, separator),
        "seen": joined_rows(units.seen, items, separator),
        "targets": joined_rows(units.targets, items, separator),
    }


def joined_rows(rows: Ragged, items: Ids, separator: str) -> Ids:
    """The ids of each row in one text, [Q]."""
    names, bounds = items[rows.items].tolist(), rows.offsets.tolist()
    found = np.empty(len(rows), object)
    found[:] = [separator.join(names[begin:end]) for begin, end in pairwise(bounds)]
    return found


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> int:
    """Writes a new TSV file with a header line; returns its rows."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(columns) + "\n")
        cells = [map(str, values.tolist()) for values in columns.values()]
        file.writelines("\t".join(row) + "\n" for row in zip(*cells, strict=True))
    return len(next(iter(columns.values())))


def differences(one: SplitLog, other: SplitLog) -> list[str]:
    """What of two split logs is not the same, in words: compared by id, whatever the numbers of units and items."""
    if one.fingerprint() == other.fingerprint():
        return []
    return [what for (what, mine), (_, its) in zip(contents(one), contents(other), strict=True) if mine != its]


def contents(made: SplitLog) -> Iterator[tuple[str, list[str]]]:
    """What models are trained and evaluated on, in words and as sorted lines."""
    items = as_text(made.items)
    yield "training events", lines_of(made.units, items, made.train)
    for split in CODES:
        found = rankings(made, split)
        yield f"inputs of {split} units", lines_of(found.ids, items, found.inputs)
        yield f"seen items of {split} units", lines_of(found.ids, items, found.seen)
        yield f"targets of {split} units", lines_of(found.ids, items, sets_by_id(found.targets, items))
    yield "catalogue", sorted(items)


def lines_of(ids: Ids, items: Ids, rows: Ragged) -> list[str]:
    """Id and items of each row that has any, sorted."""
    joined = zip(ids.tolist(), joined_rows(rows, items, "\t").tolist(), strict=True)
    return sorted(f"{name}\t{row}" for name, row in joined if row)


def sets_by_id(rows: Ragged, items: Ids) -> Ragged:
    """Rows of distinct items, in the order of their ids as text: the order of two catalogues may differ."""
    order = np.lexsort((np.argsort(np.argsort(items))[rows.items], rows.rows()))
    return Ragged(rows.offsets, rows.items[order])
