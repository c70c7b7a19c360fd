"""Small session logs, and a plain session-parallel walk to compare with."""

from __future__ import annotations

import numpy as np
from recrun.data.events.rows import Rows
from recrun.data.events.sessions import Sessions

from recrun.evaluation.next_item import NextItem


class Log:
    """A source of given sessions; every event comes a second after the one before."""

    def __init__(self, sessions, n_items, part=None, time=None) -> None:
        lengths = [len(session) for session in sessions]
        self.user = np.repeat(np.arange(len(sessions), dtype=np.int32), lengths)
        self.item = np.concatenate(sessions).astype(np.int32)
        self.part = None if part is None else np.repeat(np.asarray(part, np.int8), lengths)
        self.time = np.arange(len(self.item), dtype=float) if time is None else np.asarray(time, float)
        self.n_items = n_items

    def identity(self):
        return {}

    def rows(self, with_time):
        users, items = np.arange(len(np.unique(self.user))), np.arange(self.n_items)
        return Rows(self.user, self.item, users, items, self.time, self.part, {"rows_read": len(self.user)})


def sessions_of(train, test=(), valid=(), n_items=None, **settings):
    """A data set of given sessions per part; every item must be in a training session."""
    every = [*train, *valid, *test]
    part = [0] * len(train) + [1] * len(valid) + [2] * len(test)
    n_items = n_items or 1 + max(max(session) for session in every)
    settings = {"evaluator": NextItem(), "num_negatives": 4, "min_session_length": 1, "valid_days": 0, **settings}
    return Sessions(source=Log(every, n_items, part), split="provided", **settings)


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
