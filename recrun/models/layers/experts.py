"""Networks of equal shape side by side, and gates that mix what they give.

All that reads a row's vector is one product: the first layers of all experts and the gates. From there on experts lie
side by side in the columns of one matrix, and each layer's products read and write their columns in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recrun.models.layers.mlp import SideBySide, finish, with_one
from recrun.runtime.device import product_dtype


class Experts(nn.Module):
    """E networks on the same input, a ReLU after each layer.

    Args:
        n_experts: E.
        width: Of a row's vectors, X.
        n_dense: How many numbers a row has besides, D.
        hidden: Units of each expert's layers; K of the last.
        dropout: Of the layers.
        batch_norm: Normalises the layers.
    """

    def __init__(
        self,
        n_experts: int,
        width: int,
        n_dense: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.first = SideBySide(width, n_dense, n_experts * hidden[0], not batch_norm)
        sizes = list(pairwise(hidden))
        self.weights = nn.ParameterList(uniform(before, n_experts, after, before) for before, after in sizes)
        with_bias = [] if batch_norm else sizes
        self.biases = nn.ParameterList(uniform(before, 1, n_experts * after) for before, after in with_bias)
        widths = [n_experts * size for size in hidden]
        self.finish = nn.ModuleList(nn.Sequential(*finish(width, dropout, batch_norm)) for width in widths)

    def forward(
        self, vectors_BX: Tensor, dense_BD: Tensor | None = None, gates: Sequence[SideBySide] = ()
    ) -> tuple[Tensor, Tensor]:
        """The experts' outputs, [B, E, K], and those of the gates side by side, [B, G]."""
        first_BY, gates_BG = self.products(vectors_BX, dense_BD, gates)
        hidden = self.finish[0](first_BY)
        one_B1 = vectors_BX.new_ones(len(vectors_BX), 1)
        biases = self.biases or [None] * len(self.weights)
        for weight_EKH, bias_1Y, finished in zip(self.weights, biases, [*self.finish][1:], strict=True):
            hidden = finished(linear(hidden, weight_EKH, one_B1, bias_1Y))
        return hidden.view(len(hidden), self.n_experts, -1), gates_BG

    def products(
        self, vectors_BX: Tensor, dense_BD: Tensor | None, gates: Sequence[SideBySide]
    ) -> tuple[Tensor, Tensor]:
        """Of all first layers, [B, E H], and of the gates, [B, G]."""
        layers, size = [self.first, *gates], len(self.first.of_vectors)
        numbers_BD = vectors_BX.new_ones(len(vectors_BX), 1) if dense_BD is None else with_one(dense_BD)
        of_vectors_YX = torch.cat([layer.of_vectors for layer in layers])
        of_numbers_DY = torch.cat([padded_weights(layer.of_numbers, numbers_BD.shape[1]) for layer in layers], 1)
        product_BY = linear(vectors_BX, of_vectors_YX[None], numbers_BD, of_numbers_DY)
        if not gates:
            return product_BY, product_BY[:, size:]
        first_BY, gates_BG = torch.split(product_BY, [size, product_BY.shape[1] - size], 1)
        return first_BY.contiguous(), gates_BG

    def last_weight(self) -> Tensor:
        """The weight of the last layer."""
        return self.weights[-1] if len(self.weights) else self.first.of_vectors


def padded_weights(weight_DY: Tensor, size: int) -> Tensor:
    """Weights of so many numbers, of which the last may have none, [size, Y]."""
    return weight_DY if len(weight_DY) == size else F.pad(weight_DY, (0, 0, 0, size - len(weight_DY)))


def linear(x: Tensor, weight_EKH: Tensor, numbers_BD: Tensor, of_numbers_DY: Tensor | None) -> Tensor:
    """E linear maps on E blocks of columns, [B, E H] to [B, E K].

    Its two nodes let the gradient in the weights alone, as GradNorm asks for it, do without that in the input.

    Args:
        x: [B, E H].
        weight_EKH: Of each block.
        numbers_BD: Further inputs, of all blocks and without gradient.
        of_numbers_DY: Their weights, if they have any; a bias is the weight of a number that is always 1.
    """
    dtype = product_dtype(x)
    x, weight_EKH = x.to(dtype), weight_EKH.to(dtype)
    numbers = (None, None) if of_numbers_DY is None else (numbers_BD.to(dtype), of_numbers_DY.to(dtype))
    product = _Product.apply(x, weight_EKH.detach())  # type: ignore[no-untyped-call]
    found: Tensor = _Sum.apply(product, x.detach(), weight_EKH, *numbers)  # type: ignore[no-untyped-call]
    return found


class _Product(torch.autograd.Function):
    """Products with the blocks of columns; has the gradient in the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_EKH: Tensor) -> Tensor:
        ctx.save_for_backward(weight_EKH)
        n, after, _ = weight_EKH.shape
        y = x.new_empty(len(x), n * after)
        for block, weight, out in zip(x.chunk(n, 1), weight_EKH, y.chunk(n, 1), strict=True):
            torch.mm(block, weight.t(), out=out)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight_EKH,) = ctx.saved_tensors
        n, _, before = weight_EKH.shape
        found = grad.new_empty(len(grad), n * before)
        for block, weight, out in zip(grad.chunk(n, 1), weight_EKH, found.chunk(n, 1), strict=True):
            torch.mm(block, weight, out=out)
        return found, None


class _Sum(torch.autograd.Function):
    """Adds the numbers to a product, where it is; has the gradient in the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        product_BY: Tensor,
        x: Tensor,
        weight_EKH: Tensor,
        numbers_BD: Tensor | None,
        of_numbers_DY: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight_EKH, numbers_BD)
        ctx.mark_dirty(product_BY)
        if numbers_BD is not None and of_numbers_DY is not None:
            product_BY.addmm_(numbers_BD, of_numbers_DY)
        return product_BY

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BY: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_EKH, numbers_BD = ctx.saved_tensors
        of_weight, n = torch.empty_like(weight_EKH), len(weight_EKH)
        for block, of_block, out in zip(x.chunk(n, 1), grad_BY.chunk(n, 1), of_weight, strict=True):
            torch.mm(of_block.t(), block, out=out)
        return grad_BY, None, of_weight, None, None if numbers_BD is None else numbers_BD.t() @ grad_BY


def mixtures(gates_BG: Tensor, n_mixtures: int, experts_BEK: Tensor) -> tuple[Tensor, ...]:
    """Of each of T mixtures the outputs of the same experts by the softmax of its gates, [B, K].

    The gates are those of one mixture after the other.
    """
    return torch.bmm(shares(gates_BG, n_mixtures), experts_BEK).unbind(1)


def mixture(gates_BE: Tensor, *groups: Tensor) -> Tensor:
    """The outputs of experts, in groups [B, n, K] that together are E, by the softmax of their gates, [B, K]."""
    share_BE = shares(gates_BE, 1).squeeze(1).to(groups[0].dtype)
    mixed: Tensor = _Mixture.apply(share_BE, *groups)  # type: ignore[no-untyped-call]
    return mixed


class _Mixture(torch.autograd.Function):
    """One expert after the other: a batched product takes four times as long for a single mixture of a few."""

    @staticmethod
    def forward(ctx: Any, share_BE: Tensor, *groups: Tensor) -> Tensor:
        ctx.save_for_backward(share_BE, *groups)
        experts = (expert_BK for group in groups for expert_BK in group.unbind(1))
        mixed_BK = torch.zeros_like(groups[0][:, 0])
        for share_B1, expert_BK in zip(torch.split(share_BE, 1, 1), experts, strict=True):
            mixed_BK.addcmul_(share_B1, expert_BK)
        return mixed_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BK: Tensor) -> tuple[Tensor, ...]:
        share_BE, *groups = ctx.saved_tensors
        found = [torch.empty_like(group) for group in groups]
        experts = (out_BK for out in found for out_BK in out.unbind(1))
        for share_B1, out_BK in zip(torch.split(share_BE, 1, 1), experts, strict=True):
            torch.mul(grad_BK, share_B1, out=out_BK)
        return torch.cat([group @ grad_BK[:, :, None] for group in groups], 1).squeeze(2), *found


def shares(gates_BG: Tensor, n_mixtures: int) -> Tensor:
    """What each expert counts in each of T mixtures, [B, T, E]: softmax over the mixture's gates."""
    found: Tensor = _Shares.apply(gates_BG, n_mixtures)  # type: ignore[no-untyped-call]
    return found


class _Shares(torch.autograd.Function):
    """Softmax, computed row by row of the transposed matrix: torch's takes four times as long for a few entries."""

    @staticmethod
    def forward(ctx: Any, gates_BG: Tensor, n_mixtures: int) -> Tensor:
        share_TEB = gates_BG.t().reshape(n_mixtures, -1, len(gates_BG)).softmax(1)
        ctx.save_for_backward(share_TEB)
        return share_TEB.permute(2, 0, 1).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTE: Tensor) -> tuple[Tensor, None]:
        (share_TEB,) = ctx.saved_tensors
        grad_TEB = share_TEB * grad_BTE.permute(1, 2, 0)
        return grad_TEB.sub_(share_TEB * grad_TEB.sum(1, keepdim=True)).flatten(0, 1).t(), None


def uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """A parameter that starts as `nn.Linear` would start it."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))
