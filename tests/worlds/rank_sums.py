"""One rank of three with gradients of every form; tests/test_ranks.py starts it and works the means out by hand.

Rank r has so many units and terms of its losses as UNITS and TERMS say; what `average` leaves is written to
<folder>/<rank>.pt.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from recrun.runtime.launch import joined

UNITS, TERMS = [20, 30, 0], [3, 1, 0]


def parameters_of(rank):
    """Dense on all ranks, dense on rank 1 alone, on none, and rows of a table, the last two each with its own."""
    dense, sometimes, never, table, rows = (nn.Parameter(torch.zeros(shape)) for shape in [2, 1, 3, (5, 2), 4])
    if UNITS[rank]:
        dense.grad = torch.tensor([1.0, 10.0]) * (rank + 1)
        index = torch.tensor([[4, 1, 4], [0, 1, 1]][rank])
        table.grad = sparse(index, torch.ones(3, 2) * (rank + 1), (5, 2))
        rows.grad = sparse(torch.tensor([2]), torch.ones(1), (4,)) if rank == 0 else None
    if rank == 1:
        sometimes.grad = torch.tensor([8.0])
    return [dense, sometimes, never, table, rows]


def sparse(index, values, shape):
    """A gradient of some rows."""
    return torch.sparse_coo_tensor(index[None], values, shape, check_invariants=True)


def take_part(ranks, folder):
    """What a rank does with each of the operations."""
    parameters = parameters_of(ranks.rank)
    losses = {"a": torch.tensor(4.0 if UNITS[ranks.rank] else 0.0), "b": torch.tensor(2.0 * ranks.rank)}
    means, units = ranks.average(parameters, losses, UNITS[ranks.rank], TERMS[ranks.rank])
    found = {
        "gradients": [None if p.grad is None else p.grad.to_dense() for p in parameters],
        "sparse": [p.grad is not None and p.grad.is_sparse for p in parameters],
        "losses": means,
        "units": units,
        "agreed": ranks.agree(ranks.rank == 2, False),
        "first": ranks.from_first(lambda: f"of {ranks.rank}"),
        "gathered": ranks.gather(ranks.rank * 10),
        "in_step": list(ranks.in_step("xyz"[: 3 - ranks.rank])),
    }
    torch.save(found, Path(folder) / f"{ranks.rank}.pt")
    ranks.agree(True)


if __name__ == "__main__":
    folder, rank, size, meeting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with joined(rank, size, meeting, torch.device("cpu")) as ranks:
        take_part(ranks, folder)
