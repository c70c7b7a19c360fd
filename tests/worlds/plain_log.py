"""Event logs, their splits and what is evaluated on them, in plain Python: what the arrays are compared with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import strategies as st

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.split_log import divide
from recrun.data.types import DROPPED, INPUT, TEST, TRAIN, VALID
from recrun.errors import DataError
from worlds.events import raw_events

DAY = 86_400
CODES = {"valid": VALID, "test": TEST}

# Rows (unit, item, time in quarters of a day, part) in the order of a file; many of equal unit, item and time.
ROW = st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 12), st.sampled_from([TRAIN, VALID, TEST]))
ROWS = st.lists(ROW, min_size=8, max_size=45)
ORDERS = ("time", "file", "none")


@dataclass
class Event:
    """One row of a file: where it was, and its clock (time, else the row)."""

    unit: int
    item: int
    row: int
    clock: float
    part: int


def raw_of(rows, unit="user", parts=False):
    """The rows as a reader has them; part is that of each row, for a session that of its number."""
    part = [part if unit == "user" else number % 3 for number, _, _, part in rows] if parts else None
    times = [time * DAY / 4 for _, _, time, _ in rows]
    return raw_events([(number, item) for number, item, _, _ in rows], times, part, unit)


def plain_units(rows, order, unit="user", parts=False):
    """{unit: its events in order}."""
    units = {}
    for row, (number, item, time, part) in enumerate(rows):
        clock = {"time": time * DAY / 4, "file": row, "none": item}[order]
        part = (part if unit == "user" else number % 3) if parts else TRAIN
        units.setdefault(number, []).append(Event(number, item, row, clock, part))
    return {number: sorted(units[number], key=lambda event: event.clock) for number in sorted(units)}


def cases():
    """Every split with every order that it can have: (split, order, unit, whether the rows have parts)."""
    anywhere = [
        splits.Random(),
        splits.Random(valid_fraction=0.3, test_fraction=0.4, catalogue="train", test_input="train_valid"),
        splits.Strong(heldout_users=1),
        splits.Strong(heldout_users=1, fold_in=0.5, min_events=1),
        splits.Strong(heldout_users=1, fold_in=0.3, min_events=2, catalogue="all"),
    ]
    in_order = [
        splits.LeaveLastOut(),
        splits.LeaveLastOut(catalogue="train", test_input="train"),
        splits.LatestFraction(test_fraction=0.3, valid_fraction=0.3),
        splits.LatestFraction(test_fraction=0.3, valid_fraction=0, targets="rest", catalogue="all"),
    ]
    timed = [
        splits.Temporal(),
        splits.Temporal(valid_fraction=0.3, test_fraction=0.3, catalogue="train"),
        splits.LastDays(),
        splits.LastDays(test_days=0.5, valid_days=0, targets="rest", catalogue="all"),
    ]
    provided = [
        splits.Provided(),
        splits.Provided(catalogue="train", test_input="train_valid"),
        splits.Provided(targets="rest"),
    ]
    for split in anywhere:
        yield from ((split, order, "user", False) for order in ORDERS)
    for split in in_order:
        yield from ((split, order, "user", False) for order in ("time", "file"))
    yield from ((split, "time", "user", False) for split in timed)
    for split in provided:
        yield from ((split, order, unit, True) for order in ORDERS for unit in ("user", "session"))


CASES = list(cases())
NAMES = [f"{type(split).__name__}-{at}-{order}-{unit}" for at, (split, order, unit, _) in enumerate(CASES)]


def made_of(rows, case):
    """The split log of the rows; None where they leave nothing to train on."""
    split, order, unit, parts = case
    if isinstance(split, splits.Strong) and len({number for number, *_ in rows}) < 3:
        return None
    log = Filters().apply(raw_of(rows, unit, parts), unit, order)
    try:
        return divide(log, split)
    except DataError as error:
        if "there are no events to train on" in str(error):
            return None
        raise


def by_unit(made):
    """{unit id: [(item id, part) …]} of a split log."""
    items, parts = made.items[made.item].tolist(), made.part.tolist()
    bounds = zip(made.units.tolist(), made.offsets[:-1], made.offsets[1:], strict=True)
    return {unit: list(zip(items[begin:end], parts[begin:end], strict=True)) for unit, begin, end in bounds}


def on_training_items(units):
    """Units without the events of items that nobody has in training, and how many these are."""
    known = {item for events in units.values() for item, part in events if part == TRAIN}
    kept = {unit: [event for event in events if event[0] in known] for unit, events in units.items()}
    return kept, sum(map(len, units.values())) - sum(map(len, kept.values()))


def counted(units):
    """How often each (unit, item) occurs."""
    return Counter((unit, item) for unit, events in units.items() for item, *_ in events)


# ---- splits


def plain_leave_last_out(units):
    """Part of every event, by unit."""
    return {
        unit: [TRAIN] * (len(events) - 2) + [VALID, TEST] if len(events) >= 3 else [TRAIN] * len(events)
        for unit, events in units.items()
    }


def plain_temporal(units, valid_fraction, test_fraction):
    """The latest events of all; of equal times the later row."""
    every = sorted((event.clock, event.row) for events in units.values() for event in events)
    test = int(len(every) * test_fraction + 1e-9)
    valid = int(len(every) * valid_fraction + 1e-9)
    part = dict.fromkeys(every, TRAIN)
    part |= dict.fromkeys(every[len(every) - test - valid :], VALID)
    part |= dict.fromkeys(every[len(every) - test :], TEST)
    return {unit: [part[event.clock, event.row] for event in events] for unit, events in units.items()}


def plain_last_days(units, days_by_code):
    """Units that begin in the last days of what is left for training, twice; others lose what is later."""
    part = {unit: [TRAIN] * len(events) for unit, events in units.items()}
    for code, days in days_by_code:
        left = [e.clock for unit in units for e, p in zip(units[unit], part[unit], strict=True) if p == TRAIN]
        if days:
            _hold_out(units, part, code, max(left) - days * DAY)
    return part


def plain_latest_fraction(units, fraction_by_code):
    """The latest share of the units that are left for training, twice; with ties, all that begin as early."""
    part = {unit: [TRAIN] * len(events) for unit, events in units.items()}
    for code, fraction in fraction_by_code:
        starts = sorted(events[0].clock for unit, events in units.items() if TRAIN in part[unit])
        count = int(len(starts) * fraction + 1e-9)
        if count:
            _hold_out(units, part, code, starts[-count])
    return part


def _hold_out(units, part, code, cut):
    for unit, events in units.items():
        for at, event in enumerate(events):
            if part[unit][at] == TRAIN:
                whole = events[0].clock >= cut
                part[unit][at] = code if whole else DROPPED if event.clock >= cut else TRAIN


# ---- what is evaluated


def plain_rankings(made, split):
    """[(unit, input, seen, targets)] of a split log, by item ids; targets in the order of the catalogue."""
    number = {item: at for at, item in enumerate(made.items.tolist())}
    found = []
    for unit, events in by_unit(made).items():
        mine = [item for item, part in events if part == CODES[split]]
        shown = [(item, part) for item, part in events if _is_input(made, part, split)]
        inputs, seen = [item for item, _ in shown], [item for item, _ in shown]
        if made.assignment.whole_units:
            cut = len(mine) - 1 if made.targets == "last" else 1
            inputs, mine = inputs + mine[: max(cut, 0)], mine[max(cut, 0) :]
            seen = inputs
        elif split == "test":
            seen = [item for item, part in events if part == VALID or _is_input(made, part, split)]
        if inputs and mine:
            found.append((unit, inputs, seen, sorted(set(mine), key=number.get)))
    return found


def plain_next_items(made, split):
    """[(event id, input, target)] of a split log, by item ids."""
    found = []
    for unit, events in by_unit(made).items():
        inputs, earlier = [item for item, part in events if _is_input(made, part, split)], []
        for number, (item, part) in enumerate(events, 1):
            if part != CODES[split]:
                continue
            before = inputs + (earlier if made.assignment.in_order else [])
            if before:
                found.append((f"{unit}:{number}", before, item))
            earlier = [*earlier, item]
    return found


def _is_input(made, part, split):
    return part in (TRAIN, INPUT) or (part == VALID and split == "test" and made.test_input == "train_valid")
