"""Attention within rows of different lengths, fast where rows are many and short.

Entries of a row point to a table, in which what is computed for an entry alone is computed once. Rows of equal length
form a block, which needs neither padding nor mask. Between the two attentions a block holds its rows side by side,
position by position, [length, n, H]: each head's queries, keys and values then lie at a constant distance from the
next head's, and one batched product serves all heads of all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Groups: TypeAlias = list[tuple[int, int]]  # how many rows there are of each length

BLOCK_ENTRIES = 512  # of a block: what fits a cache
PART_ENTRIES = 1 << 14  # that an evaluation works on at a time


class AttentiveEncoder(nn.Module):
    """Multi-head self-attention over a row's entries, then their mean weighted by additive attention.

    Args:
        width: Of the entries.
        head_num, head_dim: Of the self-attention; no bias, no output projection.
        hidden: Hidden width of the additive attention.
        dropout: Between the two.
    """

    def __init__(self, width: int, head_num: int, head_dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.head_num, self.head_dim, self.dropout = head_num, head_dim, dropout
        parts = [nn.init.xavier_uniform_(torch.empty(width, head_num * head_dim)) for _ in range(3)]
        self.qkv_WX = nn.Parameter(torch.cat(parts, 1))  # queries, keys and values in one product
        self.hidden = nn.Linear(head_num * head_dim, hidden)
        self.query_D = nn.Parameter(nn.init.xavier_uniform_(torch.empty(hidden, 1)).squeeze(1))
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)

    def forward(self, table_VW: Tensor, index_N: Tensor, groups: Groups) -> Tensor:
        """Vectors of rows, [rows, H].

        Args:
            table_VW: What the rows' entries point to.
            index_N: The entries, row by row, the rows ordered by length.
            groups: Of the rows.
        """
        projected_VX = table_VW @ self.qkv_WX
        size = max(1, len(index_N)) if torch.is_grad_enabled() else PART_ENTRIES
        found = [self.encode(projected_VX, index, blocks) for index, blocks in chunks_of_rows(index_N, groups, size)]
        return torch.cat(found) if found else self.query_D.new_zeros(0, self.head_num * self.head_dim)

    def encode(self, projected_VX: Tensor, index_N: Tensor, blocks: Groups) -> Tensor:
        """Vectors of some rows, [rows, H], from the queries, keys and values of the table."""
        mixed_NH = drop_(self.attend(projected_VX, index_N, blocks), self.dropout if self.training else 0.0)
        logits_N = self.hidden(mixed_NH).tanh_() @ self.query_D
        mean_RH: Tensor = WeightedMean.apply(logits_N, mixed_NH, blocks)  # type: ignore[no-untyped-call]
        return mean_RH

    def attend(self, projected_VX: Tensor, index_N: Tensor, blocks: Groups) -> Tensor:
        """Scaled dot-product attention among the entries of each row, [N, H], position by position."""
        if projected_VX.device.type == "cpu" and projected_VX.dtype == torch.float32:
            mixed_NH: Tensor = SelfAttention.apply(projected_VX, index_N, blocks, self.head_num)  # type: ignore[no-untyped-call]
            return mixed_NH
        found = []
        for at, n, length in slices(blocks):
            entries = projected_VX[index_N[at]].view(n, length, 3, self.head_num, self.head_dim)
            mixed = F.scaled_dot_product_attention(*entries.permute(2, 0, 3, 1, 4))
            found.append(mixed.permute(2, 0, 1, 3).reshape(length * n, -1))
        return torch.cat(found)


class SelfAttention(torch.autograd.Function):
    """Multi-head attention on a CPU. There `scaled_dot_product_attention` takes each head of each row by itself."""

    @staticmethod
    def forward(ctx: Any, projected_VX: Tensor, index_N: Tensor, blocks: Groups, heads: int) -> Tensor:
        """As `AttentiveEncoder.attend`, with the number of heads; [N, H]."""
        table, rows = projected_VX.view(3 * len(projected_VX), -1), table_rows(index_N, blocks)
        mixed_NH = table.new_empty(len(index_N), table.shape[1])
        weights = []
        for at, n, length in slices(blocks):
            query, key, value = by_head(table.index_select(0, rows[3 * at.start : 3 * at.stop]), length, n * heads)
            key = key.transpose(1, 2).contiguous().mul_(query.shape[2] ** -0.5)
            weight = softmax_(torch.bmm(query, key))
            mixed_NH[at].view(length, n * heads, -1).copy_(torch.bmm(weight, value).transpose(0, 1))
            weights.append(weight)
        ctx.save_for_backward(table, rows, *weights)
        ctx.blocks, ctx.heads = blocks, heads
        return mixed_NH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_NH: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of the table."""
        table, rows, *weights = ctx.saved_tensors
        grad_NH, grad_table = grad_NH.contiguous(), torch.zeros_like(table)
        for (at, n, length), weight in zip(slices(ctx.blocks), weights, strict=True):
            here = rows[3 * at.start : 3 * at.stop]
            query, key, value = by_head(table.index_select(0, here), length, n * ctx.heads)
            grads = table.new_empty(len(here), table.shape[1])
            grad_query, grad_key, grad_value = by_head(grads, length, n * ctx.heads)
            grad = grad_NH[at].view(length, n * ctx.heads, -1).transpose(0, 1)
            grad_value.copy_(torch.bmm(weight.transpose(1, 2), grad))
            change = torch.bmm(grad, value.transpose(1, 2).contiguous()).mul_(weight)
            change.addcmul_(weight, change.sum(2, keepdim=True), value=-1).mul_(query.shape[2] ** -0.5)
            grad_query.copy_(torch.bmm(change, key))
            grad_key.copy_(torch.bmm(change.transpose(1, 2), query))
            grad_table.index_add_(0, here, grads)
        return grad_table.view(len(table) // 3, -1), None, None, None


class WeightedMean(torch.autograd.Function):
    """Means of the rows' entries, weighted by a softmax over each row: one step of the graph for all blocks."""

    @staticmethod
    def forward(ctx: Any, logits_N: Tensor, entries_NH: Tensor, blocks: Groups) -> Tensor:
        """Means, [rows, H], of entries that lie position by position."""
        weight_N = torch.empty_like(logits_N)
        mean_RH = entries_NH.new_empty(sum(n for n, _ in blocks), entries_NH.shape[1])
        means = torch.split(mean_RH, [n for n, _ in blocks])
        for (at, n, length), mean in zip(slices(blocks), means, strict=True):
            weight = torch.softmax(logits_N[at].view(length, n), 0, out=weight_N[at].view(length, n))
            entries = entries_NH[at].view(length, n, -1).transpose(0, 1)
            torch.bmm(weight.t().contiguous()[:, None], entries, out=mean[:, None])
        ctx.save_for_backward(weight_N, entries_NH)
        ctx.blocks = blocks
        return mean_RH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_RH: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of logits and entries."""
        weight_N, entries_NH = ctx.saved_tensors
        grad_N, grad_NH = torch.empty_like(weight_N), torch.empty_like(entries_NH)
        grads = torch.split(grad_RH, [n for n, _ in ctx.blocks])
        for (at, n, length), grad in zip(slices(ctx.blocks), grads, strict=True):
            weight, entries = weight_N[at].view(length, n), entries_NH[at].view(length, n, -1)
            torch.mul(weight[:, :, None], grad, out=grad_NH[at].view(length, n, -1))
            change = torch.bmm(entries.transpose(0, 1), grad[:, :, None]).squeeze(2).t() * weight
            torch.addcmul(change, weight, change.sum(0), value=-1, out=grad_N[at].view(length, n))
        return grad_N, grad_NH, None


def drop_(values: Tensor, rate: float) -> Tensor:
    """Dropout in place. On a CPU four entries share a random number: drawing them would take a tenth of a step."""
    if rate == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, rate, inplace=True)
    words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    least = round(rate * 2**16)
    kept = torch.empty(values.shape, dtype=values.dtype)
    torch.ge(words.view(torch.int16)[: values.numel()].view(values.shape), least - 2**15, out=kept)
    return values.mul_(kept.mul_(2**16 / (2**16 - least)))


def softmax_(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, in place; several times faster than torch's for a dozen entries."""
    scores.sub_(scores.amax(2, keepdim=True)).exp_()
    return scores.div_(scores.sum(2, keepdim=True))


def table_rows(index_N: Tensor, blocks: Groups) -> Tensor:
    """Rows of a table whose queries, keys and values are rows of their own: [3, length, n] of each block, flat."""
    three = torch.arange(3)[:, None, None]
    found = [(index_N[at].view(n, length).t() * 3 + three).flatten() for at, n, length in slices(blocks)]
    return torch.cat(found)


def by_head(entries: Tensor, length: int, n: int) -> tuple[Tensor, ...]:
    """Views of queries, keys and values that lie position by position, [n, length, D] each."""
    return entries.view(3, length, n, -1).transpose(1, 2).unbind(0)


def slices(blocks: Groups) -> Iterator[tuple[slice, int, int]]:
    """Where each block's entries are, how many rows it has, and how long they are."""
    first = 0
    for n, length in blocks:
        yield slice(first, first + n * length), n, length
        first += n * length


def chunks_of_rows(index_N: Tensor, groups: Groups, size: int) -> Iterator[tuple[Tensor, Groups]]:
    """Entries and blocks of all rows, in chunks of about `size` entries."""
    blocks: Groups = []
    first = last = 0
    for n, length in groups:
        step = max(1, BLOCK_ENTRIES // length)
        for rows in (min(step, n - at) for at in range(0, n, step)):
            blocks.append((rows, length))
            last += rows * length
            if last - first >= size:
                yield index_N[first:last], blocks
                blocks, first = [], last
    if blocks:
        yield index_N[first:last], blocks
