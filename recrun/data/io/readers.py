"""Event logs as the rows that the data sets of users and items take; Parquet and scipy sparse matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.data.events.rows import Rows
from recrun.data.io.columns import Columns
from recrun.data.io.download import Download
from recrun.data.io.event_files import EventFiles
from recrun.data.io.event_reader import read_events
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import Ids
from recrun.errors import DataError


def read_rows(
    files: Mapping[int | None, Path], columns: Columns, threshold: float | None = None, with_time: bool = False
) -> Rows:
    """Reads one file, or the files of a split, into one set of rows.

    Raises:
        DataError: A file cannot be used; names the file and the line.
    """
    return rows_of(read_events(list(files.items()), columns, threshold), with_time, sessions=False)


def rows_of(events: RawEvents, with_time: bool, sessions: bool) -> Rows:
    """Events as rows of users, or of sessions (of users where there are none), and items."""
    unit = "session" if events.user is None or (sessions and events.session is not None) else "user"
    index, ids = (events.session, events.sessions) if unit == "session" else (events.user, events.users)
    assert index is not None
    assert ids is not None
    if with_time and events.time is None:
        raise DataError("no time column, which this dataset.split needs; dataset.time_column=NAME names it")
    time = events.time if with_time else None
    return Rows(index, events.item, _fixed(ids), _fixed(events.items), time, events.part, events.counts)


def _fixed(ids: Ids) -> Ids:
    return ids.astype(str) if ids.dtype == object else ids


@dataclass(frozen=True)
class RatingsFiles:
    """`EventFiles` as a source of rows; with `sessions` the rows are those of sessions."""

    path: str
    root: str | None
    columns: Columns
    threshold: float | None
    provided: bool
    part_files: Mapping[str, str] | None
    download: Download | None
    sessions: bool = False

    @property
    def files(self) -> EventFiles:
        """The files."""
        return EventFiles(
            self.path, self.root, self.columns, self.threshold, self.provided, self.part_files, self.download
        )

    def identity(self) -> dict[str, Any]:
        """See `EventFiles.identity`."""
        return {**self.files.identity(), "sessions": self.sessions}

    def rows(self, with_time: bool) -> Rows:
        """The rows. Raises DataError if a file cannot be used."""
        return rows_of(self.files.events(), with_time, self.sessions)
