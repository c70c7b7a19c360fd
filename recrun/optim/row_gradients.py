"""Rows of a table that a training step uses: taken out once, their gradients summed in one place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Rows:
    """Distinct rows of a table, whose gradient becomes the table's sparse gradient.

    Autograd would make a gradient of all the rows for each use of some of them, and then add them up.

    Attributes:
        table: The parameter, [N, ...].
        index_U: int64, distinct.
        values: The rows, [U, ...], without gradient. Our optimizers move them, and write them into the table.
        grad: Their gradient, as far as it is known; None = zero.
    """

    def __init__(self, table: nn.Parameter, index_U: Tensor) -> None:
        self.table, self.index_U = table, index_U
        self.values = table.detach().index_select(0, index_U)
        self.grad: Tensor | None = None

    def look_up(self, index_B: Tensor) -> Tensor:
        """Some of the rows, [B, ...], also several times; their gradient is added to `grad`."""
        found: Tensor = _LookUp.apply(self.table, self, index_B)  # type: ignore[no-untyped-call]
        return found

    def hand_over(self) -> None:
        """After the backward pass: adds the gradient to the table's."""
        if self.grad is None or not self.table.requires_grad:
            return
        grad = torch.sparse_coo_tensor(
            self.index_U[None], self.grad, self.table.shape, is_coalesced=True, check_invariants=False
        )
        grad.rows = self.values  # type: ignore[attr-defined]  # spares the optimizer looking them up again
        self.table.grad = grad if self.table.grad is None else self.table.grad + grad


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Rows, index_B: Tensor) -> Tensor:
        """The table is an argument so that there is a backward pass."""
        ctx.rows, ctx.index_B = rows, index_B
        return rows.values.index_select(0, index_B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        rows = ctx.rows
        if rows.grad is None:
            rows.grad = torch.zeros_like(rows.values)
        rows.grad.index_add_(0, ctx.index_B, grad)
        return None, None, None


def take_rows(table: Tensor, index_U: Tensor | None) -> Tensor:
    """Rows of a table, to be changed and put back; for None all of them, the table itself if it is contiguous."""
    return table.contiguous() if index_U is None else table.index_select(0, index_U)


def put_rows(table: Tensor, index_U: Tensor | None, rows: Tensor) -> None:
    """Writes rows that `take_rows` gave into their table, outside of autograd; `index_U` is distinct."""
    if index_U is None:
        if rows is not table:
            table.copy_(rows)
    elif table.device.type == "cpu":  # NumPy copies rows in half the time
        table.detach().numpy()[index_U.numpy()] = rows.numpy()
    else:
        table.index_copy_(0, index_U, rows)
