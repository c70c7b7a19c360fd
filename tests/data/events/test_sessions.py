"""Session data: order, filters, splits and batches, by hand and by brute force; bad input is told apart."""

import gzip
import math

import numpy as np
import pandas as pd
import pytest
import torch
from recrun.data.events.sessions import Sessions
from worlds.sessions import Log, random_sessions, sessions_of, walk

from recrun.data.events.synthetic_sessions import MarkovSessions
from recrun.data.loaders.session_schedule import Negatives, Popularity
from recrun.errors import ConfigError, DataError
from recrun.evaluation.next_item import NextItem

DAY = 86_400


def read(tmp_path, text, name="log.csv", **settings):
    (tmp_path / name).write_text(text)
    chosen = {"split": "fraction", "valid_days": 0, "test_fraction": 0.34, "num_negatives": 2, **settings}
    return Sessions(NextItem(), path=str(tmp_path / name), **chosen)


def sessions_in(part, items):
    """A part as {session id: item ids}."""
    bounds = zip(part.ids, part.offsets[:-1], part.offsets[1:], strict=True)
    return {str(name): items[part.items[begin:end]].tolist() for name, begin, end in bounds}


def parts(data):
    return [sessions_in(part, data._parts.items) for part in (data._parts.train, data._parts.valid, data._parts.test)]


HEADER = "session_id,item_id,timestamp\n"


def test_events_are_put_in_order_of_time_and_equal_times_stay_as_they_come(tmp_path):
    text = HEADER + "b,3,20\na,1,9\na,2,5\nb,1,20\na,3,5\nb,2,-7\nc,1,30\nc,2,30\nc,3,31\n"
    data = read(tmp_path, text, test_fraction=0.0)
    train, _, _ = parts(data)
    assert train == {"b": [2, 3, 1], "a": [2, 3, 1], "c": [1, 2, 3]}
    assert list(train) == ["b", "a", "c"]  # in order of their first event


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (["0", "60", "86400", "86500", "172800", "172900"], "s"),
        (["0", "60000", "86400000", "86500000", "172800000", "172900000"], "ms"),
        (["1970-01-01", "1970-01-01T00:01:00Z", "1970-01-02T01:00:00+01:00", "1970-01-02 00:01:40", "1970-01-03",
          "1970-01-03T00:01:40.000"], "s"),
    ],
    ids=["seconds", "milliseconds", "iso"],
)  # fmt: skip
def test_times_in_every_unit(tmp_path, times, unit):
    rows = [f"{at // 2},{at % 2},{time}" for at, time in enumerate(times)]
    data = read(tmp_path, HEADER + "\n".join(rows) + "\n", split="last_days", test_days=1.0, time_unit=unit)
    train, _, test = parts(data)
    assert train == {"0": [0, 1], "1": [0]}  # the cut is 86,500: session 1 starts before it and ends at it
    assert list(test) == ["2"]


def test_last_days_hold_out_the_sessions_that_start_in_them_and_cut_the_others(tmp_path):
    rows = [("a", 1, 0), ("a", 2, 10), ("b", 1, 2 * DAY - 5), ("b", 2, 2 * DAY - 4), ("b", 1, 2 * DAY + 7)]
    rows += [("c", 2, 2 * DAY + 1), ("c", 1, 2 * DAY + 2), ("c", 9, 2 * DAY + 3), ("d", 1, 3 * DAY), ("e", 2, 3 * DAY)]
    text = HEADER + "".join(f"{s},{i},{t}\n" for s, i, t in rows)
    data = read(tmp_path, text, split="last_days", test_days=1.0, min_session_length=1)
    train, valid, test = parts(data)
    assert train == {"a": [1, 2], "b": [1, 2]}
    assert valid == {}
    assert test == {"c": [2, 1]}  # 9 is no item of the training part; d and e have one event
    assert data.describe()["unknown_items"] == 1
    assert data.describe()["between_parts"] == 1
    assert data.units("test").tolist() == ["c:2"]


def test_a_validation_part_is_taken_from_the_end_of_train():
    sessions = random_sessions(50, 8)
    data = sessions_of(sessions, test=[[1, 2, 3]], valid_fraction=0.2)
    train, valid, test = parts(data)
    assert len(train) == 41
    assert list(train) + list(valid) == [str(number) for number in range(51)]
    assert len(test) == 1
    by_days = sessions_of(sessions, test=[[1, 2, 3]], valid_days=20 / DAY)
    assert 0 < len(parts(by_days)[1]) < 20


def test_leave_last_out_judges_one_event_of_each_session(tmp_path):
    text = HEADER + "".join(f"{s},{i},{t}\n" for s, items in {"a": [1, 2, 3, 4], "b": [4, 3, 2], "c": [3, 4]}.items()
                            for t, i in enumerate(items))  # fmt: skip
    text += "".join(f"d,{i},{t}\n" for t, i in enumerate([1, 2, 3, 4, 1]))
    data = read(tmp_path, text, split="leave_last_out")
    train, valid, test = parts(data)
    assert train == {"a": [1, 2], "b": [4, 3], "c": [3, 4], "d": [1, 2, 3]}
    assert valid == {"a": [1, 2, 3], "d": [1, 2, 3, 4]}
    assert test == {"a": [1, 2, 3, 4], "b": [4, 3, 2], "d": [1, 2, 3, 4, 1]}
    assert data.units("test").tolist() == ["a:4", "b:3", "d:5"]
    batch = next(data.eval_batches("test", 9))
    assert batch["items"][batch["judged"]].tolist() == [2, 2, 3]  # indices of the items 3, 3 and 4
    assert batch["target"][batch["judged"]].tolist() == [3, 1, 0]


def test_filters_hold_in_the_end(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(s, i, t) for s in range(60) for t, i in enumerate(rng.zipf(1.5, rng.integers(1, 8)) % 30)]
    text = HEADER + "".join(f"{s},{i},{t + 100 * s}\n" for s, i, t in rows)
    data = read(tmp_path, text, test_fraction=0.0, min_session_length=3, min_item_count=5, immediate_repeats="drop")
    frame = pd.DataFrame(rows, columns=["s", "i", "t"])
    frame = frame[(frame.i != frame.groupby("s").i.shift()).to_numpy()]
    size = -1
    while size != len(frame):
        size = len(frame)
        frame = frame[frame.groupby("i").s.transform("size") >= 5]
        frame = frame[frame.groupby("s").i.transform("size") >= 3]
    assert parts(data)[0] == {str(s): group.i.tolist() for s, group in frame.groupby("s")}


def test_duplicate_events_are_kept_or_dropped(tmp_path):
    text = HEADER + "a,1,1\na,2,1\na,1,1\na,2,2\n"
    assert parts(read(tmp_path, text, test_fraction=0.0))[0] == {"a": [1, 2, 1, 2]}
    assert parts(read(tmp_path, text, test_fraction=0.0, duplicates="drop"))[0] == {"a": [1, 2, 2]}


def test_a_session_id_in_two_files_is_two_sessions(tmp_path):
    for name, rows in (("train", "1,5,1\n1,6,2\n2,6,3\n2,5,4\n"), ("test", "1,6,9\n1,5,10\n")):
        (tmp_path / f"{name}.csv").write_text("SessionId,ItemId,Time\n" + rows)
    data = Sessions(NextItem(), path=str(tmp_path), split="provided", valid_days=0)
    assert parts(data) == [{"1": [5, 6], "2": [6, 5]}, {}, {"1": [6, 5]}]


def test_users_are_sessions_where_there_are_none_and_gzip_and_parquet_are_read(tmp_path):
    rows = "user_id,item_id,timestamp\n" + "".join(f"u{u},{i},{u * 10 + i}\n" for u in range(3) for i in range(3))
    with gzip.open(tmp_path / "log.csv.gz", "wt") as file:
        file.write(rows)
    frame = pd.read_csv(tmp_path / "log.csv.gz")
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s", utc=True)
    frame.to_parquet(tmp_path / "log.parquet")
    settings = {"split": "fraction", "test_fraction": 0.34, "valid_days": 0}
    one, other = (Sessions(NextItem(), path=str(tmp_path / n), **settings) for n in ("log.csv.gz", "log.parquet"))
    assert parts(one) == [{"u0": [0, 1, 2], "u1": [0, 1, 2]}, {}, {"u2": [0, 1, 2]}]
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + "a,1,1\na,2,soon\n", r"log\.csv:3: the time is 'soon', not a finite number"),
        (HEADER + "a,1,2020-01-01\na,2,soon\n", r"log\.csv:3: the time is 'soon', not a date in ISO 8601"),
        (HEADER + "a,1,1\na,,2\n", r"log\.csv:3: the item id is empty"),
        ("item_id,timestamp\n1,2\n", "no session column.*dataset.session_column=NAME"),
        ("session_id,item_id\n1,2\n", "no time column.*dataset.time_column=NAME"),
        (HEADER + "a,1,1\nb,2,2\nc,3,3\n", "no sessions are left of 3 rows"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path, text, told):
    with pytest.raises(DataError, match=told):
        read(tmp_path, text)


def test_settings_that_contradict_each_other(tmp_path):
    with pytest.raises(ConfigError, match="one must be 0"):
        sessions_of([[0, 1]], valid_days=1.0, valid_fraction=0.5)
    with pytest.raises(ConfigError, match="path is missing: the file or folder"):
        Sessions(NextItem())
    with pytest.raises(ConfigError, match="give one of the two"):
        Sessions(NextItem(), path="x", source=MarkovSessions())
    with pytest.raises(ConfigError, match="needs files that are split already"):
        Sessions(NextItem(), source=Log([[0, 1]], 2), split="provided")
    with pytest.raises(DataError, match="nothing to train on"):
        sessions_of([[0], [1]], test=[[0, 1]])


def events_of(data, batches):
    """(slot, first, input item, target item) of each row of each batch."""
    for batch in batches:
        items = batch["items"]
        rows = zip(batch["slot"], batch["first"], items[batch["input"]], items[batch["target"]], strict=True)
        yield [tuple(int(value) for value in row) for row in rows]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_training_batches_walk_all_sessions(batch_size):
    sessions = random_sessions(20, 9)
    data = sessions_of(sessions)
    found = list(events_of(data, data.train_batches(batch_size, np.random.default_rng(0))))
    expected = [
        [(slot, at == 0, sessions[which][at], sessions[which][at + 1]) for slot, which, at in rows]
        for rows in walk(sessions, batch_size)
    ]
    assert found == expected
    assert sum(map(len, found)) == data.train_size() == sum(map(len, sessions)) - len(sessions)


@pytest.mark.parametrize("num_negatives", [0, 1, 30])
def test_columns_are_the_distinct_targets_and_draws_with_their_copies(num_negatives):
    sessions = random_sessions(20, 9)
    data = sessions_of(sessions, num_negatives=num_negatives, sample_alpha=0.5)
    counts = np.bincount(np.concatenate(sessions))
    negatives = Negatives(Popularity(counts, 0.5), num_negatives, np.random.default_rng(0))
    for number, batch in enumerate(data.train_batches(5, np.random.default_rng(0))):
        columns = batch["items"][: len(batch["in_batch"])]
        assert columns.tolist() == sorted(set(columns.tolist()))
        assert len(batch["items"].unique()) == len(batch["items"])
        assert (batch["target"] < len(columns)).all()
        assert batch["in_batch"].tolist() == np.bincount(batch["target"], minlength=len(columns)).tolist()
        drawn = columns.repeat_interleave(batch["sampled"].long())
        assert drawn.tolist() == sorted(negatives.at(number).tolist())
        assert ((batch["in_batch"] + batch["sampled"]) > 0).all()
        assert set(batch["items"][len(columns) :].tolist()) <= set(batch["items"][batch["input"]].tolist())
        np.testing.assert_allclose(batch["in_batch_q"], np.log(counts[columns]), rtol=1e-6)
        np.testing.assert_allclose(batch["sampled_q"], 0.5 * np.log(counts[columns]), rtol=1e-6)
        assert (batch["weight"] == 1 / 5).all()


@pytest.mark.parametrize("bptt", [2, 5, 1000])
def test_a_batch_of_many_steps_holds_them_one_after_another(bptt):
    sessions = random_sessions(30, 12)
    one, many = sessions_of(sessions), sessions_of(sessions, bptt=bptt)
    steps = list(one.train_batches(6, np.random.default_rng(0)))
    batches = list(many.train_batches(6, np.random.default_rng(0)))
    assert len(batches) == many.train_steps(6) == math.ceil(len(steps) / bptt)
    assert len(steps) == one.train_steps(6) > one.train_size() / 6
    assert [n for batch in batches for n in batch["step_groups"].tolist()] == [len(step["slot"]) for step in steps]
    for name in ("slot", "first", "weight"):
        assert torch.equal(torch.cat([b[name] for b in batches]), torch.cat([s[name] for s in steps])), name
    for name in ("input", "target"):
        found = [torch.cat([b["items"][b[name]] for b in some]) for some in (batches, steps)]
        assert torch.equal(*found), name
    assert all(batch["sampled"].sum() == 4 for batch in batches)


def test_equal_generators_give_equal_batches_and_start_gives_what_is_left():
    data = sessions_of(random_sessions(40, 9))
    whole = list(data.train_batches(3, np.random.default_rng(7)))
    for start in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        rest = list(data.train_batches(3, np.random.default_rng(7), start=start))
        assert len(rest) == len(whole) - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    some = data.train_batches(3, np.random.default_rng(7), start=1, stride=2)
    for one, other in zip(some, whole[1::2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    other = list(data.train_batches(3, np.random.default_rng(8)))
    assert any(not torch.equal(one["items"], two["items"]) for one, two in zip(whole, other, strict=True))


def test_a_catalogue_smaller_than_the_negatives_and_a_batch_larger_than_the_sessions():
    data = sessions_of([[0, 1, 2], [2, 1]], num_negatives=50)
    (first, second) = data.train_batches(512, np.random.default_rng(0))
    assert len(first["slot"]) == 2
    assert len(second["slot"]) == 1
    assert first["weight"].tolist() == [0.5, 0.5]
    assert first["sampled"].sum() == 50


def test_a_sample_of_the_validation_part_is_the_same_each_time():
    sessions = random_sessions(60, 8)
    whole, some, again = (
        sessions_of(sessions, valid_fraction=0.5, validation_sample_size=size) for size in (None, 7, 7)
    )
    assert len({name.split(":")[0] for name in some.units("valid")}) == 7
    assert some.units("valid").tolist() == again.units("valid").tolist()
    assert set(some.units("valid")) < set(whole.units("valid"))
    assert some.fingerprint == whole.fingerprint


def test_synthetic_sessions_are_seeded_sized_and_learnable():
    rows, again = MarkovSessions().rows(True), MarkovSessions().rows(True)
    np.testing.assert_array_equal(rows.item, again.item)
    assert not np.array_equal(rows.item[:500], MarkovSessions(seed=1).rows(True).item[:500])
    assert 30_000 <= len(rows) < 30_100
    lengths = np.bincount(rows.user)
    assert lengths.min() == 2
    assert lengths.mean() == pytest.approx(5, abs=0.2)
    popularity = np.sort(np.bincount(rows.item))[::-1]
    assert popularity[:50].sum() > 3 * popularity[-250:].sum()
    pair = (
        rows.item[:-1].astype(np.int64)[rows.user[1:] == rows.user[:-1]] * 500
        + rows.item[1:][rows.user[1:] == rows.user[:-1]]
    )
    _, often = np.unique(pair, return_counts=True)
    assert np.sort(often)[::-1][:5000].sum() > 0.7 * len(pair)  # ten successors of each item
