"""Tables in memory: read as their CSV is, whatever library they are of."""

import gc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.io import memory
from recrun.data.io.columns import Columns
from recrun.data.io.event_reader import read_events
from recrun.data.io.frames import hold, is_table
from recrun.errors import DataError

TIMES = 1_600_000_000 + np.arange(4)
FRAME = pd.DataFrame({"user_id": [7, 7, 3, 12], "item_id": ["b", "a", "é", "b"], "timestamp": TIMES})


def read(table, **columns):
    held = hold(table)
    return read_events([(None, held.name)], Columns(**columns))


def read_csv(frame, folder, **columns):
    path = folder / "events.csv"
    frame.to_csv(path, index=False)
    return read_events([(None, path)], Columns(**columns))


def same(one, other):
    assert one.users.tolist() == other.users.tolist()
    assert one.items.tolist() == other.items.tolist()
    assert one.user.tolist() == other.user.tolist()
    assert one.item.tolist() == other.item.tolist()
    assert (one.time is None) == (other.time is None)
    assert one.time is None or one.time.tolist() == other.time.tolist()


IDS = st.one_of(
    st.lists(st.integers(-5, 10**12), min_size=3, max_size=3),
    st.lists(
        st.text("ab 0é", min_size=1, max_size=3).filter(lambda text: text == text.strip()), min_size=3, max_size=3
    ),
)


@settings(max_examples=60, deadline=None)
@given(users=IDS, items=IDS, dates=st.booleans())
def test_a_frame_reads_as_its_csv(tmp_path_factory, users, items, dates):
    times = pd.to_datetime([10**9, 10**9 + 60, 10**9], unit="s") if dates else [10**9, 10**9 + 60, 10**9]
    frame = pd.DataFrame({"user": users, "item": items, "time": times})
    same(read(frame), read_csv(frame, tmp_path_factory.mktemp("csv")))


@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME.convert_dtypes(),
        FRAME.astype({"item_id": "category"}),
        FRAME.set_index("user_id"),
        FRAME.assign(timestamp=pd.to_datetime(TIMES, unit="s", utc=True).tz_convert("Asia/Tokyo")),
        pl.DataFrame({name: FRAME[name].tolist() for name in FRAME}),
        {name: FRAME[name].to_numpy() for name in FRAME},
        np.array(list(FRAME.itertuples(index=False)), [("user_id", "i8"), ("item_id", "U3"), ("timestamp", "i8")]),
    ],
    ids=["pandas", "nullable", "category", "index", "zone", "polars", "mapping", "structured"],
)
def test_every_kind_of_table_reads_alike(table, tmp_path):
    assert is_table(table)
    same(read(table), read_csv(FRAME, tmp_path))


def test_arrays_and_matrices_of_users_and_items(tmp_path):
    pairs = np.array([[0, 2], [1, 0], [1, 1]])
    matrix = sp.csr_array((np.ones(3), (pairs[:, 0], pairs[:, 1])), shape=(2, 3))
    frame = pd.DataFrame(pairs, columns=["user", "item"])
    for table in (pairs, matrix):
        same(read(table), read_csv(frame, tmp_path))
    wide = np.column_stack([pairs, 10**9 + np.arange(3)])
    assert read(wide, header=["user", "item", "time"]).time.tolist() == [10**9, 10**9 + 1, 10**9 + 2]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("ratings", "expected a pandas or polars DataFrame"),
        (np.zeros(3), r"not ndarray of shape \[3\]"),
        ({"user": np.zeros(2), "item": np.zeros(3)}, "expected a pandas"),
        (pd.DataFrame({"user": [1], "item": [[1, 2]]}), "column item holds a list in each cell"),
        (pd.DataFrame({"user": [1], "item": [1j]}), "column item is complex128"),
        (pd.DataFrame([[1, 2]], columns=["user", "user"]), "two columns are called 'user'"),
    ],
)
def test_what_is_no_table_is_refused(table, message):
    with pytest.raises(DataError, match=message):
        hold(table)


def test_a_missing_cell_is_named_by_row_and_column():
    with pytest.raises(DataError, match=r"memory:\w+: row 3: column item_id is missing"):
        read(FRAME.assign(item_id=["a", "b", None, "c"]))
    with pytest.raises(DataError, match=r"memory:\w+: no item column"):
        read(FRAME.rename(columns={"item_id": "thing"}))


def test_the_name_is_of_the_content_and_lasts_as_long_as_the_table():
    table = hold(FRAME)
    assert hold(FRAME.copy()) is table
    assert hold(FRAME.assign(user_id=[7, 7, 3, 13])).name != table.name
    assert hold(FRAME.rename(columns={"user_id": "user"})).name != table.name
    assert hold({"user": np.array(["ab", "c"], object), "item": np.arange(2)}).name != (
        hold({"user": np.array(["a", "bc"], object), "item": np.arange(2)}).name
    )
    name = table.name
    del table
    gc.collect()
    with pytest.raises(DataError, match=r"give the same table again, in Python: recrun.load\(RUN, data=table\)"):
        memory.held(name)


def test_what_the_program_does_to_its_table_afterwards_changes_nothing():
    array = np.array([[1, 2], [3, 4]])
    table = hold(array)
    array[:] = 0
    assert table.columns["user"].tolist() == [1, 3]
