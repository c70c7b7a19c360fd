"""What the evaluated units are like, whatever the model: how much they gave, and how popular their targets are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recrun.interfaces import Dataset
from recrun.types import Split


@dataclass(frozen=True)
class UnitProfile:
    """Activity and popularity of Q units.

    Attributes:
        ids: Of the units, as text [Q].
        activity: Events of a unit's input, int64 [Q].
        popularity: Training events of a unit's targets, in the mean over these, float64 [Q].
    """

    ids: npt.NDArray[Any]
    activity: npt.NDArray[np.int64]
    popularity: npt.NDArray[np.float64]

    def of(self, ids: npt.NDArray[Any]) -> UnitProfile | None:
        """Those of some units, in their order; None where one of them is unknown."""
        if np.array_equal(self.ids[: len(ids)], ids):
            index = np.arange(len(ids))
        else:
            known = {name: at for at, name in enumerate(self.ids.tolist())}
            index = np.array([known.get(name, -1) for name in ids.tolist()], np.int64)
        if (index < 0).any():
            return None
        return UnitProfile(ids, self.activity[index], self.popularity[index])


def profile_of(dataset: Dataset, split: Split, ids: npt.NDArray[Any]) -> UnitProfile | None:
    """Of units that were evaluated; None where the data set's evaluator says nothing of activity and popularity.

    Args:
        dataset: Its evaluator may have `profile(dataset, split)`, see `FullRanking.profile`.
        split: Whose units.
        ids: Of the units.
    """
    find = getattr(dataset.evaluator, "profile", None)
    found: UnitProfile | None = None if find is None else find(dataset, split).of(ids)
    return found
