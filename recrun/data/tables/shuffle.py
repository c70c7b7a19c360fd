"""In which order the rows of an epoch come: all permuted, or block by block where they are too many for memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from recrun.data.types import Int64


@dataclass(frozen=True)
class Window:
    """Rows that are in memory together.

    Attributes:
        blocks: Where each of its blocks begins and ends, int64 [K, 2].
        batches: Positions in the blocks, laid one after another, of each batch's rows.
    """

    blocks: Int64
    batches: list[Int64]


def windows(
    n_rows: int,
    batch_size: int,
    window_rows: int,
    block_rows: int,
    rng: np.random.Generator,
    start: int = 0,
    stride: int = 1,
) -> Iterator[Window]:
    """Every row once, or every `stride`-th batch, from batch number `start` on.

    Blocks of about `block_rows` neighbours come in random order. As many as make up about `window_rows` are permuted
    together, so that batches mix rows from afar and yet nothing is read in single rows. Rows that fit one window are
    simply permuted. A window holds whole batches; the rows that do not fill a block are in the last one.

    Args:
        n_rows: Rows in an epoch.
        batch_size: Rows of a batch.
        window_rows: Rows of a window, about.
        block_rows: Rows of a block, about.
        rng: Decides the order. Equal states give equal orders, whatever `start`.
        start: The first batch.
        stride: From one batch to the next.
    """
    block = batch_size * ceil(block_rows / batch_size)
    n_blocks = n_rows // block
    per_window = max(1, window_rows // block) if window_rows < n_rows else n_blocks + 1
    order, seed = rng.permutation(n_blocks), int(rng.integers(2**63))
    begins = np.append(order, n_blocks)[:, None] * block + [0, block]
    begins[-1, 1] = n_rows
    batches = per_window * block // batch_size
    for number in range(start // batches, ceil(len(begins) / per_window)):
        blocks = begins[number * per_window : (number + 1) * per_window]
        positions = np.random.default_rng([seed, number]).permutation(int(np.diff(blocks).sum()))
        ahead = start - number * batches
        first = ahead if ahead >= 0 else ahead % stride
        cuts = range(first * batch_size, len(positions), stride * batch_size)
        yield Window(blocks, [positions[at : at + batch_size] for at in cuts])
