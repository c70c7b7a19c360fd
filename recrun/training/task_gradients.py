"""Gradients of several tasks in the same tensors: dense, or sparse with each row once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from recrun.optim.row_optimizers import coalesced


def moving(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those that this stage trains."""
    return [parameter for parameter in parameters if parameter.requires_grad]


def taken(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of parameters, which then have none; sparse ones with each row once."""
    grads = [None if parameter.grad is None else each_row_once(parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return grads


def same_rows(grads_T: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The tasks' gradients in one tensor; where they are sparse, each over the rows that any of them has."""
    sparse = [grad for grad in grads_T if grad is not None and grad.is_sparse]
    if all(equal(grad.indices(), sparse[0].indices()) for grad in sparse[1:]):
        return list(grads_T)
    nothing = torch.stack([grad * 0 for grad in sparse]).sum(0)
    filled = iter([(grad + nothing).coalesce() for grad in sparse])
    return [None if grad is None else next(filled) for grad in grads_T]


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers; at once where they are the same memory."""
    return a.is_set_to(b) or torch.equal(a, b)


def each_row_once(grad: Tensor) -> Tensor:
    """A gradient; a sparse one with distinct rows, so that its numbers are all that may differ from 0."""
    return coalesced(grad) if grad.is_sparse else grad


def values_of(grad: Tensor) -> Tensor:
    """A gradient's numbers: itself, or the rows of a sparse one."""
    return grad._values() if grad.is_sparse else grad


def with_rows(grad: Tensor, rows: Tensor) -> Tensor:
    """A gradient like another with other numbers."""
    if not grad.is_sparse:
        return rows
    return torch.sparse_coo_tensor(grad._indices(), rows, grad.shape, is_coalesced=True, check_invariants=False)
