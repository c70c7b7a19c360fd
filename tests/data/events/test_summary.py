"""Counts of a split log add up; a split with nothing to evaluate is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from worlds.events import event_data, ratings, raw_events, write_ratings
from worlds.plain_log import CASES, NAMES, ROWS, by_unit, made_of, plain_rankings

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.split_log import divide
from recrun.data.events.summary import refuse_empty, summary, warn_of_later_input, warn_of_ties
from recrun.data.types import INPUT, TEST, TRAIN, VALID
from recrun.errors import DataError

CODES = {"valid": VALID, "test": TEST}
FIVE = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
def test_counts_equal_plain_python(case, rows):
    made = made_of(rows, case)
    if made is None:
        return
    units, counts = by_unit(made), summary(made)
    events = [(unit, item, part) for unit, row in units.items() for item, part in row]
    trained = {item for _, item, part in events if part == TRAIN}
    assert counts["n_users"] == len(units)
    assert counts["n_items"] == len(made.items)
    assert counts["train_users"] == len({unit for unit, _, part in events if part == TRAIN})
    assert counts["train_interactions"] == sum(part == TRAIN for *_, part in events)
    assert counts["trained_items"] == len(trained)
    assert counts["fold_in_interactions"] == sum(part == INPUT for *_, part in events)
    for split, code in CODES.items():
        evaluated = len(plain_rankings(made, split))
        held_out = {unit for unit, _, part in events if part == code}
        assert counts[f"{split}_users"] == evaluated
        assert counts[f"{split}_users_without_input"] == len(held_out) - evaluated
        assert counts[f"{split}_interactions"] == sum(part == code for *_, part in events)
        cold = [item for _, item, part in events if part == code and item not in trained]
        assert counts[f"{split}_interactions_of_untrained_items"] == len(cold)
        assert counts[f"{split}_users_with_later_input"] == later_input_by_hand(made, split)
    if made.counts.get("unknown_items") and made.counts.get("events_after_a_cut"):
        return
    kept = sum(counts[f"{name}_interactions"] for name in ("train", "fold_in", "valid", "test"))
    assert kept + counts.get("unknown_items", 0) + counts.get("events_after_a_cut", 0) == counts["rows_read"]


def later_input_by_hand(made, split):
    """Units that have an input event behind a target, in their own order."""
    if made.start is None or made.assignment.whole_units:
        return 0
    shown, count = made.input_mask(split), 0
    for begin, end in itertools.pairwise(made.offsets.tolist()):
        targets = [at for at in range(begin, end) if made.part[at] == CODES[split]]
        count += bool(targets) and any(shown[at] for at in range(targets[0], end))
    return count


def test_counts_by_hand():
    pairs = [(unit, item) for unit, items in FIVE.items() for item in items]
    counts = summary(divide(Filters().apply(raw_events(pairs, range(len(pairs)))), splits.LeaveLastOut()))
    assert counts == {
        "n_users": 4,
        "n_items": 7,
        "train_users": 4,
        "train_interactions": 8,
        "trained_items": 6,
        "fold_in_interactions": 0,
        "valid_users_with_later_input": 0,
        "test_users_with_later_input": 0,
        "valid_users": 3,
        "valid_interactions": 3,
        "valid_users_without_input": 0,
        "valid_interactions_of_untrained_items": 1,  # 7
        "test_users": 3,
        "test_interactions": 3,
        "test_users_without_input": 0,
        "test_interactions_of_untrained_items": 0,
        "rows_read": 14,
        "below_min_count": 0,
        "units_with_ties": 0,
        "units_below_3_events": 1,
    }


def test_the_counts_of_a_file_add_up(tmp_path):
    rows = [*ratings(), (999, 5, 5, 0)]
    path = write_ratings(tmp_path / "a.csv", rows)
    counts = event_data(path, filters={"threshold": 3, "min_unit_count": 2, "repeats": "first"}).describe()
    kept = counts["train_interactions"] + counts["valid_interactions"] + counts["test_interactions"]
    dropped = counts["below_threshold"] + counts["repeats"] + counts["below_min_count"]
    assert kept + dropped == counts["rows_read"] == 241
    assert counts["below_threshold"] == sum(rating < 3 for _, _, rating, _ in rows)
    assert counts["below_min_count"] == 1


# ---- nothing to evaluate


@pytest.mark.parametrize(
    ("split", "name"),
    [
        (splits.Random(), "validation"),
        (splits.LeaveLastOut(), "validation"),
        (splits.Strong(), "validation"),
        (splits.LatestFraction(valid_fraction=0), "test"),
    ],
    ids=["random", "leave_last_out", "strong", "fraction"],
)
def test_units_of_one_event_cannot_be_evaluated(split, name):
    raw = raw_events([(unit, 1) for unit in range(10)], range(10))
    told = (
        rf"no unit can be evaluated on the {name} split: of 10 units, 1 items and 10 events it holds \d events of "
        r"\d units, none with an input besides them; hold out more or less \(split\.…\), or choose another split"
    )
    with pytest.raises(DataError, match=told):
        event_data(raw, split)


def made_with_test_alone():
    raw = raw_events([("a", 1), ("a", 2), ("a", 3)], [0, 1, 2], [TRAIN, TRAIN, TEST])
    return divide(Filters().apply(raw), splits.Provided(test_input="train"))


def test_a_split_that_was_not_asked_for_may_be_empty():
    made = made_with_test_alone()
    assert made.assignment.asked == ("test",)
    refuse_empty(made, evaluating=False)


def test_to_evaluate_a_finished_run_one_split_is_enough():
    raw = raw_events([("a", 1), ("a", 2), ("a", 3), ("b", 4)], [0, 1, 2, 3], [TRAIN, TRAIN, TEST, VALID])
    made = divide(Filters().apply(raw), splits.Provided())
    assert made.assignment.asked == ("valid", "test")
    refuse_empty(made, evaluating=True)
    with pytest.raises(DataError, match=r"on the validation split: .* holds 1 events of 1 units, none with an input"):
        refuse_empty(made, evaluating=False)
    none = made.on_items(np.array(["4"], object))
    with pytest.raises(DataError, match="no unit can be evaluated on the validation split"):
        refuse_empty(none, evaluating=True)


def test_events_of_equal_time_are_warned_of_where_the_order_decides(caplog):
    raw = raw_events([("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 4)], [3, 3, 4, 4, 5, 6])
    warn_of_ties(divide(Filters().apply(raw), splits.Random()))
    assert not caplog.text
    warn_of_ties(divide(Filters().apply(raw), splits.LeaveLastOut()))
    assert "1 of 2 units have events of equal time; the order of the rows in the file decides" in caplog.text


def test_input_behind_a_target_is_warned_of(caplog):
    raw = raw_events([(unit, item) for unit in "abc" for item in range(10)], range(30))
    warn_of_later_input(divide(Filters().apply(raw), splits.LeaveLastOut()))
    assert not caplog.text
    warn_of_later_input(divide(Filters().apply(raw), splits.Random()))
    assert "% of the units of the test split have input events after a target" in caplog.text
