"""Formats of event logs."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.columns import Columns, Role
from recrun.data.io.files import ENDINGS, TEXT_ENDINGS
from recrun.data.io.text import SECONDS, TextIdsError, seconds, text_chunks
from recrun.errors import DataError

Chunk = dict[Role, Any]
Chunks = Callable[[Path, Columns, bool, bool], Iterator[Chunk]]


def reader(path: Path) -> Chunks:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _parquet_chunks
    if name.endswith(".npz"):
        return _matrix_chunks
    if name.removesuffix(".gz").endswith(TEXT_ENDINGS):
        return text_chunks
    raise DataError(f"{path}: unknown kind of file; allowed endings are {', '.join(ENDINGS)}")


def _parquet_chunks(path: Path, columns: Columns, rated: bool, text_ids: bool) -> Iterator[Chunk]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'recrun[parquet]'") from None
    try:
        with pq.ParquetFile(path) as file:
            names = columns.find(file.schema_arrow.names, path, rated)
            begin = 1
            for batch in file.iter_batches(1 << 19, columns=list(names.values())):
                chunk = {role: _arrow_values(batch[name], role, path, begin, text_ids) for role, name in names.items()}
                if "time" in chunk and not _is_date(batch[names["time"]]):
                    chunk["time"] = chunk["time"] * SECONDS[columns.time_unit or "s"]
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


def _matrix_chunks(path: Path, columns: Columns, rated: bool, text_ids: bool) -> Iterator[Chunk]:
    """A matrix [users, items] as scipy.sparse.save_npz writes it; the ids are the indices, the values ratings."""
    import scipy.sparse as sp

    try:
        matrix: Any = sp.coo_array(sp.load_npz(path))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a sparse matrix of scipy.sparse.save_npz ({error})") from None
    if not np.isfinite(matrix.data).all():
        raise DataError(f"{path}: the matrix holds values that are not finite")
    ids = {"user": matrix.row.astype(np.int64), "item": matrix.col.astype(np.int64)}
    if text_ids:
        ids = {role: values.astype(str).astype(object) for role, values in ids.items()}
    yield {"user": ids["user"], "item": ids["item"], **({"rating": matrix.data} if rated else {})}
