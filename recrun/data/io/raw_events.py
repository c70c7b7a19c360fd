"""An event log as its files have it: parallel arrays, before anything is filtered or split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recrun.data.types import Float, Ids, Int8, Int32, Int64, Mask


@dataclass(frozen=True)
class RawEvents:
    """R events in the order of the file. A log has users, sessions or both.

    Attributes:
        item: Index into `items`, int32 [R].
        items: Ids, sorted: int64 by value, or objects that are text.
        user, users: The same of users; None where there are none.
        session, sessions: The same of sessions; None where there are none.
        time: Seconds, float64 [R]; None where there are none.
        part: TRAIN, VALID or TEST, int8 [R]; None where the files are not split.
        counts: `rows_read`, `below_threshold`, and what else was counted.
    """

    item: Int32
    items: Ids
    user: Int32 | None = None
    users: Ids | None = None
    session: Int32 | None = None
    sessions: Ids | None = None
    time: Float | None = None
    part: Int8 | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def take(self, which: Mask | Int64) -> RawEvents:
        """The events that a mask or an index selects; the ids stay."""
        return replace(
            self,
            item=self.item[which],
            user=None if self.user is None else self.user[which],
            session=None if self.session is None else self.session[which],
            time=None if self.time is None else self.time[which],
            part=None if self.part is None else self.part[which],
        )

    def counted(self, **counts: int) -> RawEvents:
        """The same events with more counts."""
        return replace(self, counts={**self.counts, **counts})
