"""What a split makes of a log: training events, units to evaluate, one catalogue and one fingerprint."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np

from recrun.data.events.log import EventLog
from recrun.data.ragged import Ragged, offsets_of
from recrun.data.types import DROPPED, INPUT, TEST, TRAIN, VALID, Ids, Int8, Int32, Int64, Mask, Times
from recrun.errors import DataError
from recrun.types import Split

logger = logging.getLogger(__name__)

T = TypeVar("T")

CODES: dict[Split, int] = {"valid": VALID, "test": TEST}

Catalogue: TypeAlias = Literal["all", "train"]
TestInput: TypeAlias = Literal["train", "train_valid"]
WholeTargets: TypeAlias = Literal["last", "rest"]


@dataclass(frozen=True)
class Assignment:
    """Where each event of a log goes.

    Attributes:
        part: TRAIN, VALID, TEST, INPUT or DROPPED, int8 [N].
        whole_units: Units are held out whole: what comes before a target in its own unit is the input.
        in_order: Held-out events come after the unit's input: an earlier one is part of the input of a later one,
            where every event is predicted.
        asked: The splits that must have something to evaluate.
        counts: What the split dropped.
    """

    part: Int8
    whole_units: bool = False
    in_order: bool = True
    asked: tuple[Split, ...] = ("valid", "test")
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EventSplit(ABC):
    """Assigns the events of a log; see recrun.data.events.splits for those there are.

    `needs`, a plain literal in the class body, says what the log must have: "order", "times", "split files" or nothing.

    Attributes:
        catalogue: all: the items of the whole log can be recommended. train: those of the training events; held-out
            events of others are dropped and counted.
        test_input: Whether validation events are part of the input at test time.
        targets: Of units that are held out whole, for rankings of the catalogue: the last event, or all but the first.
    """

    needs: ClassVar[str | None]

    catalogue: Catalogue = "all"
    test_input: TestInput = "train"
    targets: WholeTargets = "last"

    @abstractmethod
    def assign(self, log: EventLog) -> Assignment:
        """Where each event goes.

        Raises:
            DataError: The log lacks what the split needs.
            ConfigError: The split's keys do not fit the log.
        """


@dataclass(frozen=True)
class SplitLog:
    """A log after its split: what every model of it shares.

    Attributes:
        units, items: Ids by index; `items` is the catalogue.
        offsets: Where each unit's events begin and end, int64 [U + 1]; in order, where there is one.
        item: int32 [N].
        part: TRAIN, VALID, TEST or INPUT, int8 [N].
        time: Of each event, float64 seconds [N]; None where the data have none, or the loader does not read them.
        start: When each unit begins, seconds or ranks [U]; None without an order.
        assignment: What the split said.
        test_input, targets: See `EventSplit`.
        owners: See `EventLog`.
        counts: What was read and dropped.
        log_fingerprint: Of the filtered log.
    """

    units: Ids
    items: Ids
    offsets: Int64
    item: Int32
    part: Int8
    time: Times | None
    start: Times | None
    assignment: Assignment
    test_input: TestInput
    targets: WholeTargets
    owners: Ids | None
    counts: Mapping[str, int]
    log_fingerprint: str
    _known: dict[Hashable, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, remembered under a key as long as the log is."""
        if key not in self._known:
            self._known[key] = compute()
        found: T = self._known[key]
        return found

    @cached_property
    def train(self) -> Ragged:
        """The training events of each unit, in order."""
        return self.select(self.part == TRAIN)

    def select(self, which: Mask) -> Ragged:
        """Some of the events, by unit."""
        return Ragged(self.offsets, self.item, self.time).keep(which)

    def input_mask(self, split: Split) -> Mask:
        """Events that are the input of every target of a split, bool [N]; none of units that are held out whole."""
        shown: Mask = (self.part == TRAIN) | (self.part == INPUT)
        if split == "test" and self.test_input == "train_valid":
            shown |= self.part == VALID
        return shown

    def fingerprint(self) -> str:
        """sha256 of the log, the catalogue, each event's split and the rules of evaluation."""
        rules = f"{self.log_fingerprint} {self.test_input} {self.targets} {self.assignment.whole_units}"
        digest = hashlib.sha256(f"{rules} {self.assignment.in_order}\n".encode())
        digest.update("\0".join(map(str, self.items.tolist())).encode())
        for array in (self.offsets, self.item, self.part):
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def on_items(self, items: Ids) -> SplitLog:
        """The same over a given catalogue, in its order; events of other items are dropped and counted.

        Args:
            items: Ids as text, in the order that a model's weights have.
        """
        number = {name: index for index, name in enumerate(items.tolist())}
        index = np.fromiter((number.get(str(name), -1) for name in self.items.tolist()), np.int32, len(self.items))
        kept = index[self.item] >= 0
        dropped, unknown = int(np.count_nonzero(~kept)), [str(name) for name in self.items[index < 0][:3].tolist()]
        if dropped:
            logger.warning(
                "%d items are unknown to the model, such as %s; their %d events are left out",
                int(np.count_nonzero(index < 0)),
                ", ".join(unknown),
                dropped,
            )
        counts = {**self.counts, "events_of_unknown_items": dropped}
        return replace(_kept(self, kept), items=items, item=index[self.item][kept], counts=counts)


def divide(log: EventLog, split: EventSplit) -> SplitLog:
    """Splits a log.

    Raises:
        DataError: There is nothing to train on.
        ConfigError: As `EventSplit.assign`.
    """
    assignment = split.assign(log)
    made = SplitLog(
        units=log.units,
        items=log.items,
        offsets=log.offsets,
        item=log.item,
        part=assignment.part,
        time=log.time,
        start=_starts(log),
        assignment=assignment,
        test_input=split.test_input,
        targets=split.targets,
        owners=log.owners,
        counts={**log.counts, **assignment.counts},
        log_fingerprint=log.fingerprint(),
    )
    made = _kept(made, made.part != DROPPED)
    if not (made.part == TRAIN).any():
        raise DataError(f"there are no events to train on: the split holds out all {len(log)} events; hold out less")
    return _learnable(made) if split.catalogue == "train" else made


def _kept(made: SplitLog, which: Mask) -> SplitLog:
    lengths = np.add.reduceat(np.append(which, False).astype(np.int64), made.offsets[:-1])
    lengths[np.diff(made.offsets) == 0] = 0
    time = None if made.time is None else made.time[which]
    return replace(made, offsets=offsets_of(lengths), item=made.item[which], part=made.part[which], time=time)


def _learnable(made: SplitLog) -> SplitLog:
    """The items of the training events alone; others' events are dropped and counted."""
    known = np.zeros(len(made.items), np.bool_)
    known[made.item[made.part == TRAIN]] = True
    if known.all():
        return replace(made, counts={"unknown_items": 0, **made.counts})
    kept = known[made.item]
    number = np.cumsum(known, dtype=np.int32) - 1
    counts = {**made.counts, "unknown_items": made.counts.get("unknown_items", 0) + int(np.count_nonzero(~kept))}
    return replace(_kept(made, kept), items=made.items[known], item=number[made.item][kept], counts=counts)


def _starts(log: EventLog) -> Times | None:
    if log.rank is None:
        return None
    clock = log.rank if log.time is None else log.time
    return clock[log.offsets[:-1]] if len(log) else clock[:0]
