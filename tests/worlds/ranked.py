"""Units with inputs and held-out items, without a data set."""

import numpy as np
import torch
from torch import nn

from recrun.data.events.queries import Inputs, NextItems, Rankings
from recrun.data.ragged import Ragged


def ragged(rows):
    """Rows of items, flat."""
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged.of_lengths(lengths, np.array([item for row in rows for item in row], np.int64))


class Held:
    """Units u0, u1, ... which have read some items, have seen these (or others), and have others held out."""

    def __init__(self, n_items, inputs, targets, seen=None):
        self.sizes = {"n_items": n_items}
        self.ids, self.unit = np.array([f"u{n}" for n in range(len(inputs))], object), np.arange(len(inputs))
        seen = ragged(inputs if seen is None else seen)
        self.held = Rankings(self.ids, self.unit, ragged(inputs), seen, ragged(targets))

    def rankings(self, split):
        return self.held

    def next_items(self, split):
        """Of each unit the first target alone."""
        held, first = self.held, self.held.targets.offsets[:-1]
        length = held.inputs.lengths()
        ids = np.array([f"{name}:{n + 1}" for name, n in zip(held.ids, length, strict=True)], object)
        return NextItems(ids, held.unit, held.inputs, self.unit, length, held.targets.items[first])

    def prediction_inputs(self, split):
        return Inputs(self.held.ids, self.held.unit, self.held.inputs, self.held.seen)

    whole_inputs = prediction_inputs

    def inputs(self, sequences, unit):
        return {
            "user": torch.from_numpy(unit),
            "items": torch.from_numpy(sequences.items.astype(np.int64)),
            "items_offsets": torch.from_numpy(sequences.offsets),
        }

    def item_counts(self):
        return np.arange(self.sizes["n_items"])

    def units(self, split):
        return self.ids

    def vocabulary(self):
        return {"items": np.array([f"i{n}" for n in range(self.sizes["n_items"])], object)}


class Table(nn.Module):
    """Scores that are known in advance, one row per user."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.as_tensor(scores, dtype=torch.float32)

    def forward(self, batch):
        return self.scores[batch["user"]].clone()


class LastItem(nn.Module):
    """The score of an item depends on the item before alone: a row of a table. It reads beginnings of sequences."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, batch):
        return self.table[batch["items"][batch["items_offsets"][1:] - 1]].clone()


class LastItemAtOnce(LastItem):
    """The same in one pass over whole sequences."""

    encodes_sequences = True

    def encode_sequences(self, batch):
        return nn.functional.one_hot(batch["items"], len(self.table)).float()

    def score(self, hidden):
        return hidden @ self.table
