"""Every key of the group `dataset` for event logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from recrun.data.events.features import FeatureKeys
from recrun.data.events.filters import Filters
from recrun.data.events.log import Order, UnitName
from recrun.data.events.side_tables import ID
from recrun.data.io.columns import Columns, TimeUnit
from recrun.data.io.download import Download
from recrun.data.io.event_files import EventFiles, Format
from recrun.data.io.raw_events import RawEvents
from recrun.errors import ConfigError


class EventSource(Protocol):
    """Gives events: files, or a generator (see recrun.data.events.synthetic). It may give side tables too (`sides`)."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values that change whenever the events would: content hashes, settings, seeds."""

    def events(self) -> RawEvents:
        """The events."""


@dataclass(kw_only=True)
class EventSettings:
    """Where an event log comes from and what of it is used.

    Attributes:
        path: A file, or a folder (see recrun.data.io.event_files); relative to `root`, else to the working directory.
        root: The data folder.
        download: Where the files can be had if they are absent.
        source: Gives the events (and side tables, if it has a method `sides`) instead of files.
        format: auto: by the file's ending. sequences: a line per user, `user item item ...`, in order.
        part_files: File names of "train", "valid", "test" and "fold_in" inside `path` for split=provided; None = found
            by name.
        columns: Names of all columns, of a text file without a header line.
        user_column, item_column, rating_column, time_column, session_column: Names; None = recognised by common
            names, "none" = there is no such column.
        time_unit: Of times that are numbers; None = recognised by their size. Dates are read as ISO 8601.
        unit: What is evaluated: users or sessions; None = sessions where the data have them.
        order: By time, or as the rows of the file are; None = by time where the data have times, as in the file for
            sequences, else none.
        filters: Which events stay.
        user_table, item_table: Side tables, whose first column is the id; None = none.
        user_fields, item_fields: Columns that models see; `id` is the user or item itself.
        item_lists: Columns with any number of values.
        list_separator: What divides these.
        test_path: A file whose units replace the test split: to predict what comes after them.
        run_vocabulary: The `vocabulary` folder of a run: its items are the catalogue, and what it does not know of
            users and items is unknown. None = all that is in the data.
        cache: Folder of prepared data; None = none.
    """

    path: str | None = None
    root: str | None = None
    download: Download | None = None
    source: EventSource | None = None
    format: Format = "auto"
    part_files: Mapping[str, str] | None = None
    columns: Sequence[str] | None = None
    user_column: str | None = None
    item_column: str | None = None
    rating_column: str | None = None
    time_column: str | None = None
    session_column: str | None = None
    time_unit: TimeUnit | None = None
    unit: UnitName | None = None
    order: Order | None = None
    filters: Filters = field(default_factory=Filters)
    user_table: str | None = None
    item_table: str | None = None
    user_fields: Sequence[str] = (ID,)
    item_fields: Sequence[str] = (ID,)
    item_lists: Sequence[str] = ()
    list_separator: str = " "
    test_path: str | None = None
    run_vocabulary: str | None = None
    cache: str | None = None

    def event_source(self, provided: bool) -> EventSource:
        """Where the events come from.

        Args:
            provided: Whether the files are to say how the events are split.

        Raises:
            ConfigError: There is no path, or a key for files beside a source.
        """
        if self.source is None:
            return self.files(self.path, provided)
        for key in ("path", "user_table", "item_table", "columns"):
            if getattr(self, key) is not None:
                raise ConfigError(f"dataset.{key} is for files; it does nothing with dataset.source")
        if self.filters.threshold is not None:
            raise ConfigError("dataset.filters.threshold is for files; it does nothing with dataset.source")
        return self.source

    def files(self, path: str | None, provided: bool = False) -> EventFiles:
        """The files at a path, read as the keys say."""
        if path is None:
            raise ConfigError("dataset.path is missing: the file or folder with the events, dataset.path=ratings.csv")
        names = (self.user_column, self.item_column, self.rating_column, self.time_column, self.session_column)
        return EventFiles(
            path=path,
            root=self.root,
            columns=Columns(*names, header=self.columns, time_unit=self.time_unit),
            threshold=self.filters.threshold,
            provided=provided,
            part_files=self.part_files,
            download=self.download,
            format=self.format,
        )

    def chosen_order(self) -> Order | None:
        """The order; sequence files imply that of the file."""
        return "file" if self.order is None and self.format == "sequences" else self.order

    def feature_keys(self) -> FeatureKeys:
        """What models see of users and items."""
        return FeatureKeys(self.user_fields, self.item_fields, self.item_lists, self.list_separator)
