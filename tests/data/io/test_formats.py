"""The same rows read alike, or are refused alike, whatever reads them and whatever they are stored as."""

import bz2
import csv
import datetime
import decimal
import gzip
import io
import lzma
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.events.side_reader import read_side
from recrun.data.io import event_reader, lines
from recrun.data.io import text as text_files
from recrun.data.io.chunks import Wanted, joined_chunks
from recrun.data.io.columns import Columns
from recrun.data.io.event_files import EventFiles
from recrun.data.io.formats import data_file
from recrun.data.news.files import read_news
from recrun.data.tables.files import TableFiles, Where
from recrun.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = {
    "user_id": ["u1", "007", 'a"b', "é\u2028x\x85\x0cy\x1c", "NA", '"q', "7"],
    "item_id": ["3", "3", "12", "3", "7", "0", "99999999999999999999"],
    "rating": ["0.7", "0.5", "5", "1e1", "0.75", "-1", "0.7"],
    "timestamp": ["1400000000", "1400000001", "1400000001.5", "1400000003", "3", "2", "1400000009"],
}
INTEGERS = {**ROWS, "user_id": ["3", "-1", "20", "3", "0", "100", "9"], "item_id": ["5", "4", "5", "1", "2", "10", "0"]}


def delimited(rows, separator, quoting):
    out = io.StringIO()
    lines = [list(rows), *zip(*rows.values(), strict=True)]
    if quoting:
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(lines)
    else:
        out.writelines(separator.join(cells) + "\n" for cells in lines)
    return out.getvalue().encode()


def zipped(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner", content)
    return out.getvalue()


def numbers(rows, dtype=np.float64):
    """As binary formats hold them: texts, and numbers of a precision."""
    return {name: np.array(cells, float).astype(dtype) if name == "rating" else cells for name, cells in rows.items()}


def save_parquet(path, rows):
    pq.write_table(pa.table({name: pa.array(cells) for name, cells in rows.items()}), path, row_group_size=3)


def typed(rows):
    return {f"{name}:{'float' if name in ('rating', 'timestamp') else 'token'}": cells for name, cells in rows.items()}


def in_pieces(folder, rows, name, save):
    folder.mkdir()
    for at in range(0, 7, 3):
        save(folder / name.format(at), {column: cells[at : at + 3] for column, cells in rows.items()})


STORED = {
    "t.csv": lambda path, rows: path.write_bytes(delimited(rows, ",", True)),
    "crlf.csv": lambda path, rows: path.write_bytes(delimited(rows, ",", True).replace(b"\n", b"\r\n")),
    "t.txt": lambda path, rows: path.write_bytes(delimited(rows, ";", True)),
    "T.CSV.GZ": lambda path, rows: path.write_bytes(gzip.compress(delimited(rows, ",", True))),
    "t.csv.bz2": lambda path, rows: path.write_bytes(bz2.compress(delimited(rows, "|", True))),
    "t.csv.xz": lambda path, rows: path.write_bytes(lzma.compress(delimited(rows, ",", True))),
    "t.tsv.zip": lambda path, rows: path.write_bytes(zipped(delimited(rows, "\t", False))),
    "t.tsv": lambda path, rows: path.write_bytes(delimited(rows, "\t", False)),
    "crlf.tsv": lambda path, rows: path.write_bytes(delimited(rows, "\t", False).replace(b"\n", b"\r\n")),
    "t.dat": lambda path, rows: path.write_bytes(delimited(rows, "::", False)),
    "t.data": lambda path, rows: path.write_bytes(delimited(rows, "\t", False)),
    "t.INTER": lambda path, rows: path.write_bytes(delimited(typed(rows), "\t", False)),
    "t.parquet": lambda path, rows: save_parquet(path, rows),
    "T.Parquet": lambda path, rows: save_parquet(path, numbers(rows)),
    "single.parquet": lambda path, rows: save_parquet(path, numbers(rows, np.float32)),
    "t.npz": lambda path, rows: np.savez(path, **rows),
    "single.npz": lambda path, rows: np.savez(path, **numbers(rows, np.float32)),
    "pieces": lambda path, rows: in_pieces(path, rows, "part-{}.c000.snappy.parquet", save_parquet),
    "texts": lambda path, rows: in_pieces(
        path, rows, "{}.csv", lambda file, part: file.write_bytes(delimited(part, ",", True))
    ),
}


def log(path, threshold=None, provided=False, form="auto", part_files=None, **columns):
    return EventFiles(str(path), None, Columns(**columns), threshold, provided, part_files, None, form).events()


def table(path, **kinds):
    wanted = Wanted(**{kind: frozenset(names) for kind, names in kinds.items()})
    return joined_chunks(list(TableFiles(Where(str(path))).chunks(wanted)), wanted)


def cells(texts):
    return texts.values[texts.codes].tolist()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_ROWS", 4)
    monkeypatch.setattr(event_reader, "TEXT_ROWS", 4)


@pytest.mark.parametrize("rows", [ROWS, INTEGERS], ids=["text", "integers"])
@pytest.mark.parametrize("name", STORED)
def test_the_same_rows_read_alike(tmp_path, name, rows):
    path = tmp_path / name
    STORED[name](path, rows)
    events = log(path)
    assert [str(i) for i in events.users[events.user]] == rows["user_id"]
    assert [str(i) for i in events.items[events.item]] == rows["item_id"]
    assert events.time.tolist() == [float(text) for text in rows["timestamp"]]
    whole = rows is INTEGERS
    assert (events.users.dtype, events.items.dtype) == ((np.int64, np.int64) if whole else (object, object))
    for ids in (events.users, events.items):
        assert ids.tolist() == sorted(ids.tolist())
    rated = log(path, threshold=0.7)
    assert [str(i) for i in rated.users[rated.user]] == [rows["user_id"][at] for at in (0, 2, 3, 4, 6)]
    assert rated.counts == {"rows_read": 7, "below_threshold": 2}
    assert len(rated.users) == len(set(rated.user.tolist()))  # nobody who is only in what was dropped

    chunk = table(path, texts=["user_id", "item_id"], numbers=["rating"])
    assert cells(chunk.texts["user_id"]) == rows["user_id"]
    assert cells(chunk.texts["item_id"]) == rows["item_id"]
    assert (chunk.numbers["rating"] >= 0.7).tolist() == [True, False, True, True, True, False, True]
    np.testing.assert_allclose(chunk.numbers["rating"], np.array(rows["rating"], float), rtol=1e-7)


IDS = {
    "uint64": (pa.array([2**64 - 1, 7], pa.uint64()), ["18446744073709551615", "7"]),
    "big": (pa.array([2**53 + 1, -7], pa.int64()), ["9007199254740993", "-7"]),
    "int8": (pa.array([1, 2], pa.int8()), ["1", "2"]),
    "whole floats": (pa.array([1.0, 2.0]), ["1", "2"]),
    "floats": (pa.array([1.0, 2.5], pa.float32()), ["1", "2.5"]),
    "half": (pa.array(np.array([1.0, 2.5], np.float16)), ["1", "2.5"]),
    "bool": (pa.array([True, False]), ["true", "false"]),
    "large text": (pa.array(["a", "é"], pa.large_string()), ["a", "é"]),
    "view": (pa.array(["a", "é"], pa.string_view()), ["a", "é"]),
    "binary": (pa.array(["a", "é"], pa.binary()), ["a", "é"]),
    "categories": (pa.array(["a", "é"]).dictionary_encode(), ["a", "é"]),
    "decimal": (pa.array([decimal.Decimal("1.50"), decimal.Decimal("2")], pa.decimal128(5, 2)), ["1.50", "2.00"]),
    "date": (pa.array([datetime.date(2020, 1, 2)] * 2), ["2020-01-02"] * 2),
    "time of day": (pa.array([datetime.time(1, 2)] * 2, pa.time32("s")), ["01:02:00.000"] * 2),
    "NUL at the end": (pa.array(["a", "a\0"]), ["a", "a\0"]),
    "line breaks": (pa.array(["a\nb", "a\rb"]), ["a\nb", "a\rb"]),
    "null": (pa.array(["a", None]), None),
    "null integer": (pa.array([1, None]), None),
    "NaN": (pa.array([1.0, np.nan]), None),
    "NaN of text": (pa.array(["a", ""]), None),
    "nothing": (pa.array([None, None]), None),
    "list": (pa.array([["a"], ["b"]]), "which is neither an id nor text"),
    "struct": (pa.array([{"a": 1}, {"a": 2}]), "which is neither an id nor text"),
    "not UTF-8": (pa.array([b"a", b"\xff"], pa.binary()), "column user"),
    "duration": (pa.array([datetime.timedelta(1)] * 2), "which is neither an id nor text"),
}


@pytest.mark.parametrize("case", IDS)
def test_ids_of_parquet(tmp_path, case):
    column, expected = IDS[case]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": column, "item": [1, 2]}), path)
    if isinstance(expected, str):
        for read in (log, lambda path: table(path, texts=["user"])):
            with pytest.raises(DataError, match=rf"t.parquet: column user .*{expected}|t.parquet: {expected}"):
                read(path)
        return
    texts = cells(table(path, texts=["user"]).texts["user"])
    if expected is None:  # an empty cell of a table, refused in a log
        assert texts[1] == ""
        with pytest.raises(DataError, match=r"t.parquet: row [12]: column user is missing"):
            log(path)
        return
    assert texts == expected
    events = log(path)
    assert [str(i) for i in events.users[events.user]] == expected


NUMPY_IDS = {
    "uint64": (np.array([2**64 - 1, 7], np.uint64), ["18446744073709551615", "7"]),
    "whole floats": (np.array([1.0, 2.0]), ["1", "2"]),
    "floats": (np.array([1.0, 2.5], np.float32), ["1", "2.5"]),
    "half": (np.array([1.0, 2.5], np.float16), ["1", "2.5"]),
    "bool": (np.array([True, False]), ["true", "false"]),
    "bytes": (np.array([b"a", "é".encode()]), ["a", "é"]),
    "days": (np.array(["2020-01-02"] * 2, "datetime64[D]"), ["2020-01-02"] * 2),
    "NaN": (np.array([1.0, np.nan]), None),
    "Latin-1": (np.array([b"a", b"\xe9"]), "holds bytes that are not UTF-8"),
    "duration": (np.array([1, 2], "timedelta64[s]"), "neither an id nor text"),
    "complex": (np.array([1j, 2]), "neither an id nor text"),
}


@pytest.mark.parametrize("case", NUMPY_IDS)
def test_ids_of_arrays(tmp_path, case):
    column, expected = NUMPY_IDS[case]
    path = tmp_path / "t.npz"
    np.savez(path, user=column, item=np.array([1, 2]), other=np.zeros(5))
    if isinstance(expected, str):
        for read in (log, lambda path: table(path, texts=["user"])):
            with pytest.raises(DataError, match=rf"t.npz: column user .*{expected}"):
                read(path)
        return
    texts = cells(table(path, texts=["user"]).texts["user"])
    if expected is None:
        assert texts[1] == ""
        with pytest.raises(DataError, match=r"t.npz: row 2: column user is missing"):
            log(path)
        return
    assert texts == expected
    events = log(path)
    assert [str(i) for i in events.users[events.user]] == expected


NUMBERS = {
    "uint64": (pa.array([2**64 - 1, 7], pa.uint64()), [2.0**64, 7]),
    "big": (pa.array([2**53 + 1, 7], pa.int64()), [2.0**53, 7]),
    "bool": (pa.array([True, False]), [1, 0]),
    "decimal": (pa.array([decimal.Decimal("1.50"), decimal.Decimal("2")], pa.decimal128(5, 2)), [1.5, 2]),
    "digits": (pa.array(["1.5", "2"]), [1.5, 2]),
    "null": (pa.array([1.5, None]), [1.5, np.nan]),
    "NaN": (pa.array([1.5, np.nan], pa.float32()), [1.5, np.nan]),
    "nothing": (pa.array([None, None]), [np.nan, np.nan]),
    "text": (pa.array(["1", "good"]), "'good' is not a finite number"),
    "text of NaN": (pa.array(["1", "nan"]), "'nan' is not a finite number"),
    "infinite": (pa.array([1.5, np.inf]), "row 2: column n is inf, not a finite number"),
    "list": (pa.array([[1], [2]]), "neither a number nor a date"),
    "time of day": (pa.array([datetime.time(1, 2)] * 2, pa.time32("s")), "neither a number nor a date"),
    "duration": (pa.array([datetime.timedelta(1)] * 2), "neither a number nor a date"),
    "date": (pa.array([datetime.date(2020, 1, 2)] * 2), "not numbers"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_parquet(tmp_path, case):
    column, expected = NUMBERS[case]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": column}), path)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=rf"t.parquet: .*column n|{expected}") as caught:
            table(path, numbers=["n"])
        assert expected in str(caught.value)
    else:
        np.testing.assert_array_equal(table(path, numbers=["n"]).numbers["n"], expected)


SECONDS = 1400000000
TIMES = {
    "s": ([SECONDS, SECONDS + 2], 0),
    "ms": ([SECONDS * 1000, SECONDS * 1000 + 2000], 0),
    "us": ([SECONDS * 10**6, SECONDS * 10**6 + 2 * 10**6], 0),
    "ns": ([SECONDS * 10**9, SECONDS * 10**9 + 2 * 10**9], 0),
    "digits with seconds": ([20140513165320, 20140513165322], 0),
    "digits of text": (["20140513165320", "20140513165322"], 0),
    "ISO 8601": (["2014-05-13T16:53:20Z", "2014-05-13 18:53:22+02:00"], 0),
    "ISO 8601 without a zone": (["2014-05-13 16:53:20", "2014-05-13 16:53:22"], 0),
    "days": ([20140513, 20140515], -16 * 3600 - 53 * 60 - 20),
    "hours": ([2014051316, 2014051318], -53 * 60 - 20),
    "minutes": ([201405131653, 201405131655], -20),
}
STEP = {"days": 2 * 86400, "hours": 7200, "minutes": 120}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz"])
@pytest.mark.parametrize("case", TIMES)
def test_the_unit_of_times_is_recognised(tmp_path, case, name):
    values, shift = TIMES[case]
    rows = {"user": [1, 1], "item": [1, 2], "time": values}
    STORED["t.csv"](tmp_path / name, {column: map(str, cells) for column, cells in rows.items()})
    if name == "t.parquet":
        save_parquet(tmp_path / name, rows)
    if name == "t.npz":
        np.savez(tmp_path / name, **rows)
    np.testing.assert_allclose(log(tmp_path / name).time, SECONDS + shift + np.array([0, STEP.get(case, 2)]), atol=1e-6)


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_of_parquet_and_arrays(tmp_path, unit, zone):
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    stamps = pa.array([SECONDS * scale, (SECONDS + 2) * scale]).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"user": [1, 1], "item": [1, 2], "time": stamps}), tmp_path / "t.parquet")
    assert log(tmp_path / "t.parquet").time.tolist() == [SECONDS, SECONDS + 2]
    np.savez(tmp_path / "t.npz", user=[1, 1], item=[1, 2], time=np.array([SECONDS * scale] * 2, f"datetime64[{unit}]"))
    assert log(tmp_path / "t.npz").time.tolist() == [SECONDS] * 2


def test_times_whose_unit_is_not_clear_are_refused_or_stated(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"user,item,time\n1,1,{SECONDS}\n1,2,{SECONDS * 1000}\n")
    with pytest.raises(DataError, match=r"t.csv: times between 1400000000 and 1400000000000 .* dataset.time_unit=s"):
        log(path)
    assert log(path, time_unit="ms").time.tolist() == [SECONDS / 1000, SECONDS]
    assert log(path, time="none").time is None
    path.write_text("user,item,time\n1,1,1e25\n")
    with pytest.raises(DataError, match=r"dataset.time_unit"):
        log(path)
    path.write_text("user,item,time\n1,1,0\n1,2,5\n1,3,20149999\n")  # counts from 0, or ranks
    assert log(path).time.tolist() == [0, 5, 20149999]
    for bad, fault in (("soon", "is 'soon', not a finite number"), ("", "is empty"), ("nan", "'nan', not a finite")):
        path.write_text(f"user,item,time\n1,1,5\n1,2,{bad}\n")
        with pytest.raises(DataError, match=rf"t.csv:3: column time .*{fault}"):
            log(path)


# Rows of another width

NARROW = "user,item,n\n1,2,3\n{}\n1,2,3\n"
WIDTHS = {
    "long then short": ("1,2,3,4\n1,2", 3),
    "short then long": ("1,2\n1,2,3,4", 3),
    "long then short, quoted": ('1,"2, 2",3,4\n1,2', 3),
    "a quote left out": ('1,a, b,3\n"x",2', 3),
    "short and a quoted separator": ('1,"2, 2",3\n1,"2,"', 4),
    "long alone": ("1,2,3,", 3),
    "behind blank lines": ("\n\n1,2\n1,2,3,4", 5),
    "behind lines in quotes": ('1,"a\n\nb",3\n1,2\n1,2,3,4', 6),
    "odd quotes": ('1,5" disk,3\n1,2\n1,2,3,4', 4),
    "quotes that hide a separator": ('1,a"2,b"3,3\n1,2', 3),
}
READERS = {
    "log": log,
    "log by item": lambda path: log(path, user="item", item="n"),
    "table": lambda path: table(path, texts=["user"]),
    "numbers": lambda path: table(path, numbers=["n"]),
    "side": lambda path: read_side(str(path), None, "user_table"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", WIDTHS)
def test_a_row_of_another_width_is_refused_though_others_make_up_for_it(tmp_path, case, reader):
    body, line = WIDTHS[case]
    (tmp_path / "t.csv").write_text(NARROW.format(body))
    with pytest.raises(DataError, match=rf"t.csv:{line}: the row has \d cells, expected 3: user, item, n"):
        READERS[reader](tmp_path / "t.csv")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["t.tsv", "t.data", "t.user", "t.tsv.gz"])
def test_a_row_of_another_width_without_quoting(tmp_path, name, reader):
    content = NARROW.format('1,"2,3,4"\n1,2').replace(",", "\t").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(DataError, match=rf"{name}:3: the row has 4 cells, expected 3"):
        READERS[reader](tmp_path / name)


def test_quotation_marks_are_characters_where_there_is_no_quoting(tmp_path):
    (tmp_path / "t.inter").write_text('user_id:token\titem_id:token\tt:token\nu\t"Hello\tx\nu\tb\ty\nu\tWorld"\tz\n')
    events = log(tmp_path / "t.inter")
    assert events.items[events.item].tolist() == ['"Hello', "b", 'World"']
    assert cells(table(tmp_path / "t.inter", texts=["item_id"]).texts["item_id"]) == ['"Hello', "b", 'World"']


# Against Python's csv

SIGNS = st.sampled_from([*'ab0",,,\n\n ', "\r", "\r\n", '"a, b"', '"\r\n"'])
BODY = st.lists(SIGNS, max_size=30).map("".join)


@settings(deadline=None, max_examples=400)
@given(BODY, st.integers(1, 12), st.booleans())
def test_csv_reads_as_pythons_csv(tmp_path_factory, body, block, skip):
    """What is strictly valid is read; what is read is what Python's csv reads."""
    path = tmp_path_factory.mktemp("text") / "t.csv"
    path.write_bytes(("x,y\n" + body).encode())
    rows = [f"{line}\n" for line in body.split("\n")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        patch.setattr(text_files, "CHUNK_ROWS", 2)
        try:
            found = whole(path, skip)
        except DataError:
            found = None
    try:
        strict = [row for row in csv.reader(rows, strict=True, skipinitialspace=skip) if row]
        valid = all(len(row) == 2 for row in strict)
    except csv.Error:
        valid = False
    assert found is not None or not valid
    if found is not None:
        assert found == [row for row in csv.reader(rows, skipinitialspace=skip) if row]


def whole(path, skip=False):
    wanted = Wanted(texts=frozenset({"x", "y"}))
    chunk = joined_chunks(list(data_file(path, skip_blanks=skip).chunks(wanted)), wanted)
    return [list(row) for row in zip(cells(chunk.texts["x"]), cells(chunk.texts["y"]), strict=True)]


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from('ab0"\t\t\t\n\n\0\x1c\u2028'), max_size=30), st.integers(1, 12))
def test_tsv_reads_as_its_lines_taken_apart(tmp_path_factory, body, block):
    path = tmp_path_factory.mktemp("text") / "t.tsv"
    path.write_bytes(("x\ty\n" + body).encode())
    rows = [line.split("\t") for line in body.split("\n") if line]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        patch.setattr(text_files, "CHUNK_ROWS", 2)
        if all(len(row) == 2 for row in rows):
            assert whole(path) == rows
        else:
            with pytest.raises(DataError, match=r"t.tsv:\d+: the row has \d+ cells, expected 2"):
                whole(path)


ID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).filter(lambda text: text != "\ufeff")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(ID, ID), min_size=1, max_size=8))
def test_ids_are_any_text(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("ids")
    users, items = map(list, zip(*pairs, strict=True))
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["user", "item"], *pairs])
    save_parquet(folder / "t.parquet", {"user": users, "item": items})
    for name in ("t.csv", "t.parquet"):
        events = log(folder / name)
        assert [str(i) for i in events.users[events.user]] == users
        assert [str(i) for i in events.items[events.item]] == items
        assert cells(table(folder / name, texts=["user"]).texts["user"]) == users


NUMBER = st.text(st.sampled_from("0017-+ \t\v_"), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(NUMBER, NUMBER, st.sampled_from(["0.5", "-0.5", "007"])), min_size=1), st.booleans())
def test_ids_that_are_nearly_integers_keep_their_spelling(tmp_path_factory, rows, sample):
    path = tmp_path_factory.mktemp("ids") / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["user", "item", "n"], ["1", "2", "3"], *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "SAMPLE_BYTES", 1 << 15 if sample else 0)
        events = log(path)
    assert [str(i) for i in events.users[events.user]] == ["1", *(row[0] for row in rows)]
    assert [str(i) for i in events.items[events.item]] == ["2", *(row[1] for row in rows)]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_long_id_costs_its_length(tmp_path, name, monkeypatch):
    users = [f"user{i}" for i in range(5000)] + ["x" * 20_000]
    STORED[name](tmp_path / name, {"user": users, "item": users})
    monkeypatch.setattr(event_reader, "TEXT_ROWS", 1 << 17)
    log(tmp_path / name)  # what is imported is not counted
    tracemalloc.start()
    events = log(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(events.users) == 5001
    assert peak < 16 * 2**20  # as fixed width it would be 381 MiB


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_lines_that_end_with_a_carriage_return_alone(tmp_path, name, reader):
    separator = "," if name == "t.csv" else "\t"
    for content, line in (("user,item,n\r1,2,3\r", 1), ("user,item,n\n1,2,3\r1,2,3\n", 2)):
        (tmp_path / name).write_text(content.replace(",", separator), newline="")
        with pytest.raises(DataError, match=rf"{name}:{line}: lines end with a carriage return alone"):
            READERS[reader](tmp_path / name)


def test_news_are_read_as_other_text(tmp_path):
    news = tmp_path / "news.tsv"
    news.write_text('N1\tc\ts\tA "title\tabstract\tu\te\te\r\nN2\tc\ts\tB\tabstract\tu\te\te\n', newline="")
    assert read_news(news).ids.tolist() == ["", "N2", "N1"]
    news.write_text("N1\tc\ts\tA\rtitle\tabstract\tu\te\te\n", newline="")
    with pytest.raises(DataError, match=r"news.tsv:1: lines end with a carriage return alone, or one is within"):
        read_news(news)


@pytest.mark.parametrize("read", [log, lambda path: table(path, texts=["user"])])
def test_what_is_refused_by_its_name_or_its_content(tmp_path, read):
    content, single = b"user,item\n1,2\n", io.BytesIO()
    np.save(single, np.arange(3))
    for name, bytes_, fault in (
        ("t.csv.zst", b"\x28\xb5\x2f\xfd", "unknown kind of file; allowed endings are .csv"),
        ("t.xlsx", b"PK", "unknown kind of file"),
        ("t.parquet.gz", gzip.compress(b"PAR1"), "unknown kind of file"),
        ("zipped.csv", gzip.compress(content), r"holds gzip \(.gz\), which its name does not say"),
        ("parquet.csv", b"PAR1", r"holds Parquet \(.parquet\)"),
        ("t.csv.gz", content, "broken gzip file"),
        ("t.csv.bz2", content, "broken bzip2 file"),
        ("t.csv.xz", content, "broken xz file"),
        ("t.csv.zip", content, "broken zip file"),
        ("t.npz", content, "not a .npz file"),
        ("single.npz", single.getvalue(), "not a .npz file of plain arrays .it holds a single array"),
        ("t.parquet", content, "cannot be read as Parquet"),
    ):
        (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(DataError, match=rf"{name}: {fault}"):
            read(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("a", content)
        archive.writestr("b", content)
    with pytest.raises(DataError, match=r"two.csv.zip: 2 files in the archive, expected one"):
        read(tmp_path / "two.csv.zip")


def test_a_column_name_that_is_there_twice(tmp_path):
    (tmp_path / "t.csv").write_text("user,item,user\n1,2,3\n")
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 3, names=["user", "item", "user"]), tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", user0=[1], user=[[1]], item=[2])
    for name, column in (("t.csv", "user"), ("t.parquet", "user"), ("t.npz", "user0")):
        fault = rf"{name}.*: two columns are called '{column}'"
        with pytest.raises(DataError, match=fault):
            log(tmp_path / name, user=column)
        with pytest.raises(DataError, match=fault):
            table(tmp_path / name, texts=["user"])


def test_fixed_size_lists_are_sequences(tmp_path):
    lists = pa.array([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2))
    pq.write_table(pa.table({"past": lists}), tmp_path / "t.parquet")
    wanted = Wanted(lists={"past": "|"})
    chunk = next(data_file(tmp_path / "t.parquet").chunks(wanted))
    assert chunk.lists["past"].offsets.tolist() == [0, 2, 4]
    assert cells(chunk.lists["past"].texts) == ["a", "b", "c", "d"]


def test_a_score_that_is_text_is_not_read_without_a_threshold(tmp_path):
    (tmp_path / "t.csv").write_text("user,item,score\n1,2,good\n1,3,\n")
    assert len(log(tmp_path / "t.csv")) == 2
    with pytest.raises(DataError, match=r"t.csv:2: column score is 'good', not a finite number"):
        log(tmp_path / "t.csv", threshold=1)
    with pytest.raises(DataError, match=r"no rating column \(dataset.threshold needs one\)"):
        log(tmp_path / "t.csv", threshold=1, rating="none")


def test_a_sparse_matrix(tmp_path):
    sp.save_npz(tmp_path / "m.npz", sp.csr_matrix(np.array([[0, 0.7], [0.5, 0]], np.float32)))
    events = log(tmp_path / "m.npz", threshold=0.7)
    assert (events.users.tolist(), events.items.tolist()) == ([0], [1])


def test_blanks_after_separators(tmp_path):
    """In a log they are dropped if the first line has them; in a table always, but for tabs."""
    for name, content, logged, tabled in (
        ("all.csv", 'user, item\n1, " x"\n2, y\n', [" x", "y"], [" x", "y"]),
        ("some.csv", "user,item\n1, x\n2,y\n", [" x", "y"], ["x", "y"]),
        ("all.tsv", "user\t item\n1\t x\n2\ty\n", [" x", "y"], [" x", "y"]),
        ("all.data", "user, item\n1, x\n2, y\n", ["x", "y"], ["x", "y"]),
    ):
        (tmp_path / name).write_text(content)
        events = log(tmp_path / name)
        assert events.items[events.item].tolist() == logged
        assert cells(table(tmp_path / name, texts=["item"]).texts["item"]) == tabled
    (tmp_path / "none.csv").write_text("1, 2\n3, 4\n")
    events = log(tmp_path / "none.csv", header=("user", "item"))
    assert (events.users.tolist(), events.items.tolist()) == ([1, 3], [2, 4])


@pytest.mark.parametrize("separator", ["::", " | ", "§", "\t", "^"])
def test_any_separator_of_a_table(tmp_path, separator):
    (tmp_path / "t.csv").write_text(separator.join(["x", "y"]) + "\n" + separator.join(["a:b", '"c|d"']) + "\n")
    file = data_file(tmp_path / "t.csv", separator=separator)
    chunk = next(file.chunks(Wanted(texts=frozenset("xy"))))
    assert [cells(chunk.texts[name]) for name in "xy"] == [["a:b"], ["c|d"]]
