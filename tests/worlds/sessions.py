"""Small session logs, and a plain session-parallel walk to compare with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recrun.data.events.splits import Provided
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.evaluation.next_item import NextItem
from worlds.events import event_data, raw_events

SPLIT_KEYS = ("valid_days", "valid_fraction", "targets", "catalogue")
LOADER_KEYS = ("num_negatives", "sample_alpha", "bptt")


@dataclass(frozen=True)
class AsGiven(Provided):
    """Sessions in the parts that they come in, some of which may be empty."""

    def assign(self, log):
        return replace(super().assign(log), asked=())


def session_events(sessions, n_items, part=None, time=None):
    """Sessions 0, 1, ... of given items; every event comes a second after the one before."""
    pairs = [(number, item) for number, session in enumerate(sessions) for item in session]
    lengths = [len(session) for session in sessions]
    times = range(len(pairs)) if time is None else time
    parts = None if part is None else np.repeat(np.asarray(part, np.int8), lengths)
    return raw_events(pairs, times, parts, "session", range(n_items))


def sessions_of(train, test=(), valid=(), n_items=None, **keys):
    """A data set of given sessions per part; every item must be in a training session.

    Keys are those of the split, of the loader or of the data set.
    """
    every = [*train, *valid, *test]
    part = [0] * len(train) + [1] * len(valid) + [2] * len(test)
    n_items = n_items or 1 + max(max(session) for session in every)
    split, loader = ({name: keys.pop(name) for name in names if name in keys} for names in (SPLIT_KEYS, LOADER_KEYS))
    return event_data(
        session_events(every, n_items, part),
        AsGiven(**{"catalogue": "train", **split}),
        SessionParallel(**{"num_negatives": 4, **loader}),
        keys.pop("evaluator", NextItem()),
        **keys,
    )


def random_sessions(count, n_items, seed=0, longest=9):
    """Sessions of 2 events and more; together they hold all items."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, n_items, rng.integers(2, longest)).tolist() for _ in range(count)]
    return [*made, rng.permutation(n_items).tolist()]


def walk(sessions, batch_size):
    """The session-parallel walk by the letter: per step, the rows (slot, session, position) of its transitions."""
    waiting = [index for index, session in enumerate(sessions) if len(session) > 1]
    slots = [[waiting.pop(0), 0] for _ in range(min(batch_size, len(waiting)))]
    steps = []
    while any(slot is not None for slot in slots):
        steps.append([(number, *slot) for number, slot in enumerate(slots) if slot is not None])
        for number, slot in enumerate(slots):
            if slot is None:
                continue
            slot[1] += 1
            if slot[1] + 1 == len(sessions[slot[0]]):
                slots[number] = [waiting.pop(0), 0] if waiting else None
    return steps
