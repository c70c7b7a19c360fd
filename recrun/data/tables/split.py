"""Which rows of a table are trained on, validated with and tested with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events.split_rules import temporal_split
from recrun.data.tables.column_store import ColumnStore
from recrun.data.types import TEST, TRAIN, VALID, Int8
from recrun.errors import ConfigError, DataError

TableSplitName: TypeAlias = Literal["random", "temporal", "column", "provided"]

PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True)
class TableSplit:
    """How rows are divided: the constructor arguments of `Table` of the same names; "test" is for testing with all."""

    name: TableSplitName | Literal["test"]
    valid_fraction: float
    test_fraction: float
    seed: int

    @property
    def is_stated(self) -> bool:
        """Whether the data say what their rows are for, not these settings."""
        return self.name in ("column", "provided")

    def refuse_contradictions(self, split_column: str | None, time_column: str | None) -> None:
        """Raises ConfigError for keys that do not go with each other."""
        for key, value, split in (("split_column", split_column, "column"), ("time_column", time_column, "temporal")):
            if value is not None and self.name != split:
                raise ConfigError(f"dataset.{key}={value} does nothing with split={self.name}; it is for split={split}")
        if self.name == "column" and split_column is None:
            raise ConfigError("dataset.split=column needs dataset.split_column, which says train, valid or test")
        if self.valid_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"dataset.valid_fraction={self.valid_fraction} and test_fraction={self.test_fraction} leave no rows "
                "to train on; their sum must be less than 1"
            )

    def __call__(self, rows: ColumnStore) -> Int8:
        """The split of each row, int8 [R].

        Raises:
            DataError: Nothing is left to train on.
        """
        if self.name == "test":
            return np.full(len(rows), TEST, np.int8)
        part = self._parts(rows)
        if not (part == TRAIN).any():
            raise DataError(f"no rows to train on: dataset.split={self.name} of {len(rows)} rows")
        return part

    def _parts(self, rows: ColumnStore) -> Int8:
        if self.name == "temporal":
            time = rows.flat["time"] if "time" in rows.flat else np.arange(len(rows))
            return temporal_split(time, self.valid_fraction, self.test_fraction)
        if self.name == "random":
            return random_rows(len(rows), self.valid_fraction, self.test_fraction, self.seed)
        part = np.array(rows.flat["part"])
        train = np.flatnonzero(part == TRAIN)
        if not (part == VALID).any():
            part[train[random_rows(len(train), self.valid_fraction, 0.0, self.seed) == VALID]] = VALID
        return part


def random_rows(n_rows: int, valid_fraction: float, test_fraction: float, seed: int) -> Int8:
    """By a permutation of `numpy.random.default_rng(seed)`: its first rows train, the next valid, the last test."""
    order = np.random.default_rng(seed).permutation(n_rows)
    first, second = (int(n_rows * share + 1e-6) for share in (1 - valid_fraction - test_fraction, 1 - test_fraction))
    part = np.full(n_rows, TRAIN, np.int8)
    part[order[first:]] = VALID
    part[order[second:]] = TEST
    return part
