"""The event log: units, order, ids and fingerprints, compared with plain Python and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.events import raw_events
from worlds.plain_log import ORDERS, ROWS, plain_units, raw_of

from recrun.data.events.filters import Filters
from recrun.data.events.log import chosen_order, chosen_unit, compact, event_ranks
from recrun.data.types import TEST, TRAIN
from recrun.errors import ConfigError, DataError


def units_of(log):
    """{unit id: [item id …]} in order."""
    items = log.items[log.item].tolist()
    bounds = zip(log.units.tolist(), log.offsets, log.offsets[1:], strict=False)
    return {unit: items[begin:end] for unit, begin, end in bounds}


# ---- order


@pytest.mark.parametrize("order", ORDERS)
@settings(deadline=None)
@given(ROWS)
def test_the_events_of_each_unit_are_in_order(order, rows):
    log = Filters().apply(raw_of(rows), None, order)
    expected = plain_units(rows, order)
    assert units_of(log) == {unit: [event.item for event in events] for unit, events in expected.items()}
    assert log.lengths.tolist() == [len(events) for events in expected.values()]
    if order == "none":
        assert log.rank is None
        return
    clock = [(event.clock, event.row) for events in expected.values() for event in events]
    by_clock = {key: at for at, key in enumerate(sorted(clock))}
    assert log.rank.tolist() == [by_clock[key] for key in clock]
    if order == "time":
        assert log.time.tolist() == [time for time, _ in clock]
    else:
        assert log.time is None


def test_equal_times_are_ranked_in_the_order_of_the_file():
    raw = raw_events([("a", 3), ("a", 1), ("b", 2), ("a", 2)], [7, 7, 5, 7])
    assert event_ranks(raw, "time").tolist() == [1, 2, 0, 3]
    assert units_of(Filters().apply(raw)) == {"a": [3, 1, 2], "b": [2]}


def test_units_with_events_of_equal_time_are_counted():
    raw = raw_events([("a", 1), ("a", 2), ("b", 1), ("b", 1), ("c", 1), ("c", 2)], [3, 3, 4, 4, 5, 6])
    log = Filters().apply(raw)
    assert log.counts["units_with_ties"] == 1  # b took the same item twice: their order changes nothing
    for order in ("file", "none"):
        assert Filters().apply(raw, None, order).counts["units_with_ties"] == 0


def test_the_order_is_that_of_time_where_there_are_times():
    timed, untimed = raw_events([("a", 1)], [1]), raw_events([("a", 1)])
    assert chosen_order(timed, None) == "time"
    assert chosen_order(untimed, None) == "none"
    assert chosen_order(untimed, "file") == "file"
    assert chosen_order(timed, "none") == "none"
    told = r"dataset.order=time needs the time of each event, and the data have no time column.*dataset.order=file"
    with pytest.raises(DataError, match=told):
        chosen_order(untimed, "time")


# ---- units


def both(users, sessions, part=None):
    """Events of users in sessions, each a second after the one before."""
    of_sessions = raw_events([(name, 1) for name in sessions], range(len(sessions)), part, "session")
    of_users = raw_events([(name, 1) for name in users])
    return replace(of_sessions, user=of_users.user, users=of_users.users)


def test_the_unit_is_the_session_where_the_data_have_one():
    data = both(["u", "u", "v"], ["s", "t", "r"])
    assert chosen_unit(data, None) == "session"
    assert chosen_unit(data, "user") == "user"
    log = Filters().apply(data)
    assert (log.units.tolist(), log.owners.tolist()) == (["r", "s", "t"], ["v", "u", "u"])
    log = Filters().apply(data, "user")
    assert (log.units.tolist(), log.owners) == (["u", "v"], None)


@pytest.mark.parametrize(("there", "asked"), [("user", "session"), ("session", "user")])
def test_a_unit_without_a_column_is_refused(there, asked):
    raw = raw_events([("a", 1)], unit=there)
    assert chosen_unit(raw, None) == there
    with pytest.raises(ConfigError, match=rf"dataset.unit={asked}: the data have no {asked} column; .*unit={there}"):
        chosen_unit(raw, asked)


def test_a_session_of_two_users_belongs_to_its_first_one():
    assert Filters().apply(both(["v", "u", "u"], ["s", "s", "t"])).owners.tolist() == ["v", "u"]


def test_a_session_id_in_two_parts_is_two_sessions():
    part = [TRAIN, TRAIN, TEST, TEST, TRAIN]
    raw = both(["u", "u", "v", "v", "w"], ["s", "s", "s", "t", "r"], part)
    log = Filters().apply(raw)
    assert log.units.tolist() == ["r", "s", "s", "t"]
    assert log.lengths.tolist() == [1, 2, 1, 1]
    assert log.owners.tolist() == ["w", "u", "v", "v"]
    assert log.part.tolist() == [TRAIN, TRAIN, TRAIN, TEST, TEST]
    assert len(Filters().apply(replace(raw, part=None)).units) == 3


def test_a_users_id_in_two_parts_is_one_user():
    log = Filters().apply(raw_events([("u", 1), ("u", 2)], [0, 1], [TRAIN, TEST]))
    assert (log.units.tolist(), log.part.tolist()) == (["u"], [TRAIN, TEST])


# ---- ids


@settings(deadline=None)
@given(ROWS, st.data())
def test_compact_leaves_no_gap_and_no_other_change(rows, data):
    log = Filters().apply(raw_of(rows))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))), bool)
    some = log.take(kept)
    small = compact(some)
    assert units_of(small) == {unit: items for unit, items in units_of(some).items() if items}
    assert set(small.unit.tolist()) == set(range(len(small.units)))
    assert set(small.item.tolist()) == set(range(len(small.items)))
    assert sorted(small.rank.tolist()) == list(range(len(small)))
    assert (np.argsort(small.rank) == np.argsort(some.rank)).all()
    assert small.time.tolist() == some.time.tolist()


# ---- fingerprints


def test_a_fingerprint_is_of_ids_events_and_order():
    pairs = [("a", 1), ("a", 2), ("b", 1)]
    logs = [
        Filters().apply(raw_events(pairs, [0, 1, 2])),
        Filters().apply(raw_events(pairs)),
        Filters().apply(raw_events(pairs, [1, 0, 2])),
        Filters().apply(raw_events(pairs, [0, 2, 1])),
        Filters().apply(raw_events([("a", 1), ("a", 2), ("c", 1)], [0, 1, 2])),
        Filters().apply(raw_events([("a", 1), ("a", 3), ("b", 1)], [0, 1, 2])),
        Filters().apply(raw_events([("a", 1), ("b", 2), ("b", 1)], [0, 1, 2])),
    ]
    assert len({log.fingerprint() for log in logs}) == len(logs)
    later = Filters().apply(raw_events(pairs, [100, 101, 200]))
    assert later.fingerprint() == logs[0].fingerprint()  # the order counts, not the times


@settings(deadline=None)
@given(rows=ROWS, data=st.data())
def test_a_fingerprint_does_not_depend_on_the_order_of_the_file(rows, data):
    """Where nothing but the file tells events apart, it does: here all have times of their own, or no order."""
    rows = [(unit, item, at, 0) for at, (unit, item, *_) in enumerate(rows)]
    shuffled = data.draw(st.permutations(rows))
    for order in ("time", "none"):
        one, other = (Filters().apply(raw_of(some), None, order).fingerprint() for some in (rows, shuffled))
        assert one == other


@settings(deadline=None)
@given(ROWS)
def test_the_canonical_order_is_by_unit_item_and_order(rows):
    for order in ("time", "file"):
        log = Filters().apply(raw_of(rows), None, order)
        found = log.canonical()
        key = sorted(range(len(log)), key=lambda at: (log.unit[at], log.item[at], log.rank[at]))
        assert found.tolist() == key
    assert Filters().apply(raw_of(rows), None, "none").canonical() is None
