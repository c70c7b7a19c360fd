"""What a split log holds, in numbers; and the refusal of one that cannot be used."""

from __future__ import annotations

import logging

import numpy as np

from recrun.data.events.queries import rankings, units_with_targets
from recrun.data.events.split_log import CODES, SplitLog
from recrun.data.types import INPUT, TRAIN, Int64
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
        counts[f"{split}_users_with_later_input"] = later_input(made, split)
        counts[f"{split}_interactions_of_untrained_items"] = int(np.count_nonzero(~trained[made.item[mine]]))
    return {**counts, **made.counts}


def later_input(made: SplitLog, split: Split) -> int:
    """Evaluated units that have an input event after a target: on data with an order, a leak from the future."""
    if made.start is None or made.assignment.whole_units:
        return 0
    position = np.arange(len(made.item))
    last_input = _per_unit(made, np.where(made.input_mask(split), position, -1), np.maximum, -1)
    first_target = _per_unit(
        made, np.where(made.part == CODES[split], position, len(position)), np.minimum, len(position)
    )
    return int(np.count_nonzero((last_input > first_target) & (np.diff(made.offsets) > 0) & (last_input >= 0)))


def _per_unit(made: SplitLog, values: Int64, over: np.ufunc, empty: int) -> Int64:
    """A ufunc over the values of each unit's events, [U]; `empty` where a unit has none."""
    found: Int64 = over.reduceat(np.append(values, empty), made.offsets[:-1])  # empty units may begin at the end
    found[np.diff(made.offsets) == 0] = empty
    return found


def warn_of_ties(made: SplitLog) -> None:
    """Says for how many units the order of the rows in the file decides what is held out."""
    units = made.counts.get("units_with_ties", 0)
    if units and made.assignment.in_order:
        logger.warning(
            "%d of %d units have events of equal time; the order of the rows in the file decides between them",
            units,
            len(made.units),
        )


def warn_of_later_input(made: SplitLog) -> None:
    """Says for how many units a model that reads sequences is shown events after a target."""
    if made.assignment.in_order or made.start is None:
        return
    for split in SPLITS:
        later, evaluated = later_input(made, split), len(rankings(made, split))
        if later:
            logger.warning(
                "%.0f %% of the units of the %s split have input events after a target: the model sees the future; "
                "a split in order is split=leave_last_out or split=temporal",
                100 * later / evaluated,
                split,
            )


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
