"""What is evaluated: units with an input, seen items and targets; the same for every model of a log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recrun.data.events.split_log import CODES, SplitLog
from recrun.data.ragged import Ragged, joined, offsets_of, spans
from recrun.data.types import VALID, Ids, Int64, Mask, as_text
from recrun.types import Split


@dataclass(frozen=True)
class Rankings:
    """Q units, for each of which the catalogue is ranked once.

    Attributes:
        ids: Of the units, as text [Q].
        unit: Index of each, int64 [Q].
        inputs: The items that the model is shown, in order.
        seen: Items that a ranking may leave out: the input and, for test, the validation items.
        targets: The held-out items of each, distinct, ascending.
    """

    ids: Ids
    unit: Int64
    inputs: Ragged
    seen: Ragged
    targets: Ragged

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, index: Int64) -> Rankings:
        """Some of the units."""
        ragged = (rows.take(index) for rows in (self.inputs, self.seen, self.targets))
        return Rankings(self.ids[index], self.unit[index], *ragged)

    @cached_property
    def without_seen_targets(self) -> tuple[Rankings, int]:
        """The units whose targets are not all seen, with the unseen ones; and how many targets were left out."""
        size = 1 + max(int(rows.items.max(initial=0)) for rows in (self.seen, self.targets))
        seen = np.unique(self.seen.rows() * size + self.seen.items)
        left = ~np.isin(self.targets.rows() * size + self.targets.items, seen, assume_unique=True)
        if left.all():
            return self, 0
        targets = self.targets.keep(left)
        some = replace(self, targets=targets)
        return some.take(np.flatnonzero(targets.lengths())), int(np.count_nonzero(~left))


@dataclass(frozen=True)
class NextItems:
    """Q events to predict, each from a beginning of one of S sequences.

    Attributes:
        ids: "<unit>:<number of the event in its unit, from 1>" [Q].
        unit: Index of each sequence's unit, int64 [S].
        sequences: The items of S sequences, in order.
        row: The sequence of each event, ascending, int64 [Q].
        length: How many of the sequence's items are the input, at least 1, int64 [Q].
        target: The item, int64 [Q].
    """

    ids: Ids
    unit: Int64
    sequences: Ragged
    row: Int64
    length: Int64
    target: Int64

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, begin: int, end: int) -> NextItems:
        """The sequences `begin` to `end`, with their events."""
        end = min(end, len(self.unit))
        first, last = np.searchsorted(self.row, [begin, end])
        return NextItems(
            self.ids[first:last],
            self.unit[begin:end],
            self.sequences.take(np.arange(begin, end)),
            self.row[first:last] - begin,
            self.length[first:last],
            self.target[first:last],
        )

    def take_rows(self, index: Int64) -> NextItems:
        """The sequences `index`, ascending, with their events."""
        number = np.full(len(self.unit), -1)
        number[index] = np.arange(len(index))
        mine = number[self.row] >= 0
        return NextItems(
            self.ids[mine],
            self.unit[index],
            self.sequences.take(index),
            number[self.row[mine]],
            self.length[mine],
            self.target[mine],
        )

    def prefixes(self, begin: int, end: int) -> Ragged:
        """The inputs of the events `begin` to `end`."""
        first = self.sequences.offsets[self.row[begin:end]]
        return self.sequences.at(*spans(first, first + self.length[begin:end]))


@dataclass(frozen=True)
class Inputs:
    """Units and all that is known of them before what comes next, for predictions.

    Attributes:
        ids, unit: As in `Rankings`.
        inputs: Items in order.
        seen: Items that a ranking may leave out.
    """

    ids: Ids
    unit: Int64
    inputs: Ragged
    seen: Ragged

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, index: Int64) -> Inputs:
        """Some of the units."""
        return Inputs(self.ids[index], self.unit[index], self.inputs.take(index), self.seen.take(index))


def rankings(made: SplitLog, split: Split) -> Rankings:
    """The units of a split with an input and a target, worked out once for a log.

    Of units that are held out whole the input is all but the last event, or the first event (see `EventSplit`).
    """
    return made.once(("rankings", split), lambda: _rankings(made, split))


def _rankings(made: SplitLog, split: Split) -> Rankings:
    held_out = made.part == CODES[split]
    shown = made.input_mask(split)
    if made.assignment.whole_units:
        last = _last_of_unit(made, held_out) if made.targets == "last" else held_out & ~_first_of_unit(made, held_out)
        shown, held_out = shown | (held_out & ~last), last
    inputs, targets = made.select(shown), made.select(held_out).sets(len(made.items))
    seen = shown | (made.part == VALID) if split == "test" else shown
    if made.assignment.whole_units:
        seen = shown
    index = np.flatnonzero((inputs.lengths() > 0) & (targets.lengths() > 0))
    ids, ragged = as_text(made.units[index]), (inputs, made.select(seen), targets)
    return Rankings(ids, index, *(rows.take(index) for rows in ragged))


def next_item_queries(made: SplitLog, split: Split) -> NextItems:
    """The held-out events of a split that have an input, each with what precedes it; worked out once for a log."""
    return made.once(("next items", split), lambda: _next_item_queries(made, split))


def _next_item_queries(made: SplitLog, split: Split) -> NextItems:
    mine = made.part == CODES[split]
    inputs, held_out = made.select(made.input_mask(split)), made.select(mine)
    before, count = inputs.lengths(), held_out.lengths()
    number = (np.arange(len(made.item)) - np.repeat(made.offsets[:-1], np.diff(made.offsets)) + 1)[mine]
    unit = np.repeat(np.arange(len(count)), count)
    length = before[unit]
    if made.assignment.in_order:
        length = length + np.arange(len(unit)) - np.repeat(offsets_of(count)[:-1], count)
    wanted = length > 0
    rows = np.unique(unit[wanted])
    sequences = joined(inputs, held_out) if made.assignment.in_order else inputs
    row = np.searchsorted(rows, unit[wanted])
    return NextItems(
        ids=_event_ids(made.units, unit[wanted], number[wanted]),
        unit=rows,
        sequences=sequences.take(rows),
        row=row,
        length=length[wanted],
        target=held_out.items[wanted].astype(np.int64),
    )


def whole_inputs(made: SplitLog, split: Split) -> Inputs:
    """The units of a split with all their events up to the end of the split: what comes next is not known."""
    shown = made.select(made.input_mask(split))
    mine = made.select(made.part == CODES[split])
    index = np.flatnonzero(mine.lengths())
    inputs = joined(shown, mine).take(index)
    return Inputs(as_text(made.units[index]), index, inputs, inputs)


def units_with_targets(made: SplitLog, split: Split) -> int:
    """Units with held-out events, those without an input included."""
    return int(np.count_nonzero(made.select(made.part == CODES[split]).lengths()))


def _event_ids(units: Ids, unit: Int64, number: Int64) -> Ids:
    if not len(unit):
        return np.zeros(0, object)
    names = units[unit].tolist()
    return np.array([f"{name}:{at}" for name, at in zip(names, number.tolist(), strict=True)], object)


def _last_of_unit(made: SplitLog, mine: Mask) -> Mask:
    """The last event of each unit among some events."""
    return _ends(made, mine, last=True)


def _first_of_unit(made: SplitLog, mine: Mask) -> Mask:
    """The first event of each unit among some events."""
    return _ends(made, mine, last=False)


def _ends(made: SplitLog, mine: Mask, last: bool) -> Mask:
    positions = np.flatnonzero(mine)
    unit = np.searchsorted(made.offsets, positions, side="right") - 1
    edge = np.diff(unit, append=-1) != 0 if last else np.diff(unit, prepend=-1) != 0
    found = np.zeros(len(made.item), np.bool_)
    found[positions[edge]] = True
    return found
