"""Sequence files: a line per user."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.io import sequences
from recrun.data.io.columns import Columns
from recrun.data.io.event_files import EventFiles
from recrun.data.io.streams import line_blocks
from recrun.data.types import TEST, TRAIN
from recrun.errors import DataError


def log(path, provided=False, form="sequences", **columns):
    return EventFiles(str(path), None, Columns(**columns), None, provided, None, None, form).events()


def pairs(events):
    return list(zip(events.users[events.user].tolist(), events.items[events.item].tolist(), strict=True))


CELL = st.text(st.sampled_from("ab01\x1c\u2028é"), min_size=1, max_size=3)
BLANK = st.sampled_from([" ", "\t", "  ", " \t"])


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(CELL, st.lists(CELL, min_size=1, max_size=5), min_size=1), BLANK, st.booleans())
def test_lines_are_users_with_their_items(tmp_path_factory, rows, blank, spread):
    path = tmp_path_factory.mktemp("sequences") / "s.txt"
    lines = [blank.join([user, *items]) + "\n" for user, items in rows.items()]
    path.write_text(("\n" if spread else "").join(lines), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "line_blocks", lambda path: line_blocks(path, 5))
        events = log(path)
    assert [(str(u), str(i)) for u, i in pairs(events)] == [(user, item) for user in rows for item in rows[user]]
    assert events.time is None
    assert events.counts == {"rows_read": len(events), "below_threshold": 0, "users_without_items": 0}


def test_integers_sort_by_value_and_files_may_be_compressed(tmp_path):
    (tmp_path / "s.txt.gz").write_bytes(gzip.compress(b"10 7 30\r\n9 7"))
    events = log(tmp_path / "s.txt.gz")
    assert (events.users.tolist(), events.items.tolist()) == ([9, 10], [7, 30])
    assert pairs(events) == [(10, 7), (10, 30), (9, 7)]


def test_split_files_may_have_users_without_items_and_each_user_once_a_file(tmp_path):
    (tmp_path / "train.txt").write_text("1 5 6\n2 7\n3\n")
    (tmp_path / "test.txt").write_text("1 8\n2 \n")
    events = log(tmp_path, provided=True)
    assert pairs(events) == [(1, 5), (1, 6), (2, 7), (1, 8)]
    assert events.part.tolist() == [TRAIN] * 3 + [TEST]
    assert events.counts["users_without_items"] == 2
    assert events.users.tolist() == [1, 2]


def test_a_sequence_file_has_no_ratings(tmp_path):
    (tmp_path / "s.txt").write_text("1 5\n")
    files = EventFiles(str(tmp_path / "s.txt"), None, Columns(), 3.0, False, None, None, "sequences")
    with pytest.raises(DataError, match=r"s.txt: a sequence file has no ratings, which dataset.threshold needs"):
        files.events()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"1 5\n\n2\n", r"s.txt:3: user '2' has no items; a line is `user item item"),
        (b"1 5\n2 5\n1 6\n", r"s.txt:3: user '1' has a line already, line 1"),
        (b"1 5\n2 \xff\n", r"s.txt:2: not UTF-8 text \(byte 3 of the line\)"),
        (b"1 5\r2 6\r", r"s.txt:1: lines end with a carriage return alone"),
        (b"", r"s.txt: the file is empty"),
        (b"\n\n", r"s.txt: no line has an item"),
        (b"1,2,3\n2,3,4\n", r"s.txt:1: user '1,2,3' has no items; .* separated by blanks"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, content, fault):
    (tmp_path / "s.txt").write_bytes(content)
    with pytest.raises(DataError, match=fault):
        log(tmp_path / "s.txt")


DATA = Path(os.environ.get("RECRUN_DATA") or Path(__file__).parents[4] / "shared" / "data")


def real(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not there (RECRUN_DATA)")
    return DATA / name


@pytest.mark.data
def test_amazon_beauty():
    events = log(real("amazon-beauty"))
    assert (len(events.users), len(events.items), len(events)) == (22_363, 12_101, 198_502)
    assert np.bincount(events.user).min() == 5  # a 5-core
    assert events.items[events.item[:5]].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.data
def test_rows_of_user_and_item_in_order():
    events = log(real("bert4rec-beauty/events.txt.gz"), form="auto", header=("user", "item"))
    assert (len(events.users), len(events.items), len(events)) == (40_226, 54_542, 353_962)


@pytest.mark.data
def test_gowalla_has_train_and_test():
    events = log(real("gowalla"), provided=True, form="auto")
    assert (len(events.users), len(events.items)) == (29_858, 40_981)
    assert np.bincount(events.part).tolist() == [810_128, 0, 217_242]
