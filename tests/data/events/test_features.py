"""Features of users and items: what training knows, what a run's vocabulary says, what is missing."""

from dataclasses import replace

import numpy as np
import pytest
from worlds.events import event_data, lists, raw_events
from worlds.histories import events, retrieval

from recrun.data.events import splits
from recrun.data.events.features import FeatureKeys, FeatureTables, RunVocabulary
from recrun.data.events.filters import Filters
from recrun.data.events.side_tables import SideTable
from recrun.data.events.split_log import divide
from recrun.data.ragged import Ragged
from recrun.errors import CheckpointError, ConfigError, DataError

FIVE = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}
ITEMS = (
    "item_id:token\tyear:token\ttags:token_seq\n1\t1990\ta b\n2\t1991\t\n3\t1990\tb\n4\t\ta\n5\t1992\tc\n6\t1990\ta\n"
)
FIELDS = {"item_fields": ["id", "year"], "item_lists": ["tags"]}


@pytest.fixture
def five(tmp_path):
    (tmp_path / "r.csv").write_text(events(FIVE))
    return tmp_path / "r.csv"


def with_items(path, **keys):
    """Histories with a table of items beside them."""
    table = path.parent / "items.tsv"
    if not table.exists():
        table.write_text(ITEMS)
    return retrieval(path, item_table=str(table), **{**FIELDS, **keys})


def keep_vocabulary(data, folder):
    """As a run keeps it."""
    folder.mkdir()
    for name, ids in data.vocabulary().items():
        (folder / f"{name}.txt").write_text("".join(f"{value}\n" for value in ids))
    return str(folder)


class Given:
    """A source of side tables."""

    def __init__(self, users, items):
        self.tables = users, items

    def sides(self):
        return self.tables


def tables_of(made, users=None, items=None, known=None, **keys):
    return FeatureTables(made, Given(users, items), FeatureKeys(**keys), known)


def made_of(histories, split=None):
    pairs = [(unit, item) for unit, items in histories.items() for item in items]
    return divide(Filters().apply(raw_events(pairs, range(len(pairs)))), split or splits.LeaveLastOut())


def words(encoded, column):
    return [encoded.names[value] for value in encoded.values["sparse"][:, column].tolist()]


# ---- what training knows


def test_without_tables_models_see_ids():
    made = made_of(FIVE)
    found = FeatureTables(made, None, FeatureKeys(), None)
    assert words(found.users, 0) == ["id=a", "id=b", "id=c", "id=d"]
    # 7 is a validation item alone, which training does not know.
    assert words(found.items, 0) == [f"id={item}" if item != 7 else "id=?" for item in range(1, 8)]


def test_values_that_training_lacks_are_unknown():
    made = made_of(FIVE)
    ids = np.array([str(item) for item in range(1, 8)], object)
    year = np.array(["1990", "1990", "1991", "1990", "1991", "1990", "2000"], object)
    found = tables_of(made, items=SideTable("t", ids, {"year": year}), item_fields=("year",))
    assert words(found.items, 0) == [f"year={value}" if value != "2000" else "year=?" for value in year]


def test_users_without_training_events_are_unknown():
    made = made_of({f"u{at}": [1, 2, 3, 4, 1, 2] for at in range(8)}, splits.Strong(heldout_users=2))
    found = FeatureTables(made, None, FeatureKeys(), None)
    trained = made.train.lengths() > 0
    assert trained.sum() == 4
    expected = [f"id={unit}" if there else "id=?" for unit, there in zip(made.units, trained, strict=True)]
    assert words(found.users, 0) == expected


def test_of_a_session_the_user_is_described():
    raw = raw_events([("s", 1), ("s", 2), ("t", 2), ("t", 1)], range(4), unit="session")
    raw = replace(raw, user=np.array([1, 1, 0, 0], np.int32), users=np.array(["u", "v"], object))
    made = divide(Filters().apply(raw), splits.Random())
    side = SideTable("t", np.array(["v", "u"], object), {"age": np.array(["30", "40"], object)})
    found = tables_of(made, users=side, user_fields=("id", "age"))
    assert made.units.tolist() == ["s", "t"]
    assert words(found.users, 0) == ["id=v", "id=u"]
    assert words(found.users, 1) == ["age=30", "age=40"]


# ---- read when they are needed


def test_tables_are_read_and_counted_only_for_models_that_read_them(five):
    (five.parent / "items.tsv").write_text("no table\n")
    sets = event_data(five, "leave_last_out", item_table=str(five.parent / "items.tsv"), item_fields=["year"])
    assert "items_without_features" not in sets.describe()
    assert set(sets.fingerprints) == {"dataset_fingerprint", "split_fingerprint"}
    with pytest.raises(DataError):
        retrieval(five, item_table=str(five.parent / "items.tsv"), item_fields=["year"])


def test_a_fingerprint_is_of_the_names_and_values(five):
    one = with_items(five).fingerprints
    assert set(one) == {"dataset_fingerprint", "split_fingerprint", "features_fingerprint"}
    assert with_items(five).fingerprints == one
    for change in ({"item_fields": ["id"]}, {"item_lists": []}):
        other = with_items(five, **change).fingerprints
        assert other["features_fingerprint"] != one["features_fingerprint"]
        assert other["split_fingerprint"] == one["split_fingerprint"]
    (five.parent / "items.tsv").write_text(ITEMS.replace("1991", "1990"))
    assert with_items(five).fingerprints["features_fingerprint"] != one["features_fingerprint"]


def test_an_item_that_its_table_lacks_is_counted(five):
    data = with_items(five, item_lists=[])
    assert data.describe()["items_without_features"] == 1
    assert data.describe()["users_without_features"] == 0
    year = data.features.items.values["sparse"][:, 1] - data.features.items.features.fields[1].first
    # Of "", 1990, 1991 and 1992 training knows "", 1990, 1991 and 1992; 7 is not there.
    assert year.tolist() == [2, 3, 2, 1, 4, 2, 0]


# ---- what a run knows


def test_other_data_are_read_as_a_run_knows_them(five, caplog):
    data = with_items(five)
    vocabulary = keep_vocabulary(data, five.parent / "vocabulary")
    other, table = five.parent / "o.csv", five.parent / "new.tsv"
    other.write_text(events({"z": [2, 6, 4, 9, 8], "a": [6, 4, 2], "y": [5, 9, 1]}))
    table.write_text("item_id:token\tyear:token\ttags:token_seq\n2\t1990\tc d\n6\t2000\ta\n")
    new = retrieval(other, item_table=str(table), run_vocabulary=vocabulary, **FIELDS)
    assert new.vocabulary()["items"].tolist() == data.vocabulary()["items"].tolist()
    assert new.vocabulary()["item_features"].tolist() == data.vocabulary()["item_features"].tolist()
    assert new.sizes["user_features"] == data.sizes["user_features"]
    # The split is that of the data: z's two held-out events are of unknown items, and y's validation event.
    assert new.units("valid").tolist() == ["a"]
    assert new.units("test").tolist() == ["a", "y"]
    names = new.log.items
    assert [names[row].tolist() for row in lists(new.rankings("test").inputs)] == [["6", "4"], ["5"]]
    assert [names[row].tolist() for row in lists(new.rankings("test").targets)] == [["2"], ["1"]]
    batch = next(new.eval_batches("test", 9))
    features = data.vocabulary()["user_features"].tolist()
    assert [features[value] for value in batch["sparse"][:, 0].tolist()] == ["id=a", "id=?"]
    features, values = data.vocabulary()["item_features"].tolist(), new.sizes["item_values"]
    at = {int(item): row for row, item in enumerate(new.vocabulary()["items"])}
    assert [features[value] for value in values["sparse"][at[2]].tolist()] == ["id=2", "year=1990"]
    assert [features[value] for value in values["sparse"][at[6]].tolist()] == ["id=6", "year=?"]
    tags = [[features[value] for value in row] for row in lists(Ragged(values["tags_offsets"], values["tags"]))]
    assert (tags[at[2]], tags[at[6]], tags[at[1]]) == (["tags=c", "tags=?"], ["tags=a"], [])
    assert new.describe()["events_of_unknown_items"] == 3
    assert "2 items are unknown to the model, such as 8, 9; their 3 events are left out" in caplog.text


def test_its_own_data_are_the_same_with_a_runs_vocabulary(five, caplog):
    data = with_items(five)
    again = with_items(five, run_vocabulary=keep_vocabulary(data, five.parent / "vocabulary"))
    assert again.fingerprints == data.fingerprints
    one, other = (list(each.train_batches(3, np.random.default_rng(0))) for each in (data, again))
    assert len(one) == len(other) == 2
    for mine, its in zip(one, other, strict=True):
        assert mine.keys() == its.keys()
        assert all(mine[name].equal(its[name]) for name in mine)
    assert not [record for record in caplog.records if "unknown" in record.message]


def test_data_to_evaluate_need_not_be_fit_to_train_with(five):
    vocabulary = keep_vocabulary(retrieval(five), five.parent / "vocabulary")
    (five.parent / "o.csv").write_text(events({"z": [1, 2, 3]}))
    data = retrieval(five.parent / "o.csv", run_vocabulary=vocabulary, sampler="popularity")
    assert (data.units("test").tolist(), data.train_size()) == (["z"], 0)
    with pytest.raises(DataError, match="there is nothing to train on: none of 1 units has two training events"):
        next(data.train_batches(4, np.random.default_rng(0)))


def test_another_runs_vocabulary_is_refused(five):
    vocabulary = keep_vocabulary(with_items(five), five.parent / "vocabulary")
    with pytest.raises(CheckpointError, match=r"other item_features, id, year, tags: keep dataset\.item_fields"):
        with_items(five, run_vocabulary=vocabulary, item_fields=["year", "id"])
    with pytest.raises(CheckpointError, match=r"users\.txt is missing: .* is not the vocabulary of a run"):
        retrieval(five, run_vocabulary=str(five.parent))
    (five.parent / "o.csv").write_text(events({"z": [7, 8, 9]}))
    with pytest.raises(DataError, match="no unit can be evaluated"):
        with_items(five.parent / "o.csv", run_vocabulary=vocabulary)


def test_a_run_without_features_has_none_for_a_loader_that_reads_them(five):
    sets = event_data(five, "leave_last_out")
    vocabulary = keep_vocabulary(sets, five.parent / "vocabulary")
    assert set(sets.vocabulary()) == {"users", "items"}
    with pytest.raises(ConfigError, match="the run's model reads no features of users; keep its loader"):
        retrieval(five, run_vocabulary=vocabulary)
    same = event_data(five, "leave_last_out", run_vocabulary=vocabulary)
    assert same.fingerprints == sets.fingerprints


def test_a_vocabulary_that_is_no_text_is_refused(tmp_path):
    for name in ("users", "items"):
        (tmp_path / f"{name}.txt").write_text("a\nb\n")
    found = RunVocabulary.load(tmp_path)
    assert (found.users.tolist(), found.item_features) == (["a", "b"], None)
    (tmp_path / "items.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"items\.txt cannot be read"):
        RunVocabulary.load(tmp_path)


# ---- refusals


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["id,year", "1,a", "2,b", "1,c"], "items.csv:4: id '1' is there twice"),
        (["id,year", "1,a", "2"], "items.csv:3: the row has 1 cells, expected 2"),
        (["id"], "items.csv: the header needs"),
        (["id,year"], "items.csv: no rows behind the header"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(five, lines, told):
    (five.parent / "items.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=told):
        retrieval(five, item_table=str(five.parent / "items.csv"), item_fields=["year"])


def test_a_column_or_a_table_that_is_not_there_is_refused(five):
    with pytest.raises(ConfigError, match="user_table is not given"):
        retrieval(five, user_fields=["age"])
    with pytest.raises(DataError, match="item_table=nowhere does not exist"):
        retrieval(five, item_table="nowhere")
    told = r"item_fields or item_lists names size, but .*items\.tsv has year, tags; id is always there"
    with pytest.raises(ConfigError, match=told):
        with_items(five, item_fields=["size"])
