"""What is evaluated: inputs, seen items and targets of every split, compared with plain Python and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import lists, raw_events
from worlds.plain_log import (
    CASES,
    NAMES,
    ROWS,
    by_unit,
    made_of,
    plain_next_items,
    plain_rankings,
)

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.queries import Rankings, next_item_queries, rankings, units_with_targets, whole_inputs
from recrun.data.events.split_log import divide
from recrun.data.ragged import Ragged
from recrun.data.types import INPUT, TEST, TRAIN, VALID

SPLITS = ("valid", "test")
CODES = {"valid": VALID, "test": TEST}


def rows_of(made, ragged):
    """Rows as lists of item ids."""
    return [made.items[row].tolist() for row in lists(ragged)]


def divided(histories, split, times=None, **filters):
    """A split log of {unit: items in order}."""
    pairs = [(unit, item) for unit, items in histories.items() for item in items]
    raw = raw_events(pairs, range(len(pairs)) if times is None else times)
    return divide(Filters(**filters).apply(raw), split)


# ---- rankings


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_rankings_equal_plain_python(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    for split in SPLITS:
        found = rankings(made, split)
        columns = (rows_of(made, ragged) for ragged in (found.inputs, found.seen, found.targets))
        expected = plain_rankings(made, split)
        assert list(zip(made.units[found.unit].tolist(), *columns, strict=True)) == expected
        assert found.ids.tolist() == [str(unit) for unit, *_ in expected]
        assert all(len(set(targets)) == len(targets) for *_, targets in expected)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_no_held_out_event_is_trained_on(case, rows):
    """Events, not items: a unit may have taken the same item before."""
    made = made_of(rows, case)
    if made is None:
        return
    units = by_unit(made)
    trained = [[item for item, part in events if part == TRAIN] for events in units.values()]
    assert rows_of(made, made.train) == trained
    held_out = sum(part in (VALID, TEST, INPUT) for events in units.values() for _, part in events)
    assert sum(map(len, trained)) + held_out == len(made.item)


CUT_IN_ORDER = (splits.LeaveLastOut, splits.Temporal)
IN_ORDER = [(name, case) for name, case in zip(NAMES, CASES, strict=True) if isinstance(case[0], CUT_IN_ORDER)]


@pytest.mark.parametrize("case", [case for _, case in IN_ORDER], ids=[name for name, _ in IN_ORDER])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_the_input_of_a_unit_precedes_its_targets(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    for split in SPLITS:
        shown = made.input_mask(split)
        for begin, end in zip(made.offsets, made.offsets[1:], strict=False):
            at = np.arange(begin, end)
            inputs, targets = at[shown[begin:end]], at[made.part[begin:end] == CODES[split]]
            if len(inputs) and len(targets):
                assert inputs.max() < targets.min()


def test_leave_last_out_by_hand():
    made = divided({"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}, splits.LeaveLastOut())
    valid, test = rankings(made, "valid"), rankings(made, "test")
    assert valid.ids.tolist() == test.ids.tolist() == ["a", "b", "d"]
    assert rows_of(made, valid.inputs) == [[1, 2, 3], [3], [5, 6]]
    assert rows_of(made, test.inputs) == [[1, 2, 3, 4], [3, 1], [5, 6, 7]]
    assert rows_of(made, valid.targets) == [[4], [1], [7]]
    assert rows_of(made, test.targets) == [[5], [6], [1]]
    assert rows_of(made, test.seen) == rows_of(made, test.inputs)
    assert test.unit.tolist() == [0, 1, 3]
    assert len(test) == 3


def test_at_test_time_validation_events_are_input_or_only_seen():
    histories = {"a": [1, 2, 3, 4]}
    shown, hidden = (
        rankings(divided(histories, splits.LeaveLastOut(test_input=rule)), "test") for rule in ("train_valid", "train")
    )
    assert (shown.inputs.items.tolist(), shown.seen.items.tolist()) == ([0, 1, 2], [0, 1, 2])
    assert (hidden.inputs.items.tolist(), hidden.seen.items.tolist()) == ([0, 1], [0, 1, 2])


def test_two_cuts_in_time_for_everybody():
    events = [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3), ("c", 1), ("a", 4), ("b", 4), ("a", 5)]
    made = divide(Filters().apply(raw_events(events, range(10))), splits.Temporal(0.2, 0.2))
    valid, test = rankings(made, "valid"), rankings(made, "test")
    assert valid.ids.tolist() == ["a"]
    assert units_with_targets(made, "valid") == 2  # c has no input
    assert rows_of(made, valid.targets) == [[4]]
    assert test.ids.tolist() == ["a", "b"]
    assert rows_of(made, test.inputs) == [[1, 2, 3, 4], [1, 2, 3]]
    assert rows_of(made, test.targets) == [[5], [4]]


@pytest.mark.parametrize(
    ("targets", "inputs", "held_out"),
    [("last", [[7, 8, 7], [9]], [[9], [8]]), ("rest", [[7], [9]], [[7, 8, 9], [8]])],
)
def test_of_whole_units_all_but_the_last_event_or_the_first_one_is_input(targets, inputs, held_out):
    """c has one event, so nothing precedes it."""
    histories = {"t": [7, 8, 9], "a": [7, 8, 7, 9], "b": [9, 8], "c": [7]}
    split = splits.LatestFraction(test_fraction=0.75, valid_fraction=0, targets=targets)
    made = divided(histories, split, times=[0, 0, 0, 1, 1, 1, 1, 2, 2, 3])
    found = rankings(made, "test")
    assert found.ids.tolist() == ["a", "b"]
    assert rows_of(made, found.inputs) == rows_of(made, found.seen) == inputs
    assert rows_of(made, found.targets) == held_out  # each once, in the order of the catalogue


def test_a_target_that_is_held_out_twice_counts_once():
    made = divided(
        {"a": [1, 2, 3, 3, 2, 3], "b": [1, 2, 3]}, splits.Temporal(0.1, 0.5), times=[0, 1, 5, 6, 7, 8, 2, 3, 4]
    )
    assert rows_of(made, rankings(made, "test").targets) == [[2, 3]]
    assert units_with_targets(made, "test") == 1


# ---- seen targets


@settings(deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.lists(st.integers(0, 5), max_size=6)), min_size=1, max_size=6))
def test_seen_targets_are_taken_out_and_counted(units):
    targets, seen = zip(*units, strict=True)
    found = Rankings(
        np.array([f"u{at}" for at in range(len(units))], object),
        np.arange(len(units)) * 2,
        ragged_of(seen),
        ragged_of(seen),
        ragged_of([sorted(row) for row in targets]),
    )
    left, count = found.without_seen_targets
    expected = [
        (f"u{at}", at * 2, sorted(row - set(seen[at]))) for at, row in enumerate(targets) if row - set(seen[at])
    ]
    assert count == sum(len(row & set(was_seen)) for row, was_seen in units)
    if not count:
        assert left is found
        return
    assert list(zip(left.ids.tolist(), left.unit.tolist(), lists(left.targets), strict=True)) == expected
    assert lists(left.seen) == [list(seen[unit // 2]) for _, unit, _ in expected]


def ragged_of(rows):
    flat = [item for row in rows for item in row]
    return Ragged.of_lengths(np.array([len(row) for row in rows], np.int64), np.array(flat, np.int32))


def test_some_units_can_be_taken():
    made = divided({"a": [1, 2, 3], "b": [3, 1, 2], "c": [2, 3, 1]}, splits.LeaveLastOut())
    some = rankings(made, "test").take(np.array([2, 0]))
    assert some.ids.tolist() == ["c", "a"]
    assert rows_of(made, some.inputs) == [[2, 3], [1, 2]]
    assert rows_of(made, some.targets) == [[1], [3]]


# ---- next items


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_next_items_equal_plain_python(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    for split in SPLITS:
        found = next_item_queries(made, split)
        prefixes = rows_of(made, found.prefixes(0, len(found)))
        targets = made.items[found.target].tolist()
        assert list(zip(found.ids.tolist(), prefixes, targets, strict=True)) == plain_next_items(made, split)
        units = made.units[found.unit[found.row]].tolist()
        assert [name.rpartition(":")[0] for name in found.ids.tolist()] == [str(unit) for unit in units]
        assert (np.diff(found.row) >= 0).all()
        assert (np.unique(found.row) == np.arange(len(found.unit))).all()  # each sequence has an event to predict


@pytest.mark.parametrize("case", CASES[::4], ids=NAMES[::4])
@settings(max_examples=25, deadline=None)
@given(rows=ROWS, data=st.data())
def test_some_sequences_keep_their_events(case, rows, data):
    made = made_of(rows, case)
    if made is None:
        return
    whole = next_item_queries(made, "test")
    count = len(whole.unit)
    begin = data.draw(st.integers(0, count))
    end = data.draw(st.integers(begin, count + 2))
    index = sorted(data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=count))) if count else []
    parts = {range(begin, min(end, count)): whole.rows(begin, end)}
    parts[tuple(index)] = whole.take_rows(np.array(index, np.int64))
    everything = events_of(whole)
    for rows_, some in parts.items():
        assert some.unit.tolist() == [int(whole.unit[row]) for row in rows_]
        number = {row: at for at, row in enumerate(rows_)}
        expected = [(number[row], *rest) for row, *rest in everything if row in number]
        assert events_of(some) == expected


def events_of(found):
    prefixes = lists(found.prefixes(0, len(found)))
    return list(zip(found.row.tolist(), found.ids.tolist(), prefixes, found.target.tolist(), strict=True))


def test_next_items_by_hand():
    made = divided({"a": [1, 2, 3, 4], "b": [4, 3, 2], "c": [3, 4], "d": [1, 2, 3, 4, 1]}, splits.LeaveLastOut())
    found = next_item_queries(made, "test")
    assert found.ids.tolist() == ["a:4", "b:3", "d:5"]
    assert rows_of(made, found.prefixes(0, 3)) == [[1, 2, 3], [4, 3], [1, 2, 3, 4]]
    assert rows_of(made, found.prefixes(1, 2)) == [[4, 3]]
    assert made.items[found.target].tolist() == [4, 2, 1]


def test_of_a_whole_session_every_event_after_the_first_is_predicted():
    split = splits.LatestFraction(test_fraction=0.5, valid_fraction=0)
    made = divided({"t": [7, 8, 9], "a": [7, 8, 7]}, split, times=[0, 0, 0, 1, 1, 1])
    found = next_item_queries(made, "test")
    assert found.ids.tolist() == ["a:2", "a:3"]
    assert rows_of(made, found.prefixes(0, 2)) == [[7], [7, 8]]
    assert rows_of(made, found.sequences) == [[7, 8, 7]]


def test_a_random_split_shows_training_events_alone():
    made = divided({"a": list(range(10))}, splits.Random(0.2, 0.3))
    found = next_item_queries(made, "test")
    train = made.items[made.train.items].tolist()
    assert len(found) == 3
    assert rows_of(made, found.prefixes(0, 3)) == [train] * 3
    assert found.ids.tolist() == [f"a:{item + 1}" for item in made.items[found.target].tolist()]


def test_no_event_to_predict_is_no_error():
    made = divided({"t": [7, 8], "a": [7]}, splits.LatestFraction(test_fraction=0.5, valid_fraction=0), times=[0, 0, 1])
    found = next_item_queries(made, "test")
    assert (len(found), len(found.unit), len(found.prefixes(0, 0))) == (0, 0, 0)


# ---- whole inputs


@pytest.mark.parametrize("case", CASES[::3], ids=NAMES[::3])
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_whole_inputs_are_the_input_and_then_the_held_out_events(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    for split in SPLITS:
        shown = (TRAIN, INPUT, VALID) if split == "test" and made.test_input == "train_valid" else (TRAIN, INPUT)
        expected = {
            str(unit): [item for item, part in events if part in shown]
            + [item for item, part in events if part == CODES[split]]
            for unit, events in by_unit(made).items()
            if any(part == CODES[split] for _, part in events)
        }
        found = whole_inputs(made, split)
        assert len(found) == len(expected)
        assert dict(zip(found.ids.tolist(), rows_of(made, found.inputs), strict=True)) == expected
        assert found.seen is found.inputs
