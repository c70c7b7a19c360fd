"""What a split log holds, in numbers; and the refusal of one that cannot be used."""

from __future__ import annotations

import logging

import numpy as np

from recrun.data.events.queries import rankings, units_with_targets
from recrun.data.events.split_log import CODES, SplitLog
from recrun.data.types import INPUT, TRAIN
from recrun.errors import DataError
from recrun.types import Split

logger = logging.getLogger(__name__)

SPLITS: tuple[Split, ...] = ("valid", "test")


def summary(made: SplitLog) -> dict[str, int]:
    """Counts of units, items and events, of each split, and of what was dropped."""
    trained = np.bincount(made.item[made.part == TRAIN], minlength=len(made.items)) > 0
    counts = {
        "n_users": len(made.units),
        "n_items": len(made.items),
        "train_users": int(np.count_nonzero(made.train.lengths())),
        "train_interactions": len(made.train.items),
        "trained_items": int(np.count_nonzero(trained)),
        "fold_in_interactions": int(np.count_nonzero(made.part == INPUT)),
    }
    for split in SPLITS:
        mine = made.part == CODES[split]
        evaluated = len(rankings(made, split))
        counts[f"{split}_users"] = evaluated
        counts[f"{split}_interactions"] = int(np.count_nonzero(mine))
        counts[f"{split}_users_without_input"] = units_with_targets(made, split) - evaluated
        counts[f"{split}_interactions_of_untrained_items"] = int(np.count_nonzero(~trained[made.item[mine]]))
    return {**counts, **made.counts}


def refuse_empty(made: SplitLog, evaluating: bool) -> None:
    """Raises DataError if a split that was asked for has no unit to evaluate.

    Args:
        made: The split log.
        evaluating: Whether the data serve to evaluate a finished run alone: then one split is enough.
    """
    evaluated = {split: len(rankings(made, split)) for split in made.assignment.asked}
    empty = [split for split, count in evaluated.items() if not count]
    if not empty or (evaluating and len(empty) < len(evaluated)):
        return
    split = empty[0]
    held_out, units = int(np.count_nonzero(made.part == CODES[split])), units_with_targets(made, split)
    name = "validation" if split == "valid" else "test"
    raise DataError(
        f"no unit can be evaluated on the {name} split: of {len(made.units)} units, {len(made.items)} items and "
        f"{len(made.item)} events it holds {held_out} events of {units} units, none with an input besides them; "
        "hold out more or less (split.…), or choose another split"
    )
