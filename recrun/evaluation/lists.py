"""Recommendation lists in place of a model: the same units, targets and metrics as full ranking."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from recrun.data.events.queries import Rankings
from recrun.data.ragged import Ragged
from recrun.evaluation.event_data import EventData
from recrun.evaluation.full_ranking import FullRanking, RankingAccumulator
from recrun.types import Evaluation, Split

UNKNOWN = -1  # the index of an item outside the catalogue: it holds its rank, and is no hit


@dataclass
class ListCounts:
    """What was found of the lists.

    Attributes:
        units: Evaluated ones.
        units_without_list: Of these; all their metrics are 0.
        short_lists: Of these, with fewer items than the largest cut-off.
        seen_items: Recommendations to these that were left out because their unit has seen the item.
    """

    units: int = 0
    units_without_list: int = 0
    short_lists: int = 0
    seen_items: int = 0


def evaluate_lists(
    keys: FullRanking,
    dataset: EventData,
    split: Split,
    lists: Ragged,
    list_of: dict[str, int],
    limit: int | None = None,
) -> tuple[Evaluation, ListCounts]:
    """Evaluates lists as `keys` evaluates the rankings of a model.

    Args:
        keys: The evaluator; with `mask_seen`, what a unit has seen is left out of its list as it is of a ranking.
        dataset: The data.
        split: Whose units.
        lists: Indices of the catalogue, best first; UNKNOWN for other items.
        list_of: The list of each unit, by its id.
        limit: Batches, as of the evaluator.

    Raises:
        DataError: The split has no unit to evaluate.
    """
    n_items, units = dataset.sizes["n_items"], keys.units(dataset, split)
    found, counts, k = RankingAccumulator(keys, n_items, keys.item_counts(dataset)), ListCounts(), max(keys.ks)
    lists = Ragged(np.append(lists.offsets, lists.offsets[-1]), lists.items)  # the last one is empty
    number = np.array([list_of.get(name, len(lists) - 1) for name in units.ids.tolist()], np.int64)
    size = keys.batch_size(n_items)
    for at in islice(range(0, len(units), size), limit):
        index = np.arange(at, min(at + size, len(units)))
        some, given = units.take(index), lists.take(number[index])
        counts.units += len(index)
        counts.units_without_list += int(np.count_nonzero(given.lengths() == 0))
        if keys.mask_seen:
            seen = among(given, some.seen, n_items)
            counts.seen_items += int(np.count_nonzero(seen))
            given = given.keep(~seen)
        counts.short_lists += int(np.count_nonzero(given.lengths() < min(k, n_items)))
        found.add(ranked(given, some, k, n_items))
    return found.evaluation(units.ids), counts


def ranked(given: Ragged, units: Rankings, k: int, n_items: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `recrun.evaluation.full_ranking.rank` makes of scores, of lists: hits_BK, top_BK, relevant_B."""
    rank = np.arange(len(given.items)) - np.repeat(given.offsets[:-1], given.lengths())
    first = rank < k
    top_BK = np.full((len(given), k), UNKNOWN)
    hits_BK = np.zeros((len(given), k), np.bool_)
    top_BK[given.rows()[first], rank[first]] = given.items[first]
    hits_BK[given.rows()[first], rank[first]] = among(given, units.targets, n_items)[first]
    relevant_B = torch.from_numpy(units.targets.lengths())
    return torch.from_numpy(hits_BK), torch.from_numpy(top_BK), relevant_B


def among(given: Ragged, others: Ragged, n_items: int) -> np.ndarray:
    """Which entries of rows are in the same row of others, bool [N]; UNKNOWN is in none."""
    keys = given.rows() * n_items + given.items
    found: np.ndarray = np.isin(keys, others.rows() * n_items + others.items) & (given.items != UNKNOWN)
    return found
