"""Interaction matrices of others as events: CSR matrices, RecPack's InteractionMatrix, DataFrames."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.columns import Columns
from recrun.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Events:
    """N events, sorted by user and, within a user, in order.

    Attributes:
        user, item: Row and column of each in the matrix, int64 [N].
        time: Seconds or any other increasing numbers, float64 [N]; None where the order alone is known.
        shape: Users and items of the matrix.
        users, items: Ids of rows and columns where they are not their numbers: those of a DataFrame, sorted.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None
    shape: tuple[int, int]
    users: np.ndarray | None = None
    items: np.ndarray | None = None

    def offsets(self) -> np.ndarray:
        """Where each user's events begin and end, int64 [users + 1]."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.user, minlength=self.shape[0]))])


def events_of(X: Any, name: str = "X", items: np.ndarray | None = None, ordered: bool = True) -> Events:
    """The events of a matrix or a table.

    Args:
        X: A scipy sparse matrix [users, items], whose values are times where they differ; RecPack's InteractionMatrix
            with timestamps; or a DataFrame with user (or session), item and time columns.
        name: What to call it in messages.
        ordered: Whether the order of events matters: without times it is that of the columns, with a warning.
        items: Of a DataFrame, the known ids in the order of the columns; others are left out, with a warning.

    Raises:
        ConfigError: It is none of these, or has no times where it must.
        DataError: It has no event, or a value is no time.
    """
    if hasattr(X, "tocoo"):
        return of_matrix(X.tocoo(), name, ordered)
    if hasattr(X, "copy_df") or hasattr(X, "_df"):  # RecPack's InteractionMatrix
        frame = X.copy_df() if hasattr(X, "copy_df") else X._df
        if "ts" not in frame:
            raise ConfigError(f"{name} is an InteractionMatrix without timestamps: the order of events is not known")
        user, item, time = (frame[column].to_numpy() for column in ("uid", "iid", "ts"))
        return in_order(user, item, time, X.shape, name)
    if hasattr(X, "columns") and hasattr(X, "shape"):
        return of_frame(X, name, items)
    raise ConfigError(
        f"{name} is a {type(X).__name__}: expected a scipy sparse matrix [users, items], an InteractionMatrix or a "
        "DataFrame with user, item and time columns"
    )


def of_matrix(matrix: Any, name: str, ordered: bool) -> Events:
    """Of a sparse matrix. Equal values say nothing of the order: then it is that of the columns."""
    values = np.asarray(matrix.data, np.float64)
    if len(values) and not (np.isfinite(values) & (values > 0)).all():
        raise DataError(f"{name} has values that are not above 0: they are times, or all equal")
    if len(values) and (values == values[0]).all():
        if ordered:
            logger.warning("%s has equal values, not times: the order of the columns is taken for that of events", name)
        return in_order(matrix.row, matrix.col, None, matrix.shape, name)
    return in_order(matrix.row, matrix.col, values, matrix.shape, name)


def of_frame(frame: Any, name: str, known: np.ndarray | None) -> Events:
    """Of a DataFrame of pandas or polars; ids may be anything."""
    roles = Columns().find(list(map(str, frame.columns)), Path(name))
    if "time" not in roles:
        raise ConfigError(f"{name} has no time column: the order of events is not known")
    unit = roles["session"] if "session" in roles else roles["user"]
    users, user = np.unique(frame[unit].to_numpy(), return_inverse=True)
    ids, item = np.unique(frame[roles["item"]].to_numpy(), return_inverse=True)
    time = frame[roles["time"]].to_numpy()
    seconds = time.astype("datetime64[us]").astype(np.float64) / 1e6 if time.dtype.kind == "M" else time
    if known is not None:
        place = np.searchsorted(known, ids).clip(max=len(known) - 1)
        number = np.where(known[place] == ids, place, -1)[item]
        if (number < 0).any():
            logger.warning("%s: %d events of unknown items are ignored", name, int((number < 0).sum()))
        kept = number >= 0
        user, item, seconds, ids = user[kept], number[kept], seconds[kept], known
    return in_order(user, item, seconds, (len(users), len(ids)), name, (users, ids))


def in_order(
    user: Any, item: Any, time: Any, shape: Sequence[int], name: str, ids: tuple[Any, Any] = (None, None)
) -> Events:
    """Events sorted by user, then time, ties as they come; without times by column."""
    user, item = np.asarray(user, np.int64), np.asarray(item, np.int64)
    if not len(user):
        raise DataError(f"{name} has no events")
    order = np.lexsort((item if time is None else np.asarray(time, np.float64), user))
    seconds = None if time is None else np.asarray(time, np.float64)[order]
    return Events(user[order], item[order], seconds, (int(shape[0]), int(shape[1])), *ids)
