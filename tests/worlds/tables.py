"""Small tables for tests."""

import numpy as np

from recrun.data.io.chunks import Chunk, Lists, Texts
from recrun.data.tables.dataset import Table
from recrun.evaluation.rows import RowMetrics

CLICKS = "user,item,age,click\n" + "".join(f"u{n % 7},i{n % 5},{n % 4}.5,{n % 2}\n" for n in range(50))


def table(folder, text=CLICKS, name="t.csv", **keys):
    """A table from a text file; by default users and items with a click."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text)
    keys = {"sparse": ["user", "item"], "tasks": {"click": None}, **keys}
    return Table(RowMetrics(), path=str(path), **keys)


def texts(values):
    """Cells of text from a list of them."""
    distinct, codes = np.unique(np.array(values, object), return_inverse=True)
    return Texts(codes.astype(np.int32), distinct)


class Given:
    """A source with columns that are given: lists of texts, of lists of texts, or of numbers."""

    def __init__(self, columns, chunk=7):
        self.columns, self.chunk = columns, chunk

    def identity(self):
        return {"given": repr(self.columns)}

    def header(self):
        return list(self.columns)

    def location(self, row):
        return f"row {row}"

    def chunks(self, wanted):
        size = len(next(iter(self.columns.values())))
        for begin in range(0, size, self.chunk):
            some = {name: values[begin : begin + self.chunk] for name, values in self.columns.items()}
            yield Chunk(
                min(self.chunk, size - begin),
                {name: texts(some[name]) for name in wanted.texts},
                {name: lists(some[name]) for name in wanted.lists},
                {name: np.array(some[name], np.float64) for name in wanted.numbers},
            )


def lists(rows):
    """Cells of lists of text."""
    offsets = np.cumsum([0, *map(len, rows)])
    return Lists(offsets, texts([text for row in rows for text in row]))


def rows_of(data, split, size=1000):
    """All of a part in one dict of arrays, in the order in which it is judged."""
    (batch,) = data.eval_batches(split, size)
    return {name: values.numpy() for name, values in batch.items()}


def decoded(data, ids):
    """Texts of rows of the table of ids; None where training did not know them."""
    lines = data.vocabulary()["ids"]
    return [lines[row].split("\t")[1] if "\t" in lines[row] else None for row in ids]
