"""Where a log's files are found, which columns they have, and how they become one log."""

import gzip

import numpy as np
import pytest

from recrun.data.io.columns import Columns
from recrun.data.io.event_files import EventFiles
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import TEST, TRAIN, VALID
from recrun.errors import ConfigError, DataError


def files(path, root=None, threshold=None, provided=False, part_files=None, form="auto", **columns):
    return EventFiles(str(path), root, Columns(**columns), threshold, provided, part_files, None, form)


def log(path, **keys):
    return files(path, **keys).events()


def pairs(events):
    return list(zip(events.users[events.user].tolist(), events.items[events.item].tolist(), strict=True))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Columns


def test_users_and_sessions_are_columns_of_their_own(tmp_path):
    both = log(write(tmp_path / "a.csv", "user_id,SessionId,ItemId,Time\n1,b,5,9\n1,a,6,3\n"))
    assert (both.users.tolist(), both.sessions.tolist(), both.session.tolist()) == ([1], ["a", "b"], [1, 0])
    sessions = log(write(tmp_path / "b.csv", "session,item\n2,5\n1,5\n"))
    assert (sessions.user, sessions.users, sessions.time, sessions.part) == (None, None, None, None)
    assert sessions.sessions[sessions.session].tolist() == [2, 1]
    named = log(write(tmp_path / "c.csv", "who,user,what\n1,2,3\n"), session="who", item="what")
    assert (named.users.tolist(), named.sessions.tolist()) == ([2], [1])
    alone = log(tmp_path / "c.csv", session="who", item="what", user="none")
    assert (alone.users, alone.sessions.tolist()) == (None, [1])


@pytest.mark.parametrize(
    ("header", "columns", "fault"),
    [
        ("item,time", {}, r"no user or session column; the header has item, time. .*dataset.user_column=NAME"),
        ("user,time", {}, r"no item column.* names itemid, item, .*dataset.item_column=NAME names it"),
        ("user,item", {"time": "when"}, r"no column 'when' \(dataset.time_column\); the header has user, item"),
        ("user,itme", {"item": "item"}, r"no column 'item' .*did you mean 'itme'"),
        ("user,item", {"user": "none"}, "no user or session column"),
        ("user,item", {"threshold": 3}, r"no rating column \(dataset.threshold needs one\)"),
        ("1 2 3", {}, r".*dataset.format=sequences reads lines of a user and items"),
        ("1,2", {}, r".*dataset.columns=\[user, item, …\] names the columns of a file without a header"),
    ],
)
def test_columns_that_are_not_there(tmp_path, header, columns, fault):
    with pytest.raises(DataError, match=rf"a.csv: {fault}"):
        log(write(tmp_path / "a.csv", f"{header}\n1,2\n"), **columns)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "1 5\n1 6\n2 5\n"),
        ("runs.txt", "  1  5\n1 \t 6 \r\n2 5"),
        ("a.csv", "1,5\n1,6\n2,5\n"),
        ("a.tsv", "1\t5\n1\t6\n2\t5\n"),
        ("blanks.tsv", "1 5\n1 6\n2 5\n"),
        ("a.dat", "1::5\n1::6\n2::5\n"),
        ("other.ending", "1|5\n1|6\n2|5\n"),
    ],
)
def test_columns_of_a_file_without_a_header(tmp_path, name, content):
    events = log(write(tmp_path / name, content), header=("user", "item"))
    assert pairs(events) == [(1, 5), (1, 6), (2, 5)]
    write(tmp_path / name, content.replace("6", "6,6 6|6\t6::6"))
    with pytest.raises(DataError, match=rf"{name}:2: the row has \d cells, expected 2: user, item"):
        log(tmp_path / name, header=("user", "item"))
    with pytest.raises(DataError, match=rf"{name}:1: the row has 2 cells, but dataset.columns names 3"):
        log(tmp_path / name, header=("user", "item", "time"))


# Files


def test_a_folder_with_a_customary_file_or_files_that_continue_each_other(tmp_path):
    folder = tmp_path / "shop"
    for number in (2, 10, 1):
        write(folder / f"day.{number:02}.csv", f"user,item\n{number},5\n")
    write(folder / "day.03.csv", "user,item\n")  # as Spark leaves them
    write(folder / "_SUCCESS", "")
    write(folder / ".day.csv.crc", "x")
    assert pairs(log(folder)) == [(1, 5), (2, 5), (10, 5)]
    assert pairs(log("shop", root=str(tmp_path))) == [(1, 5), (2, 5), (10, 5)]
    write(folder / "more.train.notes", "")  # of no kind that is read
    write(folder / "items.parquet", "")
    with pytest.raises(DataError, match=r"files of several kinds \(.csv, .parquet\)"):
        log(folder)
    write(folder / "all.inter", "user_id:token\titem_id:token\n7\t9\n")
    assert pairs(log(folder)) == [(7, 9)]  # what stands beside an atomic file are its tables of users and items
    write(folder / "shop.inter", "user_id:token\titem_id:token\n7\t8\n")
    assert pairs(log(folder)) == [(7, 8)]
    with pytest.raises(DataError, match=r"a folder without a log; looked for nothing.inter, u.data"):
        log(write(tmp_path / "nothing" / "readme.md", "").parent)
    with pytest.raises(DataError, match=r"dataset.path=nowhere does not exist; looked for .*RECRUN_DATA"):
        log("nowhere")
    for name in ("a.csv", "b.csv"):
        write(tmp_path / "empty" / name, "user,item\n")
    with pytest.raises(DataError, match=r"a.csv: no rows behind the header"):
        log(tmp_path / "empty")


def split(folder, *names, header="user,item\n"):
    for number, name in enumerate(names):
        write(folder / name, f"{header}{number},{number + 5}\n")
    return folder


def test_split_files_are_parts_or_one_log(tmp_path):
    folder = split(tmp_path / "s", "test.csv", "TRAIN.CSV", "valid.csv.gz")
    write(folder / "valid.csv.gz", gzip.compress(b"user,item\n2,7\n"))
    provided = log(folder, provided=True)
    assert provided.part.tolist() == [TRAIN, VALID, TEST]
    assert pairs(provided) == [(1, 6), (2, 7), (0, 5)]
    assert log(folder).part is None
    assert pairs(log(folder)) == pairs(provided)
    (folder / "valid.csv.gz").unlink()
    assert log(folder, provided=True).part.tolist() == [TRAIN, TEST]
    assert files(folder, provided=True).identity() != files(folder).identity()
    write(folder / "test.csv", "user,item\n")
    with pytest.raises(DataError, match=r"test.csv: no rows behind the header"):
        log(folder, provided=True)
    (folder / "test.csv").unlink()
    with pytest.raises(DataError, match=r"no test file such as test.csv; dataset.part_files="):
        log(folder, provided=True)
    with pytest.raises(DataError, match="needs a folder with train and test files"):
        log(folder / "TRAIN.CSV", provided=True)
    split(folder, "test.csv", "train.tsv")
    with pytest.raises(DataError, match=r"more than one train file: TRAIN.CSV, train.tsv; dataset.part_files"):
        log(folder, provided=True)


def test_names_of_split_files_and_folders_of_them(tmp_path):
    folder = split(tmp_path / "s", "a.csv", "train/1.csv", "train/2.csv", "Own.Test.csv")
    assert pairs(log(folder, provided=True)) == [(1, 6), (2, 7), (3, 8)]
    names = {"train": "a.csv", "test": "train"}
    assert log(folder, provided=True, part_files=names).part.tolist() == [TRAIN, TEST, TEST]
    with pytest.raises(DataError, match=r"none.csv does not exist \(dataset.part_files.test\)"):
        log(folder, provided=True, part_files={"train": "a.csv", "test": "none.csv"})
    for names in ({"test": "a.csv"}, {"train": "a.csv", "dev": "a.csv"}, {}):
        with pytest.raises(
            ConfigError, match=r"dataset.part_files names .*it takes train, and valid, test and fold_in"
        ):
            log(folder, provided=True, part_files=names)


def test_files_of_one_log_have_the_same_columns(tmp_path):
    folder = split(tmp_path / "s", "train.csv")
    write(folder / "test.csv", "item,user,time\n6,1,5\n")
    with pytest.raises(DataError, match=r"train.csv: no time column, but test.csv has one; dataset.time_column=none"):
        log(folder)
    assert pairs(log(folder, time="none")) == [(0, 5), (1, 6)]


def test_dates_and_numbers_in_files_of_one_log(tmp_path):
    write(tmp_path / "s" / "1.csv", "user,item,time\n1,5,1970-01-02\n")
    write(tmp_path / "s" / "2.csv", "user,item,time\n1,5,1400000000000\n1,6,1400000001000\n")
    write(tmp_path / "s" / "3.csv", "user,item,time\n1,5,1970-01-03\n")
    assert log(tmp_path / "s").time.tolist() == [86400, 1400000000, 1400000001, 2 * 86400]


def test_identity_changes_with_content_and_settings(tmp_path):
    path = write(tmp_path / "a.csv", "user,item,rating\n1,2,3\n")
    settings = [{}, {"threshold": 3}, {"time_unit": "ms"}, {"header": ("user", "item", "x")}, {"form": "sequences"}]
    found = [files(path, **keys).identity() for keys in settings]
    write(path, "user,item,rating\n1,2,4\n")
    found.append(files(path).identity())
    assert all(one != other for at, one in enumerate(found) for other in found[:at])


# Raw events


def test_some_of_the_events():
    events = RawEvents(np.array([0, 1, 0], np.int32), np.array([5, 6]), time=np.array([1.0, 2, 3]), counts={"a": 1})
    some = events.take(np.array([True, False, True])).counted(b=2)
    assert (len(some), some.item.tolist(), some.time.tolist(), some.items.tolist()) == (2, [0, 0], [1, 3], [5, 6])
    assert (some.user, some.counts) == (None, {"a": 1, "b": 2})
    assert events.take(np.array([2, 1])).time.tolist() == [3, 2]
