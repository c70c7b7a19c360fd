"""New units in place of the test split: to predict what comes next in data without a split."""

import numpy as np
import pytest
from worlds.events import event_data, lists, raw_events
from worlds.histories import events
from worlds.plain_log import by_unit

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.new_units import with_test
from recrun.data.events.split_log import divide
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.data.loaders.user_rows import UserRows
from recrun.data.types import TEST, TRAIN
from recrun.errors import DataError

HISTORIES = {"a": [1, 2, 3, 4], "b": [4, 3, 1], "c": [2, 4, 1]}


def raw_of(histories):
    pairs = [(unit, item) for unit, items in histories.items() for item in items]
    return raw_events(pairs, range(len(pairs)))


def made_of(histories, split=None):
    return divide(Filters().apply(raw_of(histories)), split or splits.LeaveLastOut())


def test_new_units_follow_those_of_training():
    made = with_test(made_of(HISTORIES), raw_of({"z": [3, 1], "y": [4]}), None, None)
    expected = {"a": [(1, TRAIN), (2, TRAIN)], "b": [(4, TRAIN)], "c": [(2, TRAIN)], "y": [(4, TEST)]}
    assert by_unit(made) == {**expected, "z": [(3, TEST), (1, TEST)]}
    assert made.items.tolist() == [1, 2, 3, 4]
    assert (made.counts["ignored_events"], made.counts["ignored_units"]) == (0, 0)
    assert made.assignment.whole_units
    assert made.assignment.asked == ()
    assert made.start[:3].tolist() == [0, 4, 7]
    assert np.isinf(made.start[3:]).all()  # training goes on in the order that it had


def test_units_that_have_no_training_event_are_gone():
    made = made_of({f"u{unit}": [1, 2, 3, 4, 1] for unit in range(9)}, splits.Strong(heldout_users=2))
    new = with_test(made, raw_of({"z": [3, 1]}), None, None)
    assert len(new.units) == 5 + 1
    assert lists(new.train)[:-1] == [row for row in lists(made.train) if row]


def test_a_known_name_is_another_unit():
    made = with_test(made_of(HISTORIES), raw_of({"a": [4, 4]}), None, None)
    assert made.units.tolist() == ["a", "b", "c", "a"]
    assert lists(made.select(made.part == TEST)) == [[], [], [], [3, 3]]


def test_unknown_items_are_ignored_and_counted(caplog):
    new = {"z": [9, 3, 8, 1], "y": [9], "x": [8, 8], "w": [4]}
    made = with_test(made_of(HISTORIES), raw_of(new), None, None)
    assert {unit: row for unit, row in by_unit(made).items() if unit in new} == {
        "w": [(4, TEST)],
        "z": [(3, TEST), (1, TEST)],
    }
    assert (made.counts["ignored_events"], made.counts["ignored_units"]) == (5, 2)
    assert "5 events of unknown items are ignored; 2 units have no other and are left out" in caplog.text


def test_units_without_any_known_item_are_refused():
    told = r"none of the 3 events of dataset.test_path is of an item that the model knows"
    with pytest.raises(DataError, match=told):
        with_test(made_of(HISTORIES), raw_of({"z": [9, 8], "y": [9]}), None, None)


def test_ids_stay_numbers_where_all_are():
    numbers = made_of({1: [1, 2, 3], 2: [3, 2, 1]})
    assert with_test(numbers, raw_of({7: [1]}), None, None).units.tolist() == [1, 2, 7]
    assert with_test(numbers, raw_of({"z": [1]}), None, None).units.tolist() == ["1", "2", "z"]


@pytest.mark.parametrize("loader", [UserRows(), SessionParallel(num_negatives=2)], ids=["sets", "sessions"])
def test_a_file_takes_the_place_of_the_test_split(tmp_path, loader):
    (tmp_path / "log.csv").write_text(events(HISTORIES))
    (tmp_path / "new.csv").write_text(events({"z": [3, 1, 4], "y": [4], "x": [1, 1]}))
    keys = {"split": "leave_last_out", "loader": loader}
    data = event_data(tmp_path / "log.csv", test_path=str(tmp_path / "new.csv"), **keys)
    plain = event_data(tmp_path / "log.csv", **keys)
    found = data.prediction_inputs("test")
    assert found.ids.tolist() == ["x", "y", "z"]
    ids = data.log.items
    assert [ids[row].tolist() for row in lists(found.inputs)] == [[1, 1], [4], [3, 1, 4]]
    assert lists(found.seen) == lists(found.inputs)
    assert lists(data.log.train) == [*lists(plain.log.train), [], [], []]
    for batch, other in zip(*(d.train_batches(2, np.random.default_rng(0)) for d in (data, plain)), strict=True):
        assert all(batch[name].equal(other[name]) for name in batch)
    # Evaluated as whole units: the last event is the target of the others.
    assert data.units("test").tolist() == ["x", "z"]
    assert data.units("valid").tolist() == []
    assert data.describe()["test_users_without_input"] == 1
    assert data.vocabulary()["items"].tolist() == plain.vocabulary()["items"].tolist()


def test_predictions_of_a_split_have_its_inputs_alone(tmp_path):
    (tmp_path / "log.csv").write_text(events(HISTORIES))
    data = event_data(tmp_path / "log.csv", "leave_last_out")
    found, rankings = data.prediction_inputs("test"), data.rankings("test")
    assert found.ids.tolist() == rankings.ids.tolist() == ["a", "b", "c"]
    assert lists(found.inputs) == lists(rankings.inputs)
    assert lists(data.whole_inputs("test").inputs) == [[0, 1, 2, 3], [3, 2, 0], [1, 3, 0]]


def test_a_test_path_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text(events(HISTORIES))
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        event_data(tmp_path / "log.csv", "leave_last_out", test_path="nowhere.csv")
