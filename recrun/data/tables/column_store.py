"""Columns of fixed width on disk: written by appending, read through memory maps, a batch taken by row numbers."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import numpy as np

from recrun.data.ragged import expand
from recrun.data.types import Int64

Array: TypeAlias = np.ndarray
Ragged: TypeAlias = tuple[Int64, Array]  # offsets [R + 1] and entries

LAYOUT = "layout.json"


@dataclass(frozen=True)
class ColumnStore:
    """R rows.

    Attributes:
        flat: Arrays [R, …] by name.
        lists: Offsets and entries by name; the offsets may begin above 0, then they count from another column's start.
        maps: The memory maps behind the arrays, if there are any.
    """

    flat: Mapping[str, Array]
    lists: Mapping[str, Ragged] = field(default_factory=dict)
    maps: Sequence[mmap.mmap] = ()

    def __len__(self) -> int:
        return len(next(iter(self.flat.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        ragged = (array for pair in self.lists.values() for array in pair)
        return sum(array.nbytes for array in (*self.flat.values(), *ragged))

    def slice(self, begin: int, end: int) -> ColumnStore:
        """Rows `begin` to `end`, without copying."""
        lists = {
            name: (offsets[begin : end + 1] - offsets[begin], entries[offsets[begin] : offsets[end]])
            for name, (offsets, entries) in self.lists.items()
        }
        return ColumnStore({name: array[begin:end] for name, array in self.flat.items()}, lists)

    def take(self, index: Int64) -> ColumnStore:
        """The rows at `index` [B], in memory."""
        lists = {}
        for name, (offsets, entries) in self.lists.items():
            entry, starts = expand(offsets, index)
            lists[name] = (starts, entries.take(entry))
        return ColumnStore({name: array.take(index, axis=0) for name, array in self.flat.items()}, lists)

    def copy(self) -> ColumnStore:
        """The same in memory."""
        lists = {name: (np.array(offsets), np.array(entries)) for name, (offsets, entries) in self.lists.items()}
        return ColumnStore({name: np.array(array) for name, array in self.flat.items()}, lists)

    def release(self) -> None:
        """Lets go of the pages that were read through the maps; the next access reads them again."""
        for pages in self.maps:
            pages.madvise(mmap.MADV_DONTNEED)


def concat(parts: Sequence[ColumnStore]) -> ColumnStore:
    """One after another, in memory."""
    first = parts[0]
    flat = {name: np.concatenate([part.flat[name] for part in parts]) for name in first.flat}
    lists = {}
    for name in first.lists:
        lengths = np.concatenate([np.diff(part.lists[name][0]) for part in parts])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        lists[name] = (offsets, np.concatenate([part.lists[name][1] for part in parts]))
    return ColumnStore(flat, lists)


def stacked(columns: list[Any], size: int, dtype: Any) -> np.ndarray:
    """Columns side by side, [R, W]."""
    out = np.empty((size, len(columns)), dtype)
    for index, values in enumerate(columns):
        out[:, index] = values
    return out


class Writer(AbstractContextManager["Writer"]):
    """Appends rows to the files of a folder; its `layout.json` is written at the end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.files: dict[str, IO[bytes]] = {}
        self.layout: dict[str, Any] = {}
        self.ends: dict[str, int] = {}

    def append(self, columns: ColumnStore) -> None:
        """Rows with the same columns each time."""
        for name, array in columns.flat.items():
            self._write(name, array)
        for number, (name, (offsets, entries)) in enumerate(columns.lists.items()):
            end = self.ends.setdefault(name, 0)
            self._write(f"list{number}.ends", offsets[1:] + end, of=name)
            self._write(f"list{number}.entries", entries, of=name)
            self.ends[name] = end + int(offsets[-1])

    def _write(self, file: str, array: Array, of: str | None = None) -> None:
        if file not in self.files:
            self.files[file] = (self.folder / f"{file}.bin").open("wb")
            self.layout[file] = {"dtype": array.dtype.str, "shape": [0, *array.shape[1:]], "of": of}
        self.layout[file]["shape"][0] += len(array)
        self.files[file].write(np.ascontiguousarray(array).tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files.values():
            file.close()
        (self.folder / LAYOUT).write_text(json.dumps(self.layout))


def read_columns(folder: Path) -> ColumnStore:
    """What a `Writer` wrote, mapped into memory."""
    layout = json.loads((folder / LAYOUT).read_text())
    maps: list[mmap.mmap] = []
    arrays = {name: _mapped(folder / f"{name}.bin", about, maps) for name, about in layout.items()}
    flat = {name: array for name, array in arrays.items() if layout[name]["of"] is None}
    lists = {}
    for name, about in layout.items():
        if about["of"] is not None and name.endswith(".ends"):
            offsets = np.concatenate([[0], arrays[name]])
            lists[about["of"]] = (offsets, arrays[name.replace(".ends", ".entries")])
    return ColumnStore(flat, lists, maps)


def _mapped(path: Path, about: Mapping[str, Any], maps: list[mmap.mmap]) -> Array:
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    if not prod(shape):
        return np.empty(shape, dtype)
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    maps.append(pages)
    return np.frombuffer(pages, dtype).reshape(shape)
