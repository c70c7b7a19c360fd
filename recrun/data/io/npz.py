"""Files of numpy arrays, and of scipy's sparse matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.arrays import chunks_of
from recrun.data.io.chunks import Chunk, Wanted
from recrun.errors import DataError
from recrun.runtime.run_files import DAMAGED


@dataclass(frozen=True)
class ArrayFile:
    """A .npz file: an array [R] is a column of its name, an array [R, W] is the columns name0, name1, ….

    Arrays of another length than the most are left out. A matrix [users, items] of `scipy.sparse.save_npz` has the
    columns user and item, the indices, and rating. All is in memory as a whole while it is read.
    """

    path: Path

    def header(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The wanted columns, some rows at a time.

        Raises:
            DataError: A cell cannot be used; names row and column.
            NotIntegers: An id that is wanted as an integer is none.
        """
        return chunks_of(self._columns, wanted, self)

    def location(self, row: int) -> str:
        """The file and number of a row; the file alone below 0."""
        return f"{self.path}: row {row + 1}" if row >= 0 else str(self.path)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        try:
            with self.path.open("rb") as file:
                stored = np.load(file, allow_pickle=False)
                if not isinstance(stored, np.lib.npyio.NpzFile):
                    raise ValueError("it holds a single array, without a name")
                with stored:
                    if {"format", "shape", "data"} <= set(stored.files):
                        return self._matrix()
                    every = ((name, stored[name]) for name in stored.files)
                    arrays = {name: array for name, array in every if array.ndim in (1, 2)}
        except DAMAGED as error:
            raise DataError(f"{self.path}: not a .npz file of plain arrays ({error})") from None
        lengths = [len(array) for array in arrays.values()]
        rows = max(set(lengths), key=lengths.count, default=0)
        columns: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            if len(array) == rows:
                own = {name: array} if array.ndim == 1 else {f"{name}{at}": x for at, x in enumerate(array.T)}
                twice = next((name for name in own if name in columns), None)
                if twice is not None:
                    raise DataError(f"{self.path}: two columns are called {twice!r}; rename one")
                columns |= own
        return columns

    def _matrix(self) -> dict[str, np.ndarray]:
        import scipy.sparse as sp

        matrix: Any = sp.coo_array(sp.load_npz(self.path))
        return {"user": matrix.row, "item": matrix.col, "rating": matrix.data}
