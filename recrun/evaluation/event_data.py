"""What evaluators of event logs ask of a data set."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recrun.data.events.queries import Inputs, NextItems, Rankings
from recrun.data.ragged import Ragged
from recrun.interfaces import Dataset
from recrun.types import Batch, Split

SAMPLE_SEED = 0  # of evaluator.valid_sample: the same units in every run


class EventData(Dataset, Protocol):
    """A data set of events; see recrun.data.event_dataset."""

    def rankings(self, split: Split) -> Rankings:
        """The units of a split, each with its input, what it has seen and its targets."""

    def next_items(self, split: Split) -> NextItems:
        """The held-out events of a split, each with what precedes it."""

    def whole_inputs(self, split: Split) -> Inputs:
        """The units of a split with all their events."""

    def prediction_inputs(self, split: Split) -> Inputs:
        """The units of a split as they are evaluated."""

    def inputs(self, sequences: Ragged, unit: np.ndarray) -> Batch:
        """A batch of what the model reads of some units, given their items."""

    def item_counts(self) -> np.ndarray:
        """Training events of each item, int64 [I]."""


def sampled(count: int, size: int | None) -> np.ndarray:
    """Positions of `size` of `count` units, ascending, the same ones each time; all where there are no more."""
    if size is None or size >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(SAMPLE_SEED).choice(count, size, replace=False))
