"""What a data set and its split hold, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from recrun.data.event_dataset import EventDataset
from recrun.data.events.split_log import SplitLog
from recrun.data.loaders.user_rows import UserRows
from recrun.experiments.build import build_dataset
from recrun.experiments.instantiate import instantiate

Section = tuple[str, list[tuple[str, str]]]

DROPPED = {
    "rows_read": "rows read",
    "below_threshold": "below dataset.filters.threshold",
    "repeats": "repeats of a (unit, item) pair (filters.repeats)",
    "duplicate_events": "duplicate events (filters.duplicate_events)",
    "immediate_repeats": "immediate repeats (filters.immediate_repeats)",
    "below_min_count": "below filters.min_unit_count or min_item_count",
    "unknown_items": "of items outside the catalogue (split.catalogue)",
    "events_after_a_cut": "after a cut in time, of earlier units",
    "units_below_3_events": "units below 3 events, for training only",
}


def describe(config: Mapping[str, Any]) -> list[Section]:
    """Titles, each with names and values in words.

    Args:
        config: A checked config; model, trainer and evaluator have no meaning here.

    Raises:
        DataError: The data cannot be used.
    """
    if config.get("split") is None:
        dataset = build_dataset(config)
        return [("data", [(name, number(value)) for name, value in dataset.describe().items()])]
    nothing = SimpleNamespace(monitor="")
    dataset = instantiate(config["dataset"], evaluator=nothing, split=instantiate(config["split"]), loader=UserRows())
    return sections(dataset)


def sections(dataset: EventDataset) -> list[Section]:
    """Of an event log."""
    made, counts = dataset.log, dataset.describe()
    read = [(text, number(counts[name])) for name, text in DROPPED.items() if counts.get(name)]
    return [
        ("read and dropped", read),
        ("log", log_lines(made, counts)),
        ("split", [line for split in ("valid", "test") for line in split_lines(split, counts)]),
        ("fingerprints", [(name, value) for name, value in dataset.fingerprints.items()]),
    ]


def log_lines(made: SplitLog, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Sizes of the log after filters and split."""
    lengths = np.diff(made.offsets)
    lengths = lengths[lengths > 0]
    pairs = len(np.unique(np.repeat(np.arange(len(made.units)), np.diff(made.offsets)) * len(made.items) + made.item))
    shape = f"{lengths.min()} / {np.median(lengths):.0f} / {lengths.mean():.1f} / {lengths.max()}"
    return [
        ("units (users or sessions)", number(len(lengths))),
        ("items", number(len(made.items))),
        ("events", number(len(made.item))),
        ("density", f"{100 * pairs / (len(lengths) * len(made.items)):.3f} %"),
        ("repeated (unit, item) pairs", number(len(made.item) - pairs)),
        ("events per unit: least / median / mean / most", shape),
        ("units with events of equal time", number(counts.get("units_with_ties", 0))),
        ("training events", f"{number(counts['train_interactions'])} of {number(counts['train_users'])} units"),
        ("fold-in events", number(counts["fold_in_interactions"])),
        ("items without a training event", number(len(made.items) - counts["trained_items"])),
    ]


def split_lines(split: str, counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """What one split evaluates."""
    events, units = counts[f"{split}_interactions"], counts[f"{split}_users"]
    cold = counts[f"{split}_interactions_of_untrained_items"]
    return [
        (f"{split}: units evaluated", number(units)),
        (f"{split}: units without an input", number(counts[f"{split}_users_without_input"])),
        (f"{split}: held-out events", number(events)),
        (f"{split}: of items without a training event", f"{number(cold)} ({100 * cold / max(events, 1):.1f} %)"),
        (f"{split}: units with input after a target", number(counts[f"{split}_users_with_later_input"])),
    ]


def number(value: float) -> str:
    """A count with separators, a share as it is."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
