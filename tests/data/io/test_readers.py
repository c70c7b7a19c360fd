"""Files in all their shapes, and what is said about broken ones."""

import gzip
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from recrun.data.io import text
from recrun.data.io.columns import Columns
from recrun.data.io.event_reader import read_events
from recrun.data.types import TEST, TRAIN
from recrun.errors import DataError

CSV = "userId,movieId,rating,timestamp\n7,10,4.0,100\n7,20,2.5,50\n12,10,5,75\n"
EXPECTED = [("7", "10", 100.0), ("7", "20", 50.0), ("12", "10", 75.0)]


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path, threshold=None, **columns):
    return read_events([(None, path)], Columns(**columns), threshold)


def triples(rows):
    return list(
        zip(rows.users[rows.user].astype(str), rows.items[rows.item].astype(str), rows.time.tolist(), strict=True)
    )


SHAPES = {
    "plain.csv": CSV,
    "crlf.csv": CSV.replace("\n", "\r\n"),
    "bom.csv": "\ufeff" + CSV,
    "open_end.csv": CSV.rstrip("\n"),
    "blank_lines.csv": CSV.replace("\n", "\n\n"),
    "semicolon.csv": CSV.replace(",", ";"),
    "pipe.txt": CSV.replace(",", "|"),
    "tabs.csv": CSV.replace(",", "\t"),
    "plain.tsv": CSV.replace(",", "\t"),
    "quoted.csv": "userId,title,movieId,rating,timestamp\n"
    '7,"a, ""b""",10,4,100\n"7","c\nd",20,2.5,50\n12,e,"10",5,"75"\n',
    "zipped.csv.gz": gzip.compress(CSV.encode()),
    "bom_zipped.csv.gz": gzip.compress(("\ufeff" + CSV).encode()),
    "atomic.inter": "rating:float\tuser_id:token\titem_id:token\ttimestamp:float\n"
    "4\t7\t10\t1e2\n2.5\t7\t20\t50\n5\t12\t10\t75\n",
    "ratings.dat": "7::10::4::100\n7::20::2.5::50\n12::10::5::75\n",
    "u.data": "7\t10\t4\t100\n7\t20\t2.5\t50\n12\t10\t5\t75\n",
    "headed.dat": CSV.replace(",", "::"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_reads_alike(tmp_path, name):
    rows = read(write(tmp_path / name, SHAPES[name]))
    assert triples(rows) == EXPECTED
    assert rows.users.dtype == np.int64  # sorted by value: 7 before 12
    assert rows.users.tolist() == [7, 12]
    assert (rows.user.dtype, rows.item.dtype) == (np.int32, np.int32)
    assert rows.counts == {"rows_read": 3, "below_threshold": 0}


def test_threshold_drops_rows_while_reading(tmp_path):
    rows = read(write(tmp_path / "a.csv", CSV), threshold=4)
    assert triples(rows) == [EXPECTED[0], EXPECTED[2]]
    assert rows.counts == {"rows_read": 3, "below_threshold": 1}


def test_named_columns(tmp_path):
    path = write(tmp_path / "a.csv", "when,who,what,user\n5,a,x,b\n")
    rows = read(path, user="who", item="what", time="when")
    assert triples(rows) == [("a", "x", 5.0)]


def test_ids_keep_their_spelling(tmp_path):
    rows = read(write(tmp_path / "a.csv", "user,item\n007,NA\n7,null\n07,é\n"))
    assert rows.users.tolist() == ["007", "07", "7"]
    assert rows.items.tolist() == ["NA", "null", "é"]


def test_text_ids_far_into_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "CHUNK_ROWS", 1000)
    lines = [f"{i},{i % 50}" for i in range(30_000)] + ["x1,5", "99999999999999999999,5"]
    rows = read(write(tmp_path / "a.csv", "user,item\n" + "\n".join(lines)))
    assert len(rows) == 30_002
    assert rows.users[rows.user[[0, 29_999, 30_000, 30_001]]].tolist() == ["0", "29999", "x1", "99999999999999999999"]
    assert rows.items.dtype == np.int64


@pytest.mark.parametrize("odd", ["007", "+7", " 7", '"07"', "-07"])
@pytest.mark.parametrize("column", [0, 1])
def test_odd_spellings_far_into_the_file_are_ids_of_their_own(tmp_path, odd, column):
    lines = [f"{i % 9},{i % 50}" for i in range(40_000)]  # beyond what is looked at before reading
    lines.insert(30_000, f"{odd},5" if column == 0 else f"5,{odd}")
    rows = read(write(tmp_path / "a.csv", "user,item\n" + "\n".join(lines)))
    assert odd.strip('"') in (rows.users, rows.items)[column].tolist()
    assert len(rows.users) + len(rows.items) == 9 + 50 + 1


def test_zero_and_ratings_below_one_are_no_odd_spellings(tmp_path):
    rows = read(write(tmp_path / "a.csv", "user,item,rating\n" + "0,0,0.5\n10,20,-0.5\n" * 20_000))
    assert rows.users.dtype == rows.items.dtype == np.int64


def test_chunks_share_their_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "CHUNK_ROWS", 7)
    pairs = np.random.default_rng(0).integers(0, 20, (100, 2))
    rows = read(write(tmp_path / "a.csv", "user,item\n" + "\n".join(f"{u},{i}" for u, i in pairs)))
    np.testing.assert_array_equal(np.stack([rows.users[rows.user], rows.items[rows.item]], 1), pairs)
    np.testing.assert_array_equal(rows.users, np.unique(pairs[:, 0]))


def test_parts_share_their_vocabulary(tmp_path):
    files = {
        TRAIN: write(tmp_path / "a.csv", "user,item\n1,5\n"),
        TEST: write(tmp_path / "b.csv", "user,item\nx,5\n1,6\n"),
    }
    rows = read_events(list(files.items()), Columns())
    assert rows.part.tolist() == [TRAIN, TEST, TEST]
    assert rows.users[rows.user].tolist() == ["1", "x", "1"]
    assert rows.items[rows.item].tolist() == [5, 5, 6]


BROKEN = {
    "missing_column": (
        "user,rating\n1,2\n",
        r"a.csv: no item column; the header has user, rating.*dataset.item_column",
    ),
    "no_header": ("1,10,4\n2,10,4\n", r"a.csv: no user or session column; the header has 1, 10, 4"),
    "short_row": ("user,item,rating\n1,2,3\n1,4\n", r"a.csv:3: the row has 2 cells, expected 3: user, item, rating"),
    "short_unused": ("user,item,a,b\n1,2,3,4\n1,4,5\n", r"a.csv:3: the row has 3 cells, expected 4"),
    "short_text": ("user,item,a\nx,2,3\n\ny\n", r"a.csv:4: the row has 1 cells, expected 3"),
    "long_row": ("user,item\n1,2\n1,2,3\n", r"a.csv:3: the row has 3 cells, expected 2"),
    "no_number": (
        "user,item,rating\n1,2,3\n1,4,good\n",
        r"a.csv:3: column rating is 'good', not a finite number",
    ),
    "nan": ("user,item,rating\n1,2,nan\n", r"a.csv:2: column rating is 'nan', not a finite number"),
    "infinite": ("user,item,rating\n1,2,inf\n", r"a.csv:2: column rating is 'inf', not a finite number"),
    "no_rating": ("user,item,rating\n1,2,\n", r"a.csv:2: column rating is empty"),
    "empty_file": ("", r"a.csv: the file is empty"),
    "blank_file": ("\n \n", r"a.csv: the file is empty"),
    "header_only": ("user,item\n", r"a.csv: no rows behind the header"),
    "header_only_open": ("user,item", r"a.csv: no rows behind the header"),
    "header_with_rating": ("user,title,item,time", r"a.csv: no rows behind the header"),
    "empty_user": ("user,item\n1,2\n,3\n", r"a.csv:3: column user is empty"),
    "empty_item": ("user,item\na,2\nb,\n", r"a.csv:3: column item is empty"),
    "after_quoted_lines": ('user,t,item\n1,"a\nb",2\n1,"c\nd",\n', r"a.csv:4: column item is empty"),
    "open_quote": ('user,item\n1,2\n1,"2\n3,4\n', r"a.csv:3: .*a quote that is not closed"),
    "old_mac_lines": ("user,item\r1,2\r", r"a.csv:1: lines end with a carriage return alone"),
    "not_utf8": (b"user,item\n1,2\n\xff\xfe,3\n", r"a.csv:3: not UTF-8 text \(byte 1 of the line\)"),
    "not_utf8_header": (b"us\xe9r,item\n1,2\n", r"a.csv:1: not UTF-8 text \(byte 3 of the line\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_text_is_refused_with_its_line(tmp_path, case):
    content, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        read(
            write(tmp_path / "a.csv", content),
            threshold=1 if "rating" in str(content) and "rating" in message else None,
        )


def test_broken_text_is_found_in_a_later_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "CHUNK_ROWS", 10)
    lines = ["user,item,rating", *(f"{i},1,5" for i in range(500)), "1,2,oops"]
    with pytest.raises(DataError, match=r"a.csv.gz:502: column rating is 'oops'"):
        read(write(tmp_path / "a.csv.gz", gzip.compress("\n".join(lines).encode())), threshold=1)


def test_movielens_layout_names_its_fields(tmp_path):
    with pytest.raises(DataError, match=r"ratings.dat:2: the row has 3 cells, expected 4: user_id, item_id, rating"):
        read(write(tmp_path / "ratings.dat", "1::2::3::4\n1::2::3\n"))


def test_wrong_column_name(tmp_path):
    with pytest.raises(
        DataError, match=r"a.csv: no column 'uid' \(dataset.user_column\); the header has userId, movieId"
    ):
        read(write(tmp_path / "a.csv", CSV), user="uid")


def test_a_threshold_needs_its_column(tmp_path):
    path = write(tmp_path / "a.csv", "user,item\n1,2\n")
    with pytest.raises(DataError, match="no rating column"):
        read(path, threshold=3)


@pytest.mark.parametrize("cut", [5, -5])
def test_broken_gzip(tmp_path, cut):
    whole = gzip.compress(CSV.encode() * 100)
    with pytest.raises(DataError, match="broken gzip file"):
        read(write(tmp_path / "a.csv.gz", whole[:cut]))
    with pytest.raises(DataError, match="broken gzip file"):
        read(write(tmp_path / "b.csv.gz", CSV))


def test_unknown_ending_and_unreadable_file(tmp_path):
    with pytest.raises(DataError, match=r"a.xlsx: unknown kind of file; allowed endings are .csv .tsv"):
        read(write(tmp_path / "a.xlsx", CSV))
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match=r"d.csv: cannot be read \(Is a directory\)"):
        read(tmp_path / "d.csv")


@pytest.mark.parametrize("ids", [[7, 7, 12], ["7", "7", "12"]])
def test_parquet(tmp_path, ids):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"user_id": ids, "movieId": [10, 20, 10], "rating": [4.0, 2.5, 5], "time": [100, 50, 75]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert triples(rows) == EXPECTED
    assert rows.users.tolist() == [7, 12]


def test_broken_parquet(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for column, values in {"rating": [1.0, None], "user": [None, 3], "item": ["", "x"]}.items():
        columns = {"user": [1, 2], "item": ["y", "x"], "rating": [1.0, 2.0], column: values}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        row = 2 if column == "rating" else 1
        with pytest.raises(DataError, match=rf"a.parquet: row {row}: column {column} is missing"):
            read(tmp_path / "a.parquet", threshold=1)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(write(tmp_path / "b.parquet", CSV))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'recrun\[parquet\]'"):
        read(tmp_path / "a.parquet")


def test_scipy_matrix(tmp_path):
    dense = np.array([[0, 3.0, 0], [0, 0, 0], [5, 2, 0]])
    sp.save_npz(tmp_path / "a.npz", sp.csr_matrix(dense))
    rows = read(tmp_path / "a.npz", threshold=3)
    assert list(zip(rows.users[rows.user], rows.items[rows.item], strict=True)) == [(0, 1), (2, 0)]
    with pytest.raises(DataError, match=r"not a \.npz file of plain arrays"):
        read(write(tmp_path / "b.npz", CSV))
