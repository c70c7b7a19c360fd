"""Files of an event log to arrays: ids become indices at once, so that an event costs some 20 bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.io.chunks import NO_NUMBERS, Chunk, NotIntegers, Times, Wanted
from recrun.data.io.coder import Coder
from recrun.data.io.columns import ID_ROLES, Columns, Role
from recrun.data.io.formats import data_file
from recrun.data.io.numerals import is_plain_integer
from recrun.data.io.raw_events import RawEvents
from recrun.data.io.sequences import sequence_chunks
from recrun.data.io.times import seconds
from recrun.data.types import Float, Ids, Int32, Int64
from recrun.errors import DataError

TEXT_ROWS = 1 << 19  # of text at a time: many, for each costs a dictionary step per distinct id
INT32 = np.iinfo(np.int32)


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
    for integers in (True, False):
        collector = _Collector(columns, threshold, integers)
        try:
            for split, path in files:
                if form == "sequences":
                    collector.add_sequences(path, split)
                else:
                    collector.add(path, split)
        except NotIntegers:
            continue
        collector.refuse_empty(files)
        return collector.events()
    raise AssertionError("reading ids as text cannot ask for reading them as text")


class _Collector:
    """Puts files together, chunk by chunk."""

    def __init__(self, columns: Columns, threshold: float | None, integers: bool) -> None:
        self.columns, self.threshold, self.integers = columns, threshold, integers
        self.coders: dict[Role, Coder] = {}
        self.parts: dict[str, list[Any]] = {}
        self.times: list[Times] = []
        self.counts = {"rows_read": 0, "below_threshold": 0}
        self.rows: Counter[int | None] = Counter()
        self.roles: tuple[set[Role], Path] | None = None

    def add(self, path: Path, split: int | None) -> None:
        """Takes all the rows of a file."""
        file = data_file(path, self.columns.header)
        names = self.columns.find(file.header(), path, self.threshold is not None)
        self._require_roles(set(names), path)
        ids = frozenset(names[role] for role in ID_ROLES if role in names)
        wanted = Wanted(
            integers=ids if self.integers else frozenset(),
            texts=frozenset() if self.integers else ids,
            numbers=frozenset({names["rating"]} if "rating" in names else ()),
            times=frozenset({names["time"]} if "time" in names else ()),
            required=frozenset(names.values()),
            rows=None if self.integers else TEXT_ROWS,
        )
        for chunk in file.chunks(wanted):
            self._take(chunk, names, split)

    def add_sequences(self, path: Path, split: int | None) -> None:
        """Takes all the lines of a sequence file."""
        if self.threshold is not None:
            raise DataError(f"{path}: a sequence file has no ratings, which dataset.threshold needs")
        for chunk in sequence_chunks(path, split is not None, self.counts):
            self._take(chunk, {"user": "user", "item": "item"}, split)

    def refuse_empty(self, files: Sequence[tuple[int | None, Path]]) -> None:
        """Raises DataError for a split without rows, or a log without any; single files of many may be empty."""
        for split, path in files:
            if not self.rows[split]:
                raise DataError(f"{path}: no rows behind the header")

    def _require_roles(self, roles: set[Role], path: Path) -> None:
        first, where = self.roles = self.roles or (roles, path)
        if first != roles:
            role = min(first ^ roles)
            has, lacks = (path, where) if role in roles else (where, path)
            raise DataError(
                f"{lacks}: no {role} column, but {has.name} has one; dataset.{role}_column=none leaves it unread"
            )

    def _take(self, chunk: Chunk, names: Mapping[Role, str], split: int | None) -> None:
        kept: Any = slice(None)
        self.counts["rows_read"] += chunk.size
        self.rows[split] += chunk.size
        if self.threshold is not None:
            kept = chunk.numbers[names["rating"]] >= float(self.threshold)  # in the precision of the file
            self.counts["below_threshold"] += int(np.count_nonzero(~kept))
        for role in ID_ROLES:
            if role in names:
                self._keep(role, self._ids(role, chunk, names[role], kept))
        if "time" in names:
            times = chunk.times[names["time"]]
            self.times.append(Times(times.values[kept], times.dates))
        if split is not None:
            self._keep("part", np.full(len(self.parts["item"][-1]), split, np.int8))

    def _keep(self, name: str, values: Any) -> None:
        self.parts.setdefault(name, []).append(values)

    def _ids(self, role: Role, chunk: Chunk, name: str, kept: Any) -> Int32 | Int64:
        """Ids that are integers, or codes of texts in order of first appearance."""
        import pandas as pd

        if name in chunk.integers:
            ids = chunk.integers[name][kept]
            small = len(ids) and INT32.min <= ids.min() and ids.max() <= INT32.max
            kept_ids: Int32 | Int64 = ids.astype(np.int32) if small else ids
            return kept_ids
        codes, used = pd.factorize(chunk.texts[name].codes[kept])
        return self.coders.setdefault(role, Coder())(chunk.texts[name].values[used], codes)

    def events(self) -> RawEvents:
        """Everything that was added, under sorted ids."""
        ids = {role: self._sorted(role) for role in ID_ROLES if role in self.parts}
        user, users = ids.get("user", (None, None))
        session, sessions = ids.get("session", (None, None))
        return RawEvents(*ids["item"], user, users, session, sessions, self._time(), self._joined("part"), self.counts)

    def _sorted(self, role: Role) -> tuple[Int32, Ids]:
        """Index of each id, and the ids, sorted."""
        import pandas as pd

        if role in self.coders:
            return _sorted_texts(self._joined(role), self.coders.pop(role).values())
        index, ids = pd.factorize(self._joined(role), sort=True)
        return index.astype(np.int32), ids.astype(np.int64)

    def _joined(self, name: str) -> Any:
        arrays = self.parts.pop(name, None)
        return None if arrays is None else np.concatenate(arrays)

    def _time(self) -> Float | None:
        """Seconds; the unit of those that are numbers is recognised by all of them."""
        if not self.times:
            return None
        where = "the log" if self.roles is None else str(self.roles[1])
        numbers = [times.values for times in self.times if not times.dates]
        if len(numbers) == len(self.times):
            return seconds(np.concatenate(numbers), self.columns.time_unit, where)
        whole = seconds(np.concatenate([NO_NUMBERS, *numbers]), self.columns.time_unit, where)
        found = iter(np.split(whole, np.cumsum([len(part) for part in numbers])))
        return np.concatenate([times.values if times.dates else next(found) for times in self.times])


def _sorted_texts(codes: Int32, texts: Ids) -> tuple[Int32, Ids]:
    ids = _as_integers(texts)
    keys = ids.tolist()
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    return rank[codes], ids[order]


def _as_integers(texts: Ids) -> Ids:
    """Ids as int64 if nothing is lost by it, so that they sort by value; else as they are."""
    if not all(map(is_plain_integer, texts)):
        return texts
    try:
        return np.array([int(text) for text in texts], np.int64)
    except OverflowError:
        return texts
