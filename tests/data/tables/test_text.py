"""Text files as chunks of a table, against Python's own csv."""

import csv
import gzip
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.io import text as table_text
from recrun.data.io.chunks import Lists, Texts, Wanted, joined_chunks
from recrun.data.io.text import TextFile
from recrun.errors import DataError

CELL = st.text(st.sampled_from('ab07.-",;|\n é'), max_size=5).map(lambda text: text.lstrip(" "))
ROWS = st.lists(st.tuples(CELL, CELL, st.one_of(st.none(), st.floats(-1e9, 1e9))), min_size=1, max_size=30)


def cells_of(texts):
    return texts.values[texts.codes].tolist()


def read(table, wanted):
    chunks = list(table.chunks(wanted))
    return joined_chunks(chunks, wanted), chunks


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([",", "\t", ";"]), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_wrote_is_what_is_read(tmp_path_factory, rows, separator, header, end):
    path = tmp_path_factory.mktemp("text") / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([["x", "y", "n"]] * header)
    writer.writerows([[x, y, "" if n is None else repr(n)] for x, y, n in rows])
    path.write_bytes(text.getvalue().encode())
    wanted = Wanted(frozenset({"x", "y"}), frozenset({"n"}), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_text, "CHUNK_ROWS", 7)
        chunk, chunks = read(TextFile(path, None if header else ("x", "y", "n"), separator), wanted)
    assert [part.size for part in chunks][:-1] == [7] * (len(chunks) - 1)
    assert cells_of(chunk.texts["x"]) == [x for x, _, _ in rows]
    assert cells_of(chunk.texts["y"]) == [y for _, y, _ in rows]
    expected = [np.nan if n is None else n for _, _, n in rows]
    np.testing.assert_allclose(chunk.numbers["n"], expected, rtol=1e-12)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "cc"]), max_size=4), min_size=1), st.sampled_from("| ,"))
def test_lists_are_taken_apart_at_their_separator(rows, separator):
    texts = np.array([separator.join(row) for row in rows], object)
    values, codes = np.unique(texts, return_inverse=True)
    lists = Lists.split(Texts(codes.astype(np.int32), values), separator)
    flat = cells_of(lists.texts)
    assert [flat[a:b] for a, b in pairwise(lists.offsets)] == rows
    index = np.array([0, -1, len(rows) - 1])
    some = lists.take(index)
    flat = cells_of(some.texts)
    assert [flat[a:b] for a, b in pairwise(some.offsets)] == [rows[0], [], rows[-1]]


def test_the_place_of_a_row_counts_lines_that_quotes_hold_and_blank_ones(tmp_path):
    (tmp_path / "t.csv").write_text('x,y\n"a\nb",1\n\nc,2\n')
    table = TextFile(tmp_path / "t.csv")
    assert [table.location(row) for row in (-1, 0, 1)] == [f"{tmp_path}/t.csv{line}" for line in ("", ":2", ":5")]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    with pytest.raises(DataError, match=r"the file is empty"):
        TextFile(tmp_path / name).header()


def test_a_broken_gzip_file_and_one_that_is_not_there(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(DataError, match="broken gzip file"):
        TextFile(tmp_path / "t.csv.gz").header()
    with pytest.raises(DataError, match=r"none.csv: cannot be read \(No such file"):
        TextFile(tmp_path / "none.csv").header()
