"""Which rows of a table are trained on, validated with and tested with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.rows import TEST, TRAIN, VALID, Int8
from recrun.data.splits import temporal_split
from recrun.data.table_store import Columns
from recrun.errors import DataError

TableSplitName: TypeAlias = Literal["random", "temporal", "column", "provided"]


@dataclass(frozen=True)
class TableSplit:
    """How rows are divided; the constructor arguments of `Table` of the same names."""

    name: TableSplitName
    valid_fraction: float
    test_fraction: float
    seed: int

    def __call__(self, rows: Columns) -> Int8:
        """The part of each row, int8 [R].

        Raises:
            DataError: Nothing is left to train on.
        """
        part = self._parts(rows)
        if not (part == TRAIN).any():
            raise DataError(f"no rows to train on: split={self.name} of {len(rows)} rows")
        return part

    def _parts(self, rows: Columns) -> Int8:
        if self.name == "temporal":
            return temporal_split(rows.flat["time"], self.valid_fraction, self.test_fraction)
        if self.name != "random":
            return np.array(rows.flat["part"])
        return random_rows(len(rows), self.valid_fraction, self.test_fraction, self.seed)


def random_rows(n_rows: int, valid_fraction: float, test_fraction: float, seed: int) -> Int8:
    """By a permutation of `numpy.random.default_rng(seed)`: its first rows train, the next valid, the last test."""
    order = np.random.default_rng(seed).permutation(n_rows)
    first, second = (int(n_rows * share + 1e-6) for share in (1 - valid_fraction - test_fraction, 1 - test_fraction))
    part = np.full(n_rows, TRAIN, np.int8)
    part[order[first:]] = VALID
    part[order[second:]] = TEST
    return part
