"""Files of an event log to arrays: ids become indices at once, so that an event costs some 20 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from recrun.data.io.columns import ID_ROLES, Columns, Role
from recrun.data.io.formats import reader
from recrun.data.io.raw_events import RawEvents
from recrun.data.io.sequences import sequence_chunks
from recrun.data.io.text import TextIdsError
from recrun.data.types import Ids, Int32
from recrun.errors import DataError

Chunk: TypeAlias = dict[Role, Any]


def read_events(
    files: Sequence[tuple[int | None, Path]], columns: Columns, threshold: float | None = None, form: str = "auto"
) -> RawEvents:
    """Reads files, one after another, into one log.

    Ids that are all plain integers are kept as int64, others as text. Events rated below `threshold` are dropped while
    reading, so that they cost no memory.

    Args:
        files: Each with TRAIN, VALID or TEST, or None where the log is not split.
        columns: Names of the columns.
        threshold: Least rating that counts; None = all.
        form: "auto" or "sequences", see `EventFiles`.

    Raises:
        DataError: A file cannot be used; names the file and the line.
    """
    for text_ids in (False, True):
        collector = _Collector(threshold, text_ids)
        try:
            for split, path in files:
                if form == "sequences":
                    collector.add(path, split, sequence_chunks(path, split is not None, collector.counts))
                else:
                    collector.add(path, split, reader(path)(path, columns, threshold is not None, text_ids))
        except TextIdsError:
            continue
        return collector.events()
    raise AssertionError("reading ids as text cannot ask for reading them as text")


class _Collector:
    """Puts chunks together."""

    def __init__(self, threshold: float | None, text_ids: bool) -> None:
        self.threshold, self.text_ids = threshold, text_ids
        self.index: dict[Role, dict[Any, int]] = {}
        self.columns: dict[str, list[Any]] = {}
        self.counts = {"rows_read": 0, "below_threshold": 0}
        self.roles: tuple[set[Role], Path] | None = None

    def add(self, path: Path, split: int | None, chunks: Iterable[Chunk]) -> None:
        """Takes all the rows of a file."""
        before = self.counts["rows_read"]
        for chunk in chunks:
            self._require_roles(set(chunk), path)
            self._take(chunk, split)
        if self.counts["rows_read"] == before:
            raise DataError(f"{path}: no rows behind the header")

    def _require_roles(self, roles: set[Role], path: Path) -> None:
        first, where = self.roles = self.roles or (roles, path)
        if first != roles:
            role = min(first ^ roles)
            has, lacks = (path, where) if role in roles else (where, path)
            raise DataError(
                f"{lacks}: no {role} column, but {has.name} has one; dataset.{role}_column=none leaves it unread"
            )

    def _take(self, chunk: Chunk, split: int | None) -> None:
        self.counts["rows_read"] += len(chunk["item"])
        if self.threshold is not None:
            kept = chunk["rating"] >= self.threshold
            self.counts["below_threshold"] += int(np.count_nonzero(~kept))
            chunk = {role: values[kept] for role, values in chunk.items()}
        for role in ID_ROLES:
            if role in chunk:
                self._keep(role, self._indices(role, chunk[role]))
        if "time" in chunk:
            self._keep("time", chunk["time"])
        if split is not None:
            self._keep("part", np.full(len(chunk["item"]), split, np.int8))

    def _keep(self, name: str, values: Any) -> None:
        self.columns.setdefault(name, []).append(values)

    def _indices(self, role: Role, ids: Any) -> Int32:
        """Index of each id in order of first appearance; one dictionary step per distinct id of the chunk."""
        import pandas as pd

        codes, distinct = pd.factorize(ids)
        index = self.index.setdefault(role, {})
        numbers = (index.setdefault(i, len(index)) for i in distinct.tolist())
        return np.fromiter(numbers, np.int32, len(distinct))[codes]

    def events(self) -> RawEvents:
        """Everything that was added, under sorted ids."""
        ids = {role: _sorted_ids(self._joined(role), self.index[role]) for role in self.index}
        user, users = ids.get("user", (None, None))
        session, sessions = ids.get("session", (None, None))
        time, split = self._joined("time"), self._joined("part")
        return RawEvents(*ids["item"], user, users, session, sessions, time, split, self.counts)

    def _joined(self, name: str) -> Any:
        arrays = self.columns.pop(name, None)
        return None if arrays is None else np.concatenate(arrays)


def _sorted_ids(codes: Int32, index: Mapping[Any, int]) -> tuple[Int32, Ids]:
    ids = _as_integers(list(index))
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    return rank[codes], ids[order]


def _as_integers(ids: list[Any]) -> Ids:
    """Ids as int64 if nothing is lost by it, so that they sort by value; else objects that are text."""
    try:
        numbers = np.array([int(i) for i in ids], np.int64)
    except (ValueError, OverflowError):
        numbers = np.zeros(0, np.int64)
    if len(numbers) == len(ids) and all(map(str.__eq__, map(str, numbers.tolist()), map(str, ids))):
        return numbers
    texts = np.empty(len(ids), object)
    texts[:] = ids
    return texts
