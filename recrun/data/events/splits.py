"""The splits of an event log. Each assigns every event to training, validation or test."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from recrun.data.events import split_rules as rules
from recrun.data.events.log import EventLog
from recrun.data.events.split_log import Assignment, Catalogue, EventSplit, TestInput
from recrun.data.types import DROPPED, INPUT, TEST, TRAIN, VALID, Int8
from recrun.errors import ConfigError, DataError
from recrun.types import Count, Fraction, Index, NonNegative, Probability, Split


@dataclass(frozen=True)
class Random(EventSplit):
    """Of each unit's events a random share.

    Attributes:
        valid_fraction, test_fraction: Shares; a unit of 2 events has a test event, one of 3 a validation event too.
        seed: Of the draw; apart from the run's seed, so that runs on one split can be compared.
    """

    needs: ClassVar[str | None] = None

    valid_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    seed: Index = 0

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        refuse_shares(self.valid_fraction, self.test_fraction)
        rng, order = np.random.default_rng(self.seed), log.canonical()
        unit = log.unit if order is None else log.unit[order]
        part = rules.random_split(unit, self.valid_fraction, self.test_fraction, rng)
        return Assignment(scattered(part, order), in_order=False)


@dataclass(frozen=True)
class Temporal(EventSplit):
    """Two cuts in time, the same for all units.

    Attributes:
        valid_fraction, test_fraction: Shares of all events, the latest for test.
    """

    needs: ClassVar[str | None] = "times"

    valid_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    _: KW_ONLY
    test_input: TestInput = "train_valid"

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        refuse_shares(self.valid_fraction, self.test_fraction)
        refuse_no_times(log, "temporal")
        assert log.rank is not None
        return Assignment(rules.temporal_split(log.rank, self.valid_fraction, self.test_fraction))


@dataclass(frozen=True)
class LeaveLastOut(EventSplit):
    """Each unit's last event for test, the one before for validation; units of fewer than 3 events train only."""

    needs: ClassVar[str | None] = "order"

    _: KW_ONLY
    test_input: TestInput = "train_valid"

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        refuse_no_order(log, "leave_last_out")
        short = int(np.count_nonzero(log.lengths < rules.FEWEST_TO_LEAVE_OUT))
        part = rules.leave_last_out(log.lengths)
        return Assignment(part, counts={f"units_below_{rules.FEWEST_TO_LEAVE_OUT}_events": short})


@dataclass(frozen=True)
class Strong(EventSplit):
    """Whole units are held out, and a share of their events is shown to the model (strong generalisation).

    Attributes:
        heldout_users: Units held out for each of validation and test, a number or a share.
        fold_in: Share of a held-out unit's events that is the model's input.
        min_events: Held-out units with fewer events have no target.
        seed: Of the draw; apart from the run's seed.
    """

    needs: ClassVar[str | None] = None

    heldout_users: Count | Fraction = 0.1
    fold_in: Fraction = 0.8
    min_events: Count = 5
    seed: Index = 0
    _: KW_ONLY
    catalogue: Catalogue = "train"

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        rng = np.random.default_rng(self.seed)
        role = rules.hold_out_units(len(log.units), self.count(len(log.units)), rng)
        order = log.canonical()
        unit, item = (log.unit, log.item) if order is None else (log.unit[order], log.item[order])
        role_of_event, part = role[unit], role[unit].copy()
        if self.catalogue == "train":
            known = np.zeros(len(log.items), np.bool_)
            known[item[role_of_event == TRAIN]] = True
            part[~known[item]] = DROPPED
        held_out = np.flatnonzero((role_of_event != TRAIN) & (part != DROPPED))
        target = rules.held_out_events(unit[held_out], self.fold_in, self.min_events, rng)
        part[held_out[~target]] = INPUT
        unknown = int(np.count_nonzero(part == DROPPED))
        return Assignment(scattered(part, order), in_order=False, counts={"unknown_items": unknown})

    def count(self, n_units: int) -> int:
        """Units to hold out for each of validation and test."""
        held_out = self.heldout_users
        count = held_out if isinstance(held_out, int) else int(n_units * held_out)
        if count < 1 or 2 * count >= n_units:
            raise ConfigError(
                f"split.heldout_users={held_out} holds out {count} units for validation and as many for test, "
                f"of {n_units} in all; at least one is needed for each of train, validation and test"
            )
        return count


@dataclass(frozen=True)
class LastDays(EventSplit):
    """Whole units by when they begin: those of the last days for test, those of the days before for validation.

    Events of earlier units after a cut are dropped: training would know them only afterwards.

    Attributes:
        test_days, valid_days: Lengths in days; valid_days=0 for no validation.
    """

    needs: ClassVar[str | None] = "times"

    test_days: NonNegative = 1.0
    valid_days: NonNegative = 1.0
    _: KW_ONLY
    catalogue: Catalogue = "train"

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        refuse_no_times(log, "last_days")
        part = rules.hold_out_days(log, np.zeros(len(log), np.int8), TEST, self.test_days)
        part = rules.hold_out_days(log, part, VALID, self.valid_days)
        return whole_units(part, valid=self.valid_days > 0, test=self.test_days > 0)


@dataclass(frozen=True)
class LatestFraction(EventSplit):
    """Whole units by when they begin: the latest share of them for test, the share before for validation.

    Attributes:
        test_fraction, valid_fraction: Shares of the units; valid_fraction=0 for no validation.
    """

    needs: ClassVar[str | None] = "order"

    test_fraction: Probability = 0.1
    valid_fraction: Probability = 0.1
    _: KW_ONLY
    catalogue: Catalogue = "train"

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        refuse_no_order(log, "fraction")
        part = rules.hold_out_latest(log, np.zeros(len(log), np.int8), TEST, self.test_fraction)
        part = rules.hold_out_latest(log, part, VALID, self.valid_fraction)
        return whole_units(part, valid=self.valid_fraction > 0, test=self.test_fraction > 0)


@dataclass(frozen=True)
class Provided(EventSplit):
    """The data are split already: `dataset.path` is a folder with train and test files, and perhaps a valid file.

    A fold_in file holds events that are shown to the model at evaluation and never trained on. Without a valid file,
    validation events can be taken from the training events: of sessions, the latest whole ones; of users, a random
    share of each one's events.

    Attributes:
        valid_days: Sessions that begin in these last days of train; None = none.
        valid_fraction: Share of the sessions, or of each user's events; None = none.
        seed: Of the draw of users' events.
        in_order: Whether held-out events come after the input, so that an earlier one is part of the input of a later
            one where every event is predicted; None = where the events have an order.
        hold_out_units: Whether units are held out whole: then a unit's own earlier events are the input of its targets;
            None = where the events have an order and no unit has events in two files.
    """

    needs: ClassVar[str | None] = "split files"

    valid_days: NonNegative | None = None
    valid_fraction: Probability | None = None
    seed: Index = 0
    in_order: bool | None = None
    hold_out_units: bool | None = None

    def assign(self, log: EventLog) -> Assignment:
        """See the protocol."""
        if log.part is None:
            raise ConfigError("split=provided needs files that are split already, not dataset.source")
        if self.valid_days and self.valid_fraction:
            raise ConfigError(
                f"split.valid_days={self.valid_days} and split.valid_fraction={self.valid_fraction}: give one of them"
            )
        part, by_units = log.part.copy(), self.by_units(log)
        asked = bool((part == VALID).any() or self.valid_days or self.valid_fraction)
        tested = bool((part == TEST).any())
        if not (part == VALID).any():
            part = self.with_validation(log, part, by_units)
        if by_units:
            return whole_units(part, valid=asked, test=tested)
        splits: tuple[Split, ...] = (*(("valid",) if asked else ()), *(("test",) if tested else ()))
        ordered = log.rank is not None
        return Assignment(part, in_order=ordered if self.in_order is None else self.in_order, asked=splits)

    def by_units(self, log: EventLog) -> bool:
        """Whether units are held out whole. Raises ConfigError if they shall be and cannot."""
        possible = log.rank is not None and units_in_one_part(log)
        if self.hold_out_units and not possible:
            raise ConfigError(
                "split.hold_out_units=true needs events in order, and each unit's in one file alone; "
                "leave the key out, and earlier files are the input of later ones"
            )
        return possible if self.hold_out_units is None else self.hold_out_units

    def with_validation(self, log: EventLog, part: Int8, by_units: bool) -> Int8:
        """The codes with validation events taken from training, if the keys say so."""
        if self.valid_days:
            refuse_no_times(log, f"provided with split.valid_days={self.valid_days}")
            return rules.hold_out_days(log, part, VALID, self.valid_days)
        if not self.valid_fraction:
            return part
        if by_units:
            return rules.hold_out_latest(log, part, VALID, self.valid_fraction)
        rng, train = np.random.default_rng(self.seed), np.flatnonzero(part == TRAIN)
        drawn = rules.random_share(log.unit[train], self.valid_fraction, rng)
        part[train[drawn]] = VALID
        return part


def units_in_one_part(log: EventLog) -> bool:
    """Whether every unit has events in one split alone: then units are held out whole."""
    assert log.part is not None
    same = log.part[1:] == log.part[:-1]
    return bool(same[log.unit[1:] == log.unit[:-1]].all())


def whole_units(part: Int8, valid: bool, test: bool) -> Assignment:
    """An assignment of whole units, with the count of events that are in no split."""
    asked: list[Split] = []
    if valid:
        asked.append("valid")
    if test:
        asked.append("test")
    dropped = int(np.count_nonzero(part == DROPPED))
    return Assignment(part, whole_units=True, asked=tuple(asked), counts={"events_after_a_cut": dropped})


def scattered(part: Int8, order: np.ndarray | None) -> Int8:
    """Parts that were assigned along `order`, in the order of the log."""
    if order is None:
        return part
    result = np.empty_like(part)
    result[order] = part
    return result


def refuse_shares(valid: float, test: float) -> None:
    """Raises ConfigError if two shares leave nothing to train on."""
    if valid + test >= 1:
        raise ConfigError(
            f"split.valid_fraction={valid} and split.test_fraction={test} leave nothing to train on; "
            "their sum must be below 1"
        )


def refuse_no_times(log: EventLog, name: str) -> None:
    """Raises DataError for a log without times."""
    if log.time is None:
        raise DataError(
            f"split={name} needs the time of each event, and the data have none (dataset.time_column, dataset.order); "
            "splits without times: random, strong, provided, and with an order leave_last_out, fraction"
        )


def refuse_no_order(log: EventLog, name: str) -> None:
    """Raises DataError for a log without an order."""
    if log.rank is None:
        raise DataError(
            f"split={name} needs the events of each unit in order, and the data have no times; "
            "use dataset.order=file if the rows are in order, or split=random, strong or provided"
        )
