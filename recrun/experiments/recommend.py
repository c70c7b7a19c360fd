"""The best items for users of a finished run, known or new: everything that is known of them is the input."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recrun.errors import ConfigError, did_you_mean
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.full_ranking import best_items, scorer
from recrun.experiments.load import Loaded

logger = logging.getLogger(__name__)

UNITS_AT_ONCE = 256


def refuse_no_catalogue(config: Mapping[str, Any]) -> None:
    """Raises ConfigError if a run's model scores pairs or candidates, and no catalogue."""
    if config.get("loader") is None:
        raise ConfigError(
            f"{config['model']['_target_']} scores the rows or candidates that it is given and ranks no catalogue: "
            "use predict"
        )


def recommend(
    loaded: Loaded,
    users: Sequence[Any] | None,
    k: int,
    allow: Sequence[Any] | None = None,
    deny: Sequence[Any] = (),
    leave_out_seen: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The best items of users, given all their events: training, validation and test.

    Args:
        loaded: A run with an event log.
        users: Their ids; None = the test units, with what `predict` shows the model.
        k: Items of each.
        allow: Ids of the only items that may be recommended; None = all.
        deny: Ids of items that may not.
        leave_out_seen: Whether items that a user had are not recommended.

    Returns:
        user and item ids (objects), rank from 1 and score float32, each [N], N <= users x k; best first.

    Raises:
        ConfigError: An id is unknown.
    """
    dataset: Any = loaded.dataset
    items = dataset.vocabulary()["items"]
    allowed_I = torch.from_numpy(allowed(items, allow, deny)).to(loaded.device.torch)
    units = dataset.prediction_inputs("test") if users is None else dataset.known_inputs(rows_of(dataset, users))
    numbers = NaNLast("these users")
    score = scorer(loaded.model.eval(), dataset, loaded.device, numbers, leave_out_seen)
    names, found, ranks, scores = [], [], [], []
    with torch.no_grad():
        for ids, top_BK, scores_BK in best_items(only(allowed_I, score), units, k, UNITS_AT_ONCE):
            row, column = np.nonzero((scores_BK > -torch.inf).cpu().numpy())
            names.append(np.array(ids, object)[row])
            found.append(items[top_BK.cpu().numpy()[row, column]])
            ranks.append(column + 1)
            scores.append(scores_BK.float().cpu().numpy()[row, column])
    numbers.warn()
    empty = np.zeros(0)
    user, item, rank, score_N = (np.concatenate(parts or [empty]) for parts in (names, found, ranks, scores))
    return user, item, rank, score_N


def only(allowed_I: Tensor, score: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """Scores whose items that are not allowed are at -inf."""
    return lambda units: score(units).masked_fill_(~allowed_I, -torch.inf)


def allowed(items: np.ndarray, allow: Sequence[Any] | None, deny: Sequence[Any]) -> np.ndarray:
    """Which items of the catalogue may be recommended, bool [I]."""
    known = items.astype(str)
    if allow is None:
        found = np.ones(len(items), np.bool_)
    else:
        wanted = list(map(str, allow))
        found = np.isin(known, wanted)
        unknown = sorted(set(wanted) - set(known.tolist()))
        if not found.any():
            raise ConfigError(
                f"allow: the model knows none of the {len(wanted)} items{did_you_mean(*first(unknown, known))}"
            )
        if unknown:
            logger.warning("allow: the model does not know %d items, such as %s", len(unknown), unknown[0])
    return found & ~np.isin(known, list(map(str, deny)))


def rows_of(dataset: Any, users: Sequence[Any]) -> np.ndarray:
    """Indices of units, int64 [Q]. Raises ConfigError for one that the data do not have."""
    ids = dataset.vocabulary()["users"]
    row = {name: at for at, name in enumerate(ids.tolist())}
    unknown = [str(name) for name in users if str(name) not in row]
    if unknown:
        raise ConfigError(
            f"users: the data have no {unknown[0]}{did_you_mean(*first(unknown, ids))}; for users that are new, give "
            "their histories"
        )
    return np.array([row[str(name)] for name in users], np.int64)


def first(unknown: Sequence[str], known: np.ndarray) -> tuple[str, list[str]]:
    """A word and those that it may have meant."""
    return (unknown or [""])[0], known[:10_000].tolist()
