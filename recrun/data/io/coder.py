"""Texts as numbers, in the order in which they come."""

from __future__ import annotations

from itertools import repeat

import numpy as np

from recrun.data.types import Ids, Int32


class Coder:
    """Numbers distinct texts; a dictionary step for each text of a chunk, not for each row."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def __call__(self, values: Ids, codes: Int32) -> Int32:
        """Codes over all texts so far of cells `values[codes]`."""
        number = np.fromiter(map(self.codes.get, values, repeat(-1)), np.int32, len(values))
        new = np.flatnonzero(number < 0)
        number[new] = [self.codes.setdefault(text, len(self.codes)) for text in values[new].tolist()]
        return number[codes]

    def values(self) -> Ids:
        """Texts by code, objects."""
        found = np.empty(len(self.codes), object)
        found[:] = list(self.codes)
        return found
