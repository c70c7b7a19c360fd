"""Recommendation lists of other programs: which columns, which order, and what is refused with its line."""

import pandas as pd
import pytest
from worlds.events import lists

from recrun.data.io.recommendations import read_recommendations
from recrun.errors import DataError


def read(tmp_path, text, name="top.tsv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    found = read_recommendations(path)
    rows = [[str(found.items[item]) for item in row] for row in lists(found.lists)]
    return dict(zip(found.users.tolist(), rows, strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "u\ta\nu\tb\nv\tc\n"),  # the order of the rows
        ("a.csv", "user_id,item_id\nu,a\nv,c\nu,b\n"),
        ("a.csv", "u,a,1\nu,b,2\nv,c,1\n"),  # ranks, for they count
        ("a.csv", "u,b,0.5\nu,a,0.7\nv,c,-1\n"),  # scores
        ("a.tsv", "u\tb\t2\t0.9\nu\ta\t1\t0.1\nv\tc\t1\t0\n"),  # the rank decides
        ("a.csv", "score,item,user\n1,b,u\n2,a,u\n9,c,v\n"),
        ("a.csv", "rank,item,session\n1,b,u\n0,a,u\n0,c,v\n"),  # ranks from 0
        ("a.inter", "user_id:token\titem_id:token\tscore:float\nu\ta\t2\nu\tb\t1\nv\tc\t1\n"),
        ("a.txt", "u a 1 0.5\nu b 2 0.25\nv c 1 0.5\n"),
    ],
)
def test_all_forms_are_the_same_lists(tmp_path, name, text):
    assert read(tmp_path, text, name) == {"u": ["a", "b"], "v": ["c"]}


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "top.parquet"
    pd.DataFrame({"user": [7, 7, 8], "item": [3, 4, 3], "score": [0.1, 0.2, 0.3]}).to_parquet(path)
    found = read_recommendations(path)
    assert found.users.tolist() == ["7", "8"]
    assert [[str(found.items[item]) for item in row] for row in lists(found.lists)] == [["4", "3"], ["3"]]


def test_equal_scores_stay_in_the_order_of_the_file(tmp_path):
    assert read(tmp_path, "user\titem\tscore\nu\tb\t1\nu\ta\t1\nu\tc\t2\n") == {"u": ["c", "b", "a"]}


def test_ids_are_texts(tmp_path):
    assert read(tmp_path, "007\tNA\n7\tNA\n") == {"007": ["NA"], "7": ["NA"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u\ta\nv\ta\nu\ta\n", r"top.tsv:3: user 'u' has item 'a' already, in .*top.tsv:1"),
        ("user\titem\nu\ta\nu\tb\nu\tb\n", r"top.tsv:4: user 'u' has item 'b' already, in .*top.tsv:3"),
        ("u\ta\t3\nu\tb\t1\n", r"top.tsv:1: the third column holds whole numbers that may be ranks or scores"),
        ("u\ta\t1\t1\nu\tb\t3\t1\n", r"top.tsv:2: rank 3 where 2 is expected"),
        ("u\ta\t1\t1\nu\tb\t1\t1\n", r"top.tsv:2: rank 1 where 2 is expected"),
        ("u\ta\t1\tx\n", r"top.tsv:1"),
        ("u\ta\t1\tnan\n", r"top.tsv:1"),
        ("u\t\n", r"top.tsv:1"),
        ("u\ta\t1\t1\t1\n", r"top.tsv:1: 5 cells"),
        ("u\n", r"top.tsv:1: 1 cells"),
        ("", "is empty"),
        ("user\titem\n", "no recommendation"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"user::_id,item_id,rank\nu,7,1\n", "no column of users and of items; the columns are user, _id,item_id,rank"),
        (b"user\ritem\nu\t7\n", "lines end with a carriage return alone"),
    ],
)
def test_a_header_that_does_not_name_columns(tmp_path, content, fault):
    (tmp_path / "lists.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"lists.csv.*: {fault}"):
        read_recommendations(tmp_path / "lists.csv")
