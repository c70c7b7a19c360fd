"""The data set of events: one split for all loaders, files and presets, what is refused and with which words."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from worlds.events import SPLITS, data_folder, event_data, lists, ratings, raw_events, write_ratings
from worlds.histories import events

from recrun.config.compose import compose
from recrun.data.event_dataset import EventDataset
from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.synthetic import LatentTaste
from recrun.data.events.synthetic_histories import Watchers
from recrun.data.events.synthetic_sessions import MarkovSessions
from recrun.data.loaders.histories import Histories
from recrun.data.loaders.pairs import Pairs
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.data.loaders.user_rows import UserRows
from recrun.errors import ConfigError, DataError
from recrun.evaluation.next_item import NextItem
from recrun.experiments.build import build_dataset

CONF = Path(__file__).parents[2] / "conf"
LOADERS = {"sets": UserRows(), "histories": Histories(his_size=3), "sessions": SessionParallel(num_negatives=4)}
FIVE = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 6], "c": [2, 4], "d": [5, 6, 7, 1]}


@pytest.fixture
def csv(tmp_path):
    return write_ratings(tmp_path / "ratings.csv", ratings())


@pytest.fixture
def five(tmp_path):
    (tmp_path / "r.csv").write_text(events(FIVE))
    return tmp_path / "r.csv"


def equal(one, other):
    """Whether two of the dataclasses of queries hold the same arrays."""
    return all(
        np.array_equal(a.items, b.items) and np.array_equal(a.offsets, b.offsets) if hasattr(a, "offsets")
        else np.array_equal(a, b)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )  # fmt: skip


def pairs(data, ragged, index):
    """(unit id, item id) of the rows of some units."""
    ids = zip(data.log.units[index].tolist(), lists(ragged), strict=True)
    return {(unit, int(data.log.items[item])) for unit, row in ids for item in row}


# ---- one split for all models


@pytest.mark.parametrize("split", [name for name in SPLITS if name not in ("provided", "last_days")])
def test_all_loaders_and_evaluators_have_the_same_split_and_units(split):
    source = LatentTaste(200, 100, 3000, 5)
    made = [event_data(source, split, loader) for loader in LOADERS.values()]
    made.append(event_data(source, split, evaluator=NextItem()))
    first = made[0]
    assert len({data.fingerprints["dataset_fingerprint"] for data in made}) == 1
    assert len({data.fingerprints["split_fingerprint"] for data in made}) == 1
    assert first.fingerprints["dataset_fingerprint"] != first.fingerprints["split_fingerprint"]
    for name in ("valid", "test"):
        for data in made:
            assert data.units(name).tolist() == first.units(name).tolist()
            assert data.eval_size(name) == len(first.units(name))
            assert equal(data.rankings(name), first.rankings(name))
            assert equal(data.next_items(name), first.next_items(name))
            users = torch.cat([batch["user"] for batch in data.eval_batches(name, 50)])
            assert users.tolist() == first.rankings(name).unit.tolist()


def test_the_log_has_one_fingerprint_under_every_split():
    source = LatentTaste(200, 100, 3000, 5)
    made = [event_data(source, split) for split in ("random", "temporal", "leave_last_out", "strong", "fraction")]
    assert len({data.fingerprints["dataset_fingerprint"] for data in made}) == 1
    assert len({data.fingerprints["split_fingerprint"] for data in made}) == len(made)


def test_units_are_text_in_the_order_of_evaluation_batches(csv):
    data = event_data(csv)
    assert data.units("test").tolist() == [str(name) for name in data.rankings("test").ids.tolist()]
    assert data.vocabulary()["users"].tolist() == [str(name) for name in sorted({row[0] for row in ratings()})]
    assert data.vocabulary()["items"].tolist() == [str(name) for name in sorted({row[1] for row in ratings()})]


def test_split_fractions_and_seed_decide(csv):
    made = [splits.Random(), splits.Random(seed=1), splits.Random(valid_fraction=0.2), splits.Random(test_fraction=0.2)]
    assert len({event_data(csv, split).fingerprints["split_fingerprint"] for split in made}) == len(made)


# ---- what closed-form models and reports read


@pytest.mark.parametrize("split", ["random", "leave_last_out", "strong"])
def test_training_events_and_counts(csv, split):
    data = event_data(csv, split)
    found = data.training_events()
    expected = [(unit, item) for unit, row in enumerate(lists(data.log.train)) for item in row]
    assert list(zip(found.unit.tolist(), found.item.tolist(), strict=True)) == expected
    assert (found.n_units, found.n_items) == (data.sizes["n_users"], data.sizes["n_items"])
    assert (found.unit.dtype, found.item.dtype) == (np.int32, np.int32)
    assert data.item_counts().tolist() == [sum(item == at for _, item in expected) for at in range(found.n_items)]


def test_entities_are_all_items_or_the_units_with_their_input(csv, monkeypatch):
    data = event_data(csv)
    ((ids, batch),) = data.entities("item", "test")
    assert ids.tolist() == data.vocabulary()["items"].tolist()
    assert batch["item"].tolist() == list(range(len(ids)))
    monkeypatch.setattr("recrun.data.event_dataset.UNITS_AT_ONCE", 5)
    found = list(data.entities("user", "test"))
    assert [len(ids) for ids, _ in found] == [5, 5, 2]
    assert [name for ids, _ in found for name in ids.tolist()] == data.units("test").tolist()
    for (_, batch), expected in zip(found, data.eval_batches("test", 5), strict=True):
        assert all(batch[name].equal(expected[name]) for name in expected)


def test_the_evaluator_says_what_is_watched(csv):
    assert event_data(csv).monitor == "ndcg@100"
    assert event_data(csv, evaluator=NextItem(monitor="mrr@5")).monitor == "mrr@5"


# ---- files


def test_leave_last_out_of_a_file(tmp_path):
    rows = [(1, 5, 0, 30), (1, 6, 0, 10), (1, 7, 0, 20), (2, 5, 0, 1), (2, 6, 0, 1), (2, 7, 0, 1), (3, 6, 0, 9)]
    data = event_data(write_ratings(tmp_path / "a.csv", rows), "leave_last_out")
    train = np.flatnonzero(data.log.train.lengths())
    assert pairs(data, data.log.train.take(train), train) == {(1, 6), (2, 5), (3, 6)}
    valid, test = data.rankings("valid"), data.rankings("test")
    assert pairs(data, valid.targets, valid.unit) == {(1, 7), (2, 6)}
    assert pairs(data, test.targets, test.unit) == {(1, 5), (2, 7)}
    assert data.describe()["test_users"] == 2


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (["0", "60", "86400", "86500", "172800", "172900"], "s"),
        (["0", "60000", "86400000", "86500000", "172800000", "172900000"], "ms"),
        (["1970-01-01", "1970-01-01T00:01:00Z", "1970-01-02T01:00:00+01:00", "1970-01-02 00:01:40", "1970-01-03",
          "1970-01-03T00:01:40.000"], None),
    ],
    ids=["seconds", "milliseconds", "iso"],
)  # fmt: skip
def test_times_in_every_unit(tmp_path, times, unit):
    rows = [f"{at // 2},{at % 2},{time}" for at, time in enumerate(times)]
    (tmp_path / "log.csv").write_text("session_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    split = splits.LastDays(test_days=1, valid_days=0)
    data = event_data(tmp_path / "log.csv", split, SessionParallel(2), time_unit=unit)
    assert lists(data.log.train) == [[0, 1], [0], []]  # the cut is 86,500: session 1 starts before it and ends at it
    assert data.next_items("test").ids.tolist() == ["2:2"]


def provided(tmp_path, **parts):
    folder = tmp_path / "split"
    folder.mkdir()
    content = {"train": [(1, 5), (1, 6), (2, 5)], "valid": [(1, 7), (9, 5)], "test": [(1, 8), (2, 6)], **parts}
    for part, rows in content.items():
        lines = ["user_id\titem_id", *(f"{user}\t{item}" for user, item in rows)]
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_provided_parts_are_taken_as_they_are(tmp_path):
    data = event_data("split", "provided", root=str(provided(tmp_path).parent))
    train = np.flatnonzero(data.log.train.lengths())
    assert pairs(data, data.log.train.take(train), train) == {(1, 5), (1, 6), (2, 5)}
    valid, test = data.rankings("valid"), data.rankings("test")
    assert pairs(data, valid.targets, valid.unit) == {(1, 7)}
    assert pairs(data, test.targets, test.unit) == {(1, 8), (2, 6)}
    assert pairs(data, test.seen, test.unit) == {(1, 5), (1, 6), (1, 7), (2, 5)}
    assert data.sizes == {"n_users": 3, "n_items": 4}
    assert data.describe()["valid_users_without_input"] == 1  # user 9


def test_a_repeated_pair_stays_in_the_first_part(tmp_path):
    folder = provided(tmp_path, test=[(1, 5), (2, 6)])
    data = event_data(folder, "provided", filters={"repeats": "first"})
    test = data.rankings("test")
    assert pairs(data, test.targets, test.unit) == {(2, 6)}
    assert data.describe()["repeats"] == 1


def test_without_validation_files_there_is_none(tmp_path):
    folder = provided(tmp_path)
    (folder / "valid.tsv").unlink()
    data = event_data(folder, "provided")
    assert (data.eval_size("valid"), data.eval_size("test")) == (0, 2)
    assert list(data.eval_batches("valid", 4)) == []


def test_another_split_reads_a_folder_of_parts_as_one_log(tmp_path):
    """In the order train, valid, test."""
    data = event_data(provided(tmp_path), "leave_last_out", order="file")
    assert lists(data.rankings("test").inputs) == [[0, 1, 2]]
    assert lists(data.rankings("test").targets) == [[3]]
    assert data.describe()["rows_read"] == 7


def test_sequence_files_imply_the_order_of_the_file(tmp_path):
    (tmp_path / "s.txt").write_text("a 3 1 2\nb 2 3 1 4\n")
    data = event_data(tmp_path / "s.txt", "leave_last_out", format="sequences")
    items = data.log.items
    assert [items[row].tolist() for row in lists(data.rankings("test").inputs)] == [[3, 1], [2, 3, 1]]
    with pytest.raises(DataError, match="needs the events of each unit in order"):
        event_data(tmp_path / "s.txt", "leave_last_out", format="sequences", order="none")


def test_the_unit_can_be_chosen(tmp_path):
    lines = ["user,session,item,time", "u,s,1,0", "u,s,2,1", "u,t,3,2", "v,r,1,3", "v,r,2,4", "v,r,3,5"]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    sessions = event_data(tmp_path / "log.csv", "leave_last_out")
    users = event_data(tmp_path / "log.csv", "leave_last_out", unit="user")
    assert sessions.units("test").tolist() == ["r"]
    assert users.units("test").tolist() == ["u", "v"]
    assert event_data(tmp_path / "log.csv", "leave_last_out", session_column="none").fingerprints == users.fingerprints


def test_a_fingerprint_does_not_depend_on_the_order_or_the_format_of_the_file(tmp_path):
    rows = [(user, item, rating, at) for at, (user, item, rating, _) in enumerate(ratings())]
    csv = write_ratings(tmp_path / "a.csv", rows)
    turned = write_ratings(tmp_path / "turned.csv", rows[::-1])
    pd.read_csv(csv).to_parquet(tmp_path / "a.parquet")
    for split in ("random", "leave_last_out", "strong"):
        one = event_data(csv, split).fingerprints
        assert event_data(turned, split).fingerprints == one
        assert event_data(tmp_path / "a.parquet", split).fingerprints == one
    renamed = [(user + 1000, *rest) for user, *rest in rows]
    assert event_data(write_ratings(tmp_path / "b.csv", renamed)).fingerprints != event_data(csv).fingerprints


def test_a_relative_path_is_looked_up_under_root_then_here(tmp_path, csv, monkeypatch):
    expected = event_data(csv).fingerprints
    assert event_data("ratings.csv", root=str(tmp_path)).fingerprints == expected
    monkeypatch.chdir(tmp_path)
    assert event_data("ratings.csv", root="elsewhere").fingerprints == expected
    assert event_data(".").fingerprints == expected  # a folder with a ratings.csv


# ---- small logs


def test_one_unit():
    data = event_data(raw_events([(1, item) for item in range(10)], range(10)))
    assert data.sizes == {"n_users": 1, "n_items": 10}
    (batch,) = data.train_batches(500, np.random.default_rng(0))
    assert batch["user"].tolist() == [0]
    assert len(batch["items"]) == 8


def test_units_without_test_items_are_left_out():
    data = event_data(raw_events([(1, item) for item in range(10)] + [(2, 1)], range(11)))
    assert data.units("test").tolist() == ["1"]
    assert data.train_size() == 2
    assert data.describe()["test_users"] == 1


# ---- refusals


def test_a_missing_path_says_where_it_looked(tmp_path):
    with pytest.raises(DataError) as error:
        event_data("no/such.csv", root=str(tmp_path))
    for place in (tmp_path / "no/such.csv", Path("no/such.csv").absolute(), "RECRUN_DATA"):
        assert str(place) in str(error.value)
    with pytest.raises(ConfigError, match=r"dataset.path is missing: the file or folder with the events"):
        event_data(None)


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "a.csv"},
        {"user_table": "users.csv"},
        {"item_table": "items.csv"},
        {"columns": ["user", "item"]},
        {"filters": {"threshold": 4}},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_keys_for_files_do_nothing_with_a_source(keys):
    name = next(iter(keys)).replace("filters", "filters.threshold")
    with pytest.raises(ConfigError, match=rf"dataset.{name} is for files; it does nothing with dataset.source"):
        event_data(LatentTaste(20, 10, 50, 2), **keys)


@pytest.mark.parametrize("split", ["temporal", "last_days"])
def test_times_are_asked_for_by_the_splits_that_need_them(tmp_path, split):
    path = write_ratings(tmp_path / "a.csv", ratings(), columns=("user", "item"))
    event_data(path)
    for order in (None, "file", "none"):
        with pytest.raises(DataError, match=rf"split={split} needs the time of each event"):
            event_data(path, split, order=order)
    with pytest.raises(DataError, match=r"dataset.order=time needs the time of each event.*dataset.order=file"):
        event_data(path, order="time")


@pytest.mark.parametrize("split", ["leave_last_out", "fraction"])
def test_an_order_is_asked_for_by_the_splits_that_need_one(tmp_path, split):
    path = write_ratings(tmp_path / "a.csv", ratings(), columns=("user", "item"))
    event_data(path, "leave_last_out", order="file")
    with pytest.raises(DataError, match=rf"split={split} needs the events of each unit in order"):
        event_data(path, split)


def test_a_unit_that_the_data_lack_is_refused(csv):
    with pytest.raises(ConfigError, match=r"dataset.unit=session: the data have no session column"):
        event_data(csv, unit="session")


def test_filters_that_leave_nothing_say_what_they_dropped(csv):
    with pytest.raises(DataError, match=r"no events are left of 240 rows: dataset.filters.threshold=6 dropped 240"):
        event_data(csv, filters={"threshold": 6})
    with pytest.raises(DataError, match=r"repeats=first dropped \d+, min_unit_count=1000 and min_item_count=1 dropped"):
        event_data(csv, filters={"repeats": "first", "min_unit_count": 1000})


def test_a_split_that_holds_out_everything_is_refused():
    raw = raw_events([("a", 1), ("a", 2), ("b", 1), ("b", 2)], range(4))
    with pytest.raises(DataError, match="there are no events to train on"):
        event_data(raw, splits.LatestFraction(test_fraction=1.0, valid_fraction=0))


HEADER = "session_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + "a,1,1\na,2,soon\n", r"log\.csv:3: column timestamp is 'soon', not a finite number"),
        (HEADER + "a,1,2020-01-01\na,2,soon\n", r"log\.csv:3: column timestamp is 'soon', not a date in ISO 8601"),
        (HEADER + "a,1,1\na,,2\n", r"log\.csv:3: column item_id is empty"),
        ("item_id,timestamp\n1,2\n", r"log\.csv: no user or session column.*dataset.session_column=NAME"),
        (HEADER + "a,1,1\nb,2,2\nc,3,3\n", "no events are left of 3 rows: min_unit_count=2"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, text, told):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=told):
        event_data(tmp_path / "log.csv", "last_days", SessionParallel(2), filters={"min_unit_count": 2})


# ---- configuration


def defaults(constructor, *besides):
    found = inspect.signature(constructor).parameters
    return {name: found[name].default for name in found if name not in besides}


def plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_every_key_of_the_data_set_can_be_set():
    """What Hydra lets one override is what the constructors take, with the same defaults but for those named here."""
    shared = yaml.safe_load((CONF / "dataset" / "_events.yaml").read_text())["dataset"]
    own = defaults(EventDataset, "evaluator", "split", "loader", "run_vocabulary")
    assert set(shared) - {"_target_"} == set(own)
    for key in set(own) - {"root", "cache", "filters"}:
        assert shared[key] == plain(own[key]), key
    filters = {key: value for key, value in shared["filters"].items() if key != "_target_"}
    assert filters == {**defaults(Filters), "repeats": "first"}


@pytest.mark.parametrize("group", ["split", "loader"])
def test_every_key_of_splits_and_loaders_can_be_set(group):
    """With the same defaults."""
    known = (*SPLITS.values(), *map(type, LOADERS.values()), Pairs)
    classes = {cls.__module__ + "." + cls.__qualname__: cls for cls in known}
    seen = 0
    for path in (CONF / group).glob("*.yaml"):
        keys = yaml.safe_load(path.read_text())
        if "_target_" in keys:
            found = defaults(classes[keys.pop("_target_")])
            assert keys == found, path.name
            seen += 1
    assert seen == {"split": 7, "loader": 4}[group]


@pytest.mark.parametrize("source", [LatentTaste, Watchers, MarkovSessions])
def test_every_key_of_the_synthetic_sources_can_be_set(source):
    found = [yaml.safe_load(path.read_text()) for path in (CONF / "dataset").glob("synthetic_*.yaml")]
    (keys,) = (
        keys["dataset"]["source"]
        for keys in found
        if keys.get("dataset", {}).get("source", {}).get("_target_", "").endswith(f".{source.__name__}")
    )
    assert {key: value for key, value in keys.items() if key != "_target_"} == defaults(source)


def test_importing_and_reading_does_not_import_torch():
    code = (
        "import sys; from recrun.data.event_dataset import EventDataset; from recrun.data.events import splits;"
        "from recrun.data.events.synthetic import LatentTaste; from recrun.data.loaders.user_rows import UserRows;"
        "assert 'pandas' not in sys.modules and 'scipy' not in sys.modules;"
        "evaluator = type('Evaluator', (), {'monitor': 'a'})();"
        "data = EventDataset(evaluator=evaluator, split=splits.Random(), loader=UserRows(),"
        " source=LatentTaste(20, 30, 200, 2)); data.describe(); data.rankings('test');"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("model", ["mult_vae", "sasrec", "gru4rec"])
def test_all_models_of_the_catalogue_share_one_split_of_a_composed_config(model):
    words = [f"model={model}", "dataset=synthetic_interactions", "split=leave_last_out", "evaluator=full_ranking"]
    small = ["n_users=60", "n_items=40", "n_interactions=900"]
    data = build_dataset(compose([*words, *(f"dataset.source.{word}" for word in small)]).config)
    expected = event_data(LatentTaste(60, 40, 900), "leave_last_out", filters={"repeats": "first"})
    for name in ("dataset_fingerprint", "split_fingerprint"):
        assert data.fingerprints[name] == expected.fingerprints[name]


# ---- real data


@pytest.mark.data
def test_ml_100k():
    root = data_folder("ml-100k")
    data = event_data("ml-100k", root=root, filters={"repeats": "first"})
    counts = data.describe()
    assert (counts["n_users"], counts["n_items"], counts["rows_read"]) == (943, 1682, 100_000)
    assert [counts[f"{part}_interactions"] for part in ("train", "valid", "test")] == [80_808, 9_596, 9_596]
    assert counts["valid_users"] == counts["test_users"] == 943


@pytest.mark.data
def test_ml_100k_split_of_recbole():
    data = event_data("ml-100k-recbole-split", "provided", root=data_folder("ml-100k-recbole-split"))
    counts = data.describe()
    assert data.sizes == {"n_users": 943, "n_items": 1682}
    assert [counts[f"{part}_interactions"] for part in ("train", "valid", "test")] == [80_808, 9_596, 9_596]
    assert len(data.next_items("test")) == 9_596


@pytest.mark.data
def test_ml_100k_in_order_with_features():
    root = data_folder("ml-100k/ml-100k.item")
    words = ["model=dssm", "dataset=ml_100k", "split=leave_last_out", f"dataset.root={root}", "dataset.cache=null"]
    data = build_dataset(compose(words).config)
    counts = data.describe()
    assert (counts["n_users"], counts["n_items"], counts["valid_users"], counts["test_users"]) == (943, 1682, 943, 943)
    assert counts["train_interactions"] == 100_000 - 2 * 943
    assert counts["test_interactions_of_untrained_items"] == 3
    assert counts["users_without_features"] == counts["items_without_features"] == 0
    assert [field.size for field in data.sizes["item_features"].sequences] == [20]  # 19 genres


@pytest.mark.data
def test_rsc15_is_held_out_by_sessions():
    root = data_folder("rsc15-100k")
    data = build_dataset(
        compose(["model=gru4rec", "dataset=rsc15", f"dataset.root={root}", "dataset.cache=null"]).config
    )
    assert data.log.assignment.whole_units
    trained = set(np.unique(data.log.train.items).tolist())
    assert trained == set(range(len(data.log.items)))
    for split in ("valid", "test"):
        found = data.next_items(split)
        lengths = data.log.select(data.log.part == {"valid": 1, "test": 2}[split]).lengths()
        assert len(found) == np.maximum(lengths - 1, 0).sum() > 0
