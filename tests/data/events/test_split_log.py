"""What every model of a log shares: the parts, one catalogue, one fingerprint; the draws never change."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from worlds.events import data_folder, event_data, raw_events
from worlds.plain_log import by_unit

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.split_log import divide
from recrun.data.events.synthetic import LatentTaste
from recrun.data.types import INPUT, TEST, TRAIN, VALID
from recrun.errors import DataError

HISTORIES = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}


def log_of(histories, order="time"):
    pairs = [(unit, item) for unit, items in histories.items() for item in items]
    return Filters().apply(raw_events(pairs, range(len(pairs))), None, order)


def training(made):
    return {unit: [item for item, part in events if part == TRAIN] for unit, events in by_unit(made).items()}


# ---- the catalogue


def test_all_items_can_be_recommended_or_those_of_training_alone():
    whole = divide(log_of(HISTORIES), splits.LeaveLastOut())
    assert whole.items.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert "unknown_items" not in whole.counts
    made = divide(log_of(HISTORIES), splits.LeaveLastOut(catalogue="train"))
    # Training holds 1 2 3, 3, 2 4 and 5 6: 7 is a validation event alone.
    assert made.items.tolist() == [1, 2, 3, 4, 5, 6]
    assert made.counts["unknown_items"] == 1
    assert by_unit(made)["d"] == [(5, TRAIN), (6, TRAIN), (1, TEST)]
    assert training(made) == training(whole)
    assert made.log_fingerprint == whole.log_fingerprint
    assert made.fingerprint() != whole.fingerprint()


def test_strong_keeps_the_items_of_the_training_units():
    histories = {f"u{unit:02}": [(unit + at) % 7 for at in range(5)] + [100 + unit] for unit in range(30)}
    made = divide(log_of(histories), splits.Strong(heldout_users=4))
    parts = {unit: {part for _, part in events} for unit, events in by_unit(made).items()}
    assert sum(found == {TRAIN} for found in parts.values()) == 22
    assert [sum(found == {INPUT, code} for found in parts.values()) for code in (VALID, TEST)] == [4, 4]
    assert len(made.items) == 7 + 22  # what a held-out unit alone has is not there
    assert made.counts["unknown_items"] == 8
    assert (np.count_nonzero(made.part == VALID), np.count_nonzero(made.part == INPUT)) == (4, 32)  # 4 of 5 are shown


# ---- a run's catalogue


@pytest.mark.parametrize("dropped", [[], [2], [1, 5, 7]])
def test_a_given_catalogue_decides_the_numbers_and_what_is_known(dropped, caplog):
    own = divide(log_of(HISTORIES), splits.LeaveLastOut())
    items = np.array([str(item) for item in own.items.tolist()[::-1] if item not in dropped] + ["never seen"], object)
    given = own.on_items(items)
    assert given.items.tolist() == items.tolist()
    expected = {
        unit: [(str(item), part) for item, part in events if item not in dropped]
        for unit, events in by_unit(own).items()
    }
    assert by_unit(given) == expected
    lost = sum(item in dropped for row in HISTORIES.values() for item in row)
    assert given.counts["events_of_unknown_items"] == lost
    if dropped:
        names = ", ".join(map(str, dropped))
        assert f"{len(dropped)} items are unknown to the model, such as {names}; their {lost} events" in caplog.text
    else:
        assert not caplog.text


def test_its_own_catalogue_changes_nothing():
    own = divide(log_of(HISTORIES), splits.Temporal(0.2, 0.2))
    given = own.on_items(np.array([str(item) for item in own.items.tolist()], object))
    assert given.fingerprint() == own.fingerprint()


# ---- fingerprints


def test_a_fingerprint_is_of_the_log_the_parts_and_the_rules():
    log = log_of(HISTORIES)
    made = [
        divide(log, splits.LeaveLastOut()),
        divide(log, splits.LeaveLastOut(test_input="train")),
        divide(log, splits.LeaveLastOut(targets="rest")),
        divide(log, splits.Random()),
        divide(log, splits.Random(seed=1)),
        divide(log_of({**HISTORIES, "c": [4, 2]}), splits.LeaveLastOut()),
        divide(log_of({**HISTORIES, "c": [2, 9]}), splits.LeaveLastOut()),
    ]
    found = [one.fingerprint() for one in made]
    assert len(set(found)) == len(found)
    assert [one.log_fingerprint for one in made[:5]] == [log.fingerprint()] * 5
    assert len({one.log_fingerprint for one in made}) == 3
    whole = replace(made[0], assignment=replace(made[0].assignment, whole_units=True))
    assert whole.fingerprint() != found[0]
    apart = replace(made[0], assignment=replace(made[0].assignment, in_order=False))
    assert apart.fingerprint() != found[0]


def test_ids_that_run_together_are_told_apart():
    one, other = (
        divide(log_of({unit: [1, 2, 3] for unit in units}), splits.LeaveLastOut()).fingerprint()
        for units in (("a", "bc"), ("ab", "c"))
    )
    assert one != other


# ---- what remains


def test_units_begin_when_their_first_event_does():
    raw = raw_events([("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2)], [70, 20, 10, 30, 50])
    by_time, by_file, unordered = (
        divide(Filters().apply(raw, None, order), splits.Random()) for order in ("time", "file", "none")
    )
    assert by_time.start.tolist() == [10, 20, 30]
    assert by_file.start.tolist() == [0, 1, 3]  # ranks
    assert unordered.start is None


def test_nothing_to_train_on_is_refused():
    log = log_of({"a": [1, 2], "b": [2, 1]})
    parts = replace(log, part=np.full(4, TEST, np.int8))
    with pytest.raises(DataError, match=r"there are no events to train on: the split holds out all 4 events"):
        divide(parts, splits.Provided())


def test_a_unit_may_lose_all_its_events():
    """Of items that training lacks; the others keep theirs, wherever the empty one is."""
    part = {"a": TEST, "b": TRAIN, "c": TEST, "d": TEST}
    histories = {"a": [8], "b": [1, 2], "c": [9, 9], "d": [8, 2]}
    log = log_of(histories)
    log = replace(log, part=np.array([part[unit] for unit in log.units[log.unit].tolist()], np.int8))
    made = divide(log, splits.Provided(catalogue="train"))
    assert by_unit(made) == {"a": [], "b": [(1, TRAIN), (2, TRAIN)], "c": [], "d": [(2, TEST)]}
    assert made.counts["unknown_items"] == 4


# ---- draws that must never change: published figures rest on them


def drawn(made):
    """sha256 of the (unit, item) pairs of each part, sorted by unit, then item."""
    item = made.item.astype(np.int64)
    unit = np.repeat(np.arange(len(made.units)), np.diff(made.offsets))
    order = np.lexsort((item, unit))
    units, items, part = made.units[unit[order]].tolist(), made.items[item[order]].tolist(), made.part[order].tolist()
    lines = [
        f"{name} {user} {liked}"
        for code, name in ((TRAIN, "train"), (INPUT, "input"), (VALID, "valid"), (TEST, "test"))
        for user, liked, mine in zip(units, items, part, strict=True)
        if mine == code
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


DRAWS = {
    "random": splits.Random(),
    "random, seed 7": splits.Random(valid_fraction=0.2, test_fraction=0.15, seed=7),
    "strong": splits.Strong(),
    "strong, seed 7": splits.Strong(heldout_users=50, fold_in=0.5, seed=7),
}
OF_THE_DEMO = {
    "random": "eb97514d9964233bdd102223907e716b5cad82121000d972917e9505f4150bfb",
    "random, seed 7": "01c8dbddb754f7e69dd72547aec3b35df71daf738f428ef7f2c49a63a05661b5",
    "strong": "45919d1303c23efcf9a616e800303c206d2e82379a526a224ca97fed470f8967",
    "strong, seed 7": "510852356de1f68fe8297ad7c078bef010467da6e2804265fd63d2bacfb92736",
}
OF_ML_100K = {
    "random": "b746c2df84a02ec836bc4c1f087d37c009fd25dcd860af524c89c29fb7a8ebd4",
    "random, seed 7": "40c695b337b0dfa3c1c239c67cc28f5e4965f732d1f5ef871e087d4b846535d2",
    "strong": "a220d43cbfebab1f29b612d46ab1049588c9c9f231fc8fed83e09abaa66fa05b",
    "strong, seed 7": "8c5f2d91100aeae1ed0364100c1a9ccd9904f51538c40564ed055fc057c2f9e0",
}


@pytest.mark.parametrize("order", [None, "file", "none"])
@pytest.mark.parametrize("name", DRAWS)
def test_draws_on_the_demo_are_those_of_the_first_edition(name, order):
    data = event_data(LatentTaste(), DRAWS[name], order=order, filters={"repeats": "first"})
    assert drawn(data.log) == OF_THE_DEMO[name]


@pytest.mark.data
@pytest.mark.parametrize("name", DRAWS)
def test_draws_on_movielens_are_those_of_the_first_edition(name):
    root = data_folder("ml-100k")
    data = event_data("ml-100k", DRAWS[name], root=root, filters={"repeats": "first"})
    assert drawn(data.log) == OF_ML_100K[name]
