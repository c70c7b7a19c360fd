"""Files of every format, damaged: each reader reads them or says in one line what is wrong."""

import io
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from worlds.fuzzing import damaged, fuzzed, one_line_or_fine

from recrun.data.events.side_reader import read_side
from recrun.data.io.chunks import Wanted, joined_chunks
from recrun.data.io.columns import Columns
from recrun.data.io.event_files import EventFiles
from recrun.data.io.recommendations import read_recommendations
from recrun.data.news.files import read_behaviors, read_news
from recrun.data.tables.files import TableFiles, Where

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = [("u1", "7", "4", "1400000000", "a|b"), ("ü", "8", "0.5", "1400000001.5", ""), ('q"x', "7", "1e1", "3", "x y")]
HEAD = ("user_id", "item_id", "rating", "timestamp", "tags")


def text(separator, head=HEAD):
    return "".join(separator.join(cells) + "\n" for cells in [head, *ROWS]).encode()


def saved(save):
    out = io.BytesIO()
    save(out)
    return out.getvalue()


def zipped(content):
    def save(out):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner", content)

    return saved(save)


COLUMNS = {name: list(cells) for name, cells in zip(HEAD, zip(*ROWS, strict=True), strict=True)}
TABLE = pa.table({**COLUMNS, "tags": [["a"], [], ["x", "y"]], "rating": [4, 0.5, 10.0]})
FILES = {
    "t.csv": text(","),
    "t.tsv": text("\t"),
    "t.txt": text(";"),
    "t.inter": text("\t", [f"{name}:token" for name in HEAD]),
    "t.dat": text("::")[len("::".join(HEAD)) + 1 :],
    "t.csv.gz": __import__("gzip").compress(text(","), mtime=0),
    "t.csv.bz2": __import__("bz2").compress(text(",")),
    "t.csv.xz": __import__("lzma").compress(text(",")),
    "t.csv.zip": zipped(text(",")),
    "t.parquet": saved(lambda out: pq.write_table(TABLE, out)),
    "t.npz": saved(lambda out: np.savez(out, **{name: np.array(cells) for name, cells in COLUMNS.items()})),
    "deflated.npz": saved(lambda out: np.savez_compressed(out, user=np.arange(3), item=np.arange(3))),
    "matrix.npz": saved(lambda out: sp.save_npz(out, sp.csr_matrix(np.eye(3)))),
}
SEQUENCES = "u1 7 8 7\nü 8\n\nq 9 9\n".encode()
BEHAVIORS = b"1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN2-1 N1-0\n2\tU2\t11/12/2019 6:11:30 PM\t\tN1-0 N2-1\n"
NEWS = b"N1\tsports\tgolf\tA title\tAn abstract\thttps://x\t[]\t[]\nN2\tnews\tworld\tOther\t\thttps://y\t[]\t[]\n"


def log(path, threshold=None, form="auto", provided=False):
    return EventFiles(str(path), None, Columns(), threshold, provided, None, None, form).events()


def table(path):
    wanted = Wanted(
        texts=frozenset({"user_id"}), numbers=frozenset({"rating"}), lists={"tags": "|"}, times=frozenset({"timestamp"})
    )
    files = TableFiles(Where(str(path)))
    if wanted.columns <= set(files.header()):  # else refused by name before
        joined_chunks(list(files.chunks(wanted)), wanted)


READERS = {
    "log": log,
    "rated": lambda path: log(path, 0.7),
    "table": table,
    "side": lambda path: read_side(str(path), None, "item_table"),
    "lists": read_recommendations,
}


@pytest.mark.parametrize("name", FILES)
@fuzzed(12, share=0.9 / 13)
@given(st.data())
def test_files_of_every_format(tmp_path, name, data):
    content = data.draw(damaged(FILES[name]))
    path = tmp_path / name
    path.write_bytes(content)
    reader = READERS[data.draw(st.sampled_from(sorted(READERS)))]
    with one_line_or_fine(len(content)):
        reader(path)


def made_news(path):
    (path.parent / "known.tsv").write_bytes(NEWS)
    return read_news(path.parent / "known.tsv")


OTHERS = {
    "sequences.txt": (SEQUENCES, lambda path: log(path, form="sequences")),
    "behaviors.tsv": (BEHAVIORS, lambda path: read_behaviors(path, made_news(path))),
    "news.tsv": (NEWS, read_news),
}


@pytest.mark.parametrize("name", OTHERS)
@fuzzed(12, share=0.1 / 3)
@given(st.data())
def test_sequences_and_news(tmp_path, name, data):
    content, reader = OTHERS[name]
    content = data.draw(damaged(content))
    (tmp_path / name).write_bytes(content)
    with one_line_or_fine(len(content)):
        reader(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.dat"])
@pytest.mark.parametrize("what", ["a long cell", "many columns", "many distinct ids", "quotes"])
def test_memory_follows_the_size_of_the_file(tmp_path, name, what):
    separator = {"t.csv": ",", "t.tsv": "\t", "t.dat": "::"}[name]
    rows = {
        "a long cell": [("user", "item"), *(("u", str(n)) for n in range(5000)), ("x" * 3_000_000, "7")],
        "many columns": [("user", "item", *(f"c{n}" for n in range(20_000))), ("u", "i", *(["1"] * 20_000))],
        "many distinct ids": [("user", "item"), *((f"user number {n}", f"item {n}") for n in range(100_000))],
        "quotes": [("user", "item"), *(("u", '"' * (n % 7)) for n in range(100_000))],
    }[what]
    content = "".join(separator.join(cells) + "\n" for cells in rows).encode()
    (tmp_path / name).write_bytes(content)
    with one_line_or_fine(len(content)):
        log(tmp_path / name)
