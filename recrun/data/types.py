"""The array types that data code shares, the codes of the splits, and ids as text."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int8: TypeAlias = NDArray[np.int8]
Int32: TypeAlias = NDArray[np.int32]
Int64: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Float: TypeAlias = NDArray[np.float64]
Times: TypeAlias = NDArray[Any]  # float64 seconds, or int32 ranks
Ids: TypeAlias = NDArray[Any]  # int64, unicode or objects

TRAIN, VALID, TEST = 0, 1, 2  # of files that are split already, and what a split assigns
INPUT = 3  # what a split also assigns: shown to the model at evaluation, never trained on (fold-in)
DROPPED = -1


def as_text(ids: Ids) -> Ids:
    """Ids as text, in an array of objects: one long id costs no more than itself."""
    texts = np.empty(len(ids), object)
    texts[:] = [str(name) for name in ids.tolist()]
    return texts
