"""The few array types that all kinds of data share, and the codes of a split."""

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
Ids: TypeAlias = NDArray[Any]  # int64 or text, sorted

TRAIN, VALID, TEST = 0, 1, 2
