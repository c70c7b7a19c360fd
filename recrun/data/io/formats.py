"""What reads a file, by its ending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recrun.data.io import memory
from recrun.data.io.chunks import DataFile
from recrun.data.io.files import ALLOWED, TEXT_ENDINGS, compression, kind
from recrun.data.io.npz import ArrayFile
from recrun.data.io.parquet import ParquetFile
from recrun.data.io.text import TextFile
from recrun.errors import DataError


def data_file(
    path: Path, names: Sequence[str] | None = None, separator: str | None = None, skip_blanks: bool = False
) -> DataFile:
    """A file as rows with named columns.

    Args:
        path: The file, or the name of a table in memory.
        names, separator, skip_blanks: See `TextFile`; a file for which the first two are given is text, whatever its
            ending, and so is one without an ending (train.gz).

    Raises:
        DataError: It is of no kind that can be read.
    """
    if memory.is_name(path):
        return memory.held(path).called(names)  # type: ignore[no-any-return]  # a MemoryTable
    if kind(path) == ".parquet" and not compression(path):
        return ParquetFile(path)
    if kind(path) == ".npz" and not compression(path):
        return ArrayFile(path)
    if kind(path) in ("", *TEXT_ENDINGS) or names is not None or separator is not None:
        return TextFile(path, None if names is None else tuple(names), separator, skip_blanks)
    raise DataError(f"{path}: unknown kind of file; allowed endings are {ALLOWED}")
