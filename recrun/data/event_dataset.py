"""A data set of events: one log, one split, and the loader that the model chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recrun.data.events.cache import cached_log
from recrun.data.events.features import FeatureTables, RunVocabulary, SideSource
from recrun.data.events.log import EventLog
from recrun.data.events.new_units import with_test
from recrun.data.events.queries import Inputs, NextItems, Rankings, next_item_queries, rankings, whole_inputs
from recrun.data.events.settings import EventSettings, EventSource
from recrun.data.events.side_files import SideFiles
from recrun.data.events.split_log import EventSplit, SplitLog, divide
from recrun.data.events.summary import refuse_empty, summary, warn_of_later_input, warn_of_ties
from recrun.data.loaders.loader import Loader, tensors
from recrun.data.ragged import Ragged
from recrun.data.types import Ids, Int64, as_text
from recrun.errors import DataError
from recrun.interfaces import Evaluator, TrainingEvents
from recrun.types import Batch, Side, Split

UNITS_AT_ONCE = 4096


@dataclass(kw_only=True)
class EventDataset(EventSettings):
    """Who took what, read once, split once, and served as the model wants it.

    Training batches are the loader's business. Evaluation batches are made from the split's units: all loaders serve
    the same ones in the same order (see `rankings` and `next_items`).

    Attributes:
        evaluator: Evaluates models on these data.
        split: Assigns events to training, validation and test.
        loader: Makes batches.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
        CheckpointError: `run_vocabulary` is not that of a run.
    """

    kind: ClassVar[str] = "events"
    input_key: ClassVar[str] = "test_path"

    evaluator: Evaluator
    split: EventSplit
    loader: Loader

    def __post_init__(self) -> None:
        """Reads, filters and splits; or takes the filtered log from the cache."""
        self.monitor: str = self.evaluator.monitor
        source = self.event_source(provided=self.split.needs == "split files")
        known = None if self.run_vocabulary is None else RunVocabulary.load(Path(self.run_vocabulary))
        self.log = self._split_log(source, known)
        self.features = FeatureTables(self.log, self.side_source(), self.feature_keys(), known)
        self.refuse_no_order()
        self.batches = self.loader.bind(self.log, self.features)
        self.train_unit = self.batches.unit
        self.sizes: Mapping[str, Any] = {
            "n_users": len(self.log.units),
            "n_items": len(self.log.items),
            **self.batches.sizes,
        }

    def refuse_no_order(self) -> None:
        """Raises DataError if the loader makes sequences of events without an order; warns of a look ahead."""
        if not getattr(self.loader, "needs_order", False):
            return
        if self.log.start is None:
            raise DataError(
                f"loader={type(self.loader).kind} needs the events of a user in order, and the data have no times; use "
                "dataset.order=file if the rows are in order, or a model that reads sets of items"
            )
        if self.run_vocabulary is None:
            warn_of_later_input(self.log)

    def _split_log(self, source: EventSource, known: RunVocabulary | None) -> SplitLog:
        made = divide(self._event_log(source), self.split)
        if not getattr(self.loader, "times", False):
            made = replace(made, time=None)
        if known is not None:
            made = made.on_items(known.items)
        if self.test_path is not None:
            made = with_test(made, self.files(self.test_path).events(), self.unit, self.chosen_order())
        refuse_empty(made, evaluating=known is not None)
        warn_of_ties(made)
        return made

    def _event_log(self, source: EventSource) -> EventLog:
        filters, order = self.filters, self.chosen_order()

        def build() -> EventLog:
            return filters.apply(source.events(), self.unit, order)

        if self.cache is None:
            return build()
        settings = {"source": dict(source.identity()), "filters": asdict(filters), "unit": self.unit, "order": order}
        return cached_log(self.cache, settings, build)

    def side_source(self) -> SideSource | None:
        """Where side tables come from, if there are any."""
        if self.source is None:
            return SideFiles(self.user_table, self.item_table, self.root)
        source: Any = self.source
        return source if hasattr(source, "sides") else None

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of the filtered log, of its split, and of the features that the model reads, if it reads any."""
        found = {"dataset_fingerprint": self.log.log_fingerprint, "split_fingerprint": self.log.fingerprint()}
        features = self.features.fingerprint()
        return found if features is None else {**found, "features_fingerprint": features}

    def describe(self) -> dict[str, int]:
        """Counts: units and items, events and units of each split, what was dropped."""
        return {**summary(self.log), **self.features.describe()}

    def training_events(self) -> TrainingEvents:
        """All training events at once."""
        train = self.log.train
        unit = train.rows().astype(np.int32)
        return TrainingEvents(unit, train.items.astype(np.int32), len(self.log.units), len(self.log.items))

    def item_counts(self) -> Int64:
        """Training events of each item, int64 [n_items]."""
        return np.bincount(self.log.train.items, minlength=len(self.log.items))

    def train_size(self) -> int:
        """Units of the loader in one training epoch."""
        return self.batches.train_size()

    def train_steps(self, batch_size: int) -> int:
        """Batches in one training epoch."""
        return self.batches.train_steps(batch_size)

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """See the loader."""
        return self.batches.train_batches(batch_size, rng, start, stride)

    def rankings(self, split: Split) -> Rankings:
        """The units of a split, each with its input, what it has seen and its targets."""
        return rankings(self.log, split)

    def next_items(self, split: Split) -> NextItems:
        """The held-out events of a split, each with what precedes it."""
        return next_item_queries(self.log, split)

    def whole_inputs(self, split: Split) -> Inputs:
        """The units of a split with all their events: what comes next is not known."""
        return whole_inputs(self.log, split)

    def prediction_inputs(self, split: Split) -> Inputs:
        """The units of a split as they are evaluated; those of `test_path`, which have no targets, with all events."""
        if split == "test" and self.test_path is not None:
            return self.whole_inputs(split)
        found = self.rankings(split)
        return Inputs(found.ids, found.unit, found.inputs, found.seen)

    def known_inputs(self, unit: Int64) -> Inputs:
        """Units by index, with all their events: training, validation and test."""
        events = Ragged(self.log.offsets, self.log.item).take(unit)
        return Inputs(as_text(self.log.units[unit]), unit, events, events)

    def inputs(self, sequences: Ragged, unit: Int64) -> Batch:
        """A batch of what the model reads of some units, given their items; `user` int64 [B] is their index."""
        return tensors(**{**self.batches.inputs(sequences, unit), "user": unit})

    def eval_size(self, split: Split) -> int:
        """Units of a split that can be evaluated."""
        return len(self.rankings(split))

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The inputs of the units of a split."""
        return (batch for _, batch in self._evaluated(split, batch_size))

    def _evaluated(self, split: Split, size: int) -> Iterator[tuple[Ids, Batch]]:
        """The units of a split, `size` at a time: their ids and their inputs."""
        found = self.rankings(split)
        for at in range(0, len(found), size):
            some = found.take(np.arange(at, min(at + size, len(found))))
            yield some.ids, self.inputs(some.inputs, some.unit)

    def units(self, split: Split) -> Ids:
        """Ids of the units of a split, in the order of `eval_batches`."""
        return self.rankings(split).ids

    def vocabulary(self) -> dict[str, Ids]:
        """Ids of "users" (the units) and "items" by index, and what else the weights depend on."""
        ids = {"users": as_text(self.log.units), "items": as_text(self.log.items)}
        return {**ids, **self.batches.vocabulary()}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """All items, by index; or the units of a split with their whole input."""
        if side == "item":
            index = np.arange(len(self.log.items), dtype=np.int64)
            yield as_text(self.log.items), tensors(item=index)
        else:
            yield from self._evaluated(split, UNITS_AT_ONCE)
