"""Files of interactions to rows: text (recrun.data.io.text), Parquet and scipy sparse matrices."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.events.rows import Ids, Int32, Rows
from recrun.data.io.columns import Columns, Role
from recrun.data.io.text import TextIdsError, seconds, text_chunks
from recrun.errors import DataError

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".inter", ".dat", ".data")
ENDINGS = (*TEXT_ENDINGS, *(f"{ending}.gz" for ending in TEXT_ENDINGS), ".parquet", ".npz")

Chunk = dict[Role, Any]
Chunks = Callable[[Path, Columns, Sequence[Role], bool], Iterator[Chunk]]


def read_rows(
    files: Mapping[int | None, Path], columns: Columns, threshold: float | None = None, with_time: bool = False
) -> Rows:
    """Reads one file, or the files of the parts, into one set of rows.

    Ids that are all plain integers are kept as int64, others as text. Rows rated below `threshold` are dropped
    while reading, so that they cost no memory.

    Args:
        files: Path by part (TRAIN, VALID, TEST); the key None says that the rows have no part yet.
        columns: Names of the columns.
        threshold: Least rating that counts as an interaction; None = all rows count.
        with_time: Whether to read the time.

    Raises:
        DataError: A file cannot be used; names the file and the line.
    """
    readers = {path: _reader(path) for path in files.values()}
    needed: list[Role] = ["user", "item"]
    needed += ["rating"] if threshold is not None else []
    needed += ["time"] if with_time else []
    for text_ids in (False, True):
        collector = _Collector(threshold, text_ids)
        try:
            for part, path in files.items():
                collector.add(path, part, readers[path](path, columns, needed, text_ids))
        except TextIdsError:
            continue
        return collector.rows()
    raise AssertionError("reading ids as text cannot ask for reading them as text")


def _reader(path: Path) -> Chunks:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _parquet_chunks
    if name.endswith(".npz"):
        return _matrix_chunks
    if name.removesuffix(".gz").endswith(TEXT_ENDINGS):
        return text_chunks
    raise DataError(f"{path}: unknown kind of file; allowed endings are {', '.join(ENDINGS)}")


class _Collector:
    """Puts chunks together: ids become indices at once, so that a row costs 8 bytes, 16 with its time."""

    def __init__(self, threshold: float | None, text_ids: bool) -> None:
        self.threshold, self.text_ids = threshold, text_ids
        self.index: dict[Role, dict[Any, int]] = {"user": {}, "item": {}}
        self.columns: dict[str, list[Any]] = {"user": [], "item": [], "time": [], "part": []}
        self.read = self.below = 0

    def add(self, path: Path, part: int | None, chunks: Iterable[Chunk]) -> None:
        """Takes all the rows of a file."""
        before = self.read
        for chunk in chunks:
            self._take(chunk, part)
        if self.read == before:
            raise DataError(f"{path}: no rows behind the header")

    def _take(self, chunk: Chunk, part: int | None) -> None:
        self.read += len(chunk["user"])
        if self.threshold is not None:
            kept = chunk["rating"] >= self.threshold
            self.below += int(np.count_nonzero(~kept))
            chunk = {role: values[kept] for role, values in chunk.items()}
        for role in ("user", "item"):
            self.columns[role].append(self._indices(role, chunk[role]))
        if "time" in chunk:
            self.columns["time"].append(chunk["time"])
        if part is not None:
            self.columns["part"].append(np.full(len(chunk["user"]), part, np.int8))

    def _indices(self, role: Role, ids: Any) -> Int32:
        """Index of each id in order of first appearance; one dictionary step per distinct id of the chunk."""
        import pandas as pd

        codes, distinct = pd.factorize(ids)
        index = self.index[role]
        numbers = (index.setdefault(i, len(index)) for i in distinct.tolist())
        return np.fromiter(numbers, np.int32, len(distinct))[codes]

    def rows(self) -> Rows:
        """Everything that was added, under sorted vocabularies."""
        user, users = _sorted_ids(self._joined("user"), self.index["user"])
        item, items = _sorted_ids(self._joined("item"), self.index["item"])
        time, part = self._joined("time"), self._joined("part")
        counts = {"rows_read": self.read, "below_threshold": self.below}
        return Rows(user, item, users, items, time, part, counts)

    def _joined(self, name: str) -> Any:
        arrays = self.columns.pop(name)
        return np.concatenate(arrays) if arrays else None


def _sorted_ids(codes: Int32, index: Mapping[Any, int]) -> tuple[Int32, Ids]:
    ids = _as_integers(np.array(list(index))) if index else np.zeros(0, np.int64)
    order = np.argsort(ids)
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    return rank[codes], ids[order]


def _as_integers(ids: Ids) -> Ids:
    """Text ids as integers if nothing is lost by it, so that they sort by value."""
    if ids.dtype.kind != "U":
        return ids
    try:
        numbers = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if (numbers.astype(ids.dtype) == ids).all() else ids


def _parquet_chunks(path: Path, columns: Columns, needed: Sequence[Role], text_ids: bool) -> Iterator[Chunk]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'recrun[parquet]'") from None
    try:
        with pq.ParquetFile(path) as file:
            places = columns.find(file.schema_arrow.names, path, needed)
            names = {role: file.schema_arrow.names[place] for role, place in places.items()}
            begin = 1
            for batch in file.iter_batches(1 << 19, columns=list(names.values())):
                chunk = {role: _arrow_values(batch[name], role, path, begin, text_ids) for role, name in names.items()}
                if "time" in chunk and not _is_date(batch[names["time"]]):
                    chunk["time"] = chunk["time"] * columns.time_unit
                yield chunk
                begin += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from None


def _arrow_values(column: Any, role: Role, path: Path, begin: int, text_ids: bool) -> Any:
    """Values of a column as in `text_chunks`; `begin` is the number of its first row."""
    import pyarrow as pa

    if role == "time" and _is_date(column):
        array = seconds(column.cast(pa.string()).to_numpy(zero_copy_only=False))
        bad = ~np.isfinite(array) | column.is_null().to_numpy(zero_copy_only=False)
    elif role in ("rating", "time"):
        array = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        bad = ~np.isfinite(array)
    elif text_ids:
        array = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
        bad = array == ""
    elif pa.types.is_integer(column.type):
        bad = column.is_null().to_numpy(zero_copy_only=False)
        array = column.cast(pa.int64()).fill_null(0).to_numpy()
    else:
        raise TextIdsError
    if bad.any():
        row = begin + int(np.flatnonzero(bad)[0])
        raise DataError(f"{path}: row {row}: the {role} is missing or not a finite number")
    return array


def _is_date(column: Any) -> bool:
    import pyarrow as pa

    return not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _matrix_chunks(path: Path, columns: Columns, needed: Sequence[Role], text_ids: bool) -> Iterator[Chunk]:
    """A matrix [users, items] as scipy.sparse.save_npz writes it; the ids are the indices, the values ratings."""
    import scipy.sparse as sp

    if "time" in needed:
        raise DataError(f"{path}: a matrix has no time; this dataset.split needs a file with a time column")
    try:
        matrix: Any = sp.coo_array(sp.load_npz(path))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a sparse matrix of scipy.sparse.save_npz ({error})") from None
    if not np.isfinite(matrix.data).all():
        raise DataError(f"{path}: the matrix holds values that are not finite")
    ids = {"user": matrix.row.astype(np.int64), "item": matrix.col.astype(np.int64)}
    if text_ids:
        ids = {role: values.astype(str).astype(object) for role, values in ids.items()}
    yield {"user": ids["user"], "item": ids["item"], "rating": matrix.data}
