"""Where texts stand in a list of known ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 200_000  # texts, below which the import of pandas takes longer than its index saves


def positions(texts: NDArray[Any], known: NDArray[Any] | Sequence[str]) -> NDArray[np.int64]:
    """The index of each text among the known ones, which are distinct; -1 where it is not there."""
    if len(texts) + len(known) > FEW:
        import pandas as pd

        return pd.Index(known, dtype=object).get_indexer(pd.Index(texts, dtype=object)).astype(np.int64)
    names = known.tolist() if isinstance(known, np.ndarray) else known
    index = dict(zip(names, range(len(names)), strict=True))
    return np.fromiter((index.get(text, -1) for text in texts.tolist()), np.int64, len(texts))
