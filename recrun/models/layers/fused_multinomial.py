"""Linear decoder, multinomial likelihood and ranking, fused: no matrix of users x items outlives its block.

A user's items are a ragged field: flat `items_N` and `offsets` (int64 [B + 1]). An item occurs once per user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recrun.evaluation.top_k import top_k
from recrun.runtime.device import product_dtype

# Bytes of a block of logits. Blocks of some 500 rows keep matrix products fast; larger ones gain nothing.
BLOCK_BYTES = {"cpu": 48 << 20, "cuda": 1 << 30}

# (nll of some users [R], which users of the batch) -> their losses [R], differentiable in the first argument.
RowLoss: TypeAlias = Callable[[Tensor, slice], Tensor]


class Decoded(NamedTuple):
    """What one pass over the catalogue yields.

    Attributes:
        loss: Mean over the users of their row loss, a scalar that carries gradients.
        nll_B: Negative log-likelihood per user, without gradients.
        ndcg_B: NDCG@k per user, without gradients; empty if it was not asked for.
    """

    loss: Tensor
    nll_B: Tensor
    ndcg_B: Tensor


def decode(
    hidden_BH: Tensor,
    weight_IH: Tensor,
    bias_I: Tensor,
    items_N: Tensor,
    offsets: Tensor,
    *,
    row_loss: RowLoss | None = None,
    kept_N: Tensor | None = None,
    k: int = 0,
) -> Decoded:
    """Likelihood of each user's items under softmax(hidden W' + b), and the NDCG@k of the same logits.

    `nll_u = n_u logsumexp(logits_u) - sum of the logits of u's items`. Gradients are computed in the same pass,
    in the block of logits itself, so logits are neither stored nor computed twice; products run in the autocast
    type, the log-sum-exp and all sums in the type of the weights.

    Args:
        hidden_BH: Input of the decoder.
        weight_IH: Its weights.
        bias_I: Its biases.
        items_N: The users' items.
        offsets: Where each user's items begin and end.
        row_loss: What is minimised, as a function of the nll; None for the nll itself.
        kept_N: With it, NDCG@k is computed: bool, the items that the model saw; the others are to be found.
        k: Length of the ranking.
    """
    rows = RaggedCells.of(items_N, offsets, len(weight_IH))
    tensors = (hidden_BH, weight_IH, bias_I)
    work = _Work(rows, row_loss, kept_N, k, product_dtype(weight_IH))
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return Decoded(*_Decode.apply(*tensors, work))  # type: ignore[no-untyped-call]
    with torch.no_grad(), torch.autocast(hidden_BH.device.type, enabled=False):
        return Decoded(*work.run(*tensors, None))


def held_out_ndcg(logits_BI: Tensor, items_N: Tensor, offsets: Tensor, kept_N: Tensor, k: int) -> Tensor:
    """Binary NDCG@k of each user's held-out items among all items but the kept ones, float [B].

    `IDCG = max(0.1, sum_{r <= min(held out, k)} 1 / log2(r + 1))`, so a user with nothing held out gets 0.
    Equal logits rank in catalogue order. The logits are overwritten for a moment and end unchanged.

    Args:
        logits_BI: Scores of all items, contiguous.
        items_N: The users' items.
        offsets: Where each user's items begin and end.
        kept_N: bool, whether an item was part of the input; the others are held out.
        k: Length of the ranking.
    """
    return _ndcg(logits_BI, RaggedCells.of(items_N, offsets, logits_BI.shape[1]), kept_N, k)


def bag(items_N: Tensor, offsets: Tensor, values_N: Tensor, table_IH: Tensor) -> Tensor:
    """Each user's sum of value * table row, [B, H]: a sparse matrix times the table. Values get no gradient."""
    if items_N.device.type == "cpu":  # looking for the zeros costs nothing here, and would wait for a GPU
        used = values_N != 0
        offsets = F.pad(used.cumsum(0), (1, 0))[offsets]
        items_N, values_N = items_N[used], values_N[used]
    with torch.autocast(items_N.device.type, enabled=False):
        return F.embedding_bag(
            items_N,
            table_IH,
            offsets,
            mode="sum",
            per_sample_weights=values_N.to(table_IH.dtype),
            include_last_offset=True,
        )


@dataclass(frozen=True)
class RaggedCells:
    """A ragged field of a batch, prepared once: which cell of the [B, I] matrix each flat entry is."""

    cell_N: Tensor
    offsets: Tensor
    lengths_B: Tensor
    n_items: int

    @classmethod
    def of(cls, items_N: Tensor, offsets: Tensor, n_items: int) -> RaggedCells:
        """Lays out flat items and their offsets."""
        lengths_B = offsets.diff()
        return cls(row_of(offsets, len(items_N)) * n_items + items_N, offsets, lengths_B, n_items)

    def blocks(self) -> Iterator[tuple[slice, slice, RaggedCells]]:
        """Equal blocks of rows under the memory budget: (rows, their flat entries, the block's own cells)."""
        total, device = len(self.lengths_B), self.offsets.device.type
        budget = BLOCK_BYTES.get(device, BLOCK_BYTES["cuda"])
        n_blocks = max(1, math.ceil(total * self.n_items * 4 / budget))
        size = max(1, math.ceil(total / n_blocks))
        if size >= total:  # nothing to look up: a GPU is not waited for
            yield slice(0, total), slice(0, len(self.cell_N)), self
            return
        bounds = self.offsets.tolist()
        for start in range(0, total, size):
            stop = min(start + size, total)
            flat = slice(bounds[start], bounds[stop])
            offsets = self.offsets[start : stop + 1] - bounds[start]
            cells = self.cell_N[flat] - start * self.n_items
            yield slice(start, stop), flat, RaggedCells(cells, offsets, self.lengths_B[start:stop], self.n_items)


def row_sums(values_N: Tensor, offsets: Tensor) -> Tensor:
    """Sum of the flat values of each row, [B]; the same on every call, 0 for an empty row."""
    return torch.segment_reduce(values_N, "sum", offsets=offsets, initial=0, unsafe=True)


def row_of(offsets: Tensor, length: int) -> Tensor:
    """The row of each of the `length` flat values, int64 [N], without waiting for a GPU."""
    index = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(index, offsets.diff(), output_size=length)


class _Decode(torch.autograd.Function):
    """Hands out the gradients that the forward pass computed."""

    @staticmethod
    def forward(ctx: Any, hidden_BH: Tensor, weight_IH: Tensor, bias_I: Tensor, work: _Work) -> Any:
        with torch.autocast(hidden_BH.device.type, enabled=False):
            gradients = _Gradients(hidden_BH, weight_IH, bias_I)
            loss, nll_B, ndcg_B = work.run(hidden_BH, weight_IH, bias_I, gradients)
        ctx.gradients = (gradients.hidden_BH, gradients.weight_IH, gradients.bias_I)
        ctx.mark_non_differentiable(nll_B, ndcg_B)
        return loss, nll_B, ndcg_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Any) -> tuple[Any, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # so that they become `grad` without a copy
        if gradients is None:
            raise RuntimeError("decode's gradients can be taken once: add the losses before backward()")
        if grad_loss.device.type != "cpu" or grad_loss.item() != 1:
            for gradient in gradients:
                gradient.mul_(grad_loss)
        return *gradients, None


@dataclass(frozen=True)
class _Work:
    """One decoding: everything but the tensors that are differentiated."""

    rows: RaggedCells
    row_loss: RowLoss | None
    kept_N: Tensor | None
    k: int
    dtype: torch.dtype

    def run(
        self, hidden_BH: Tensor, weight_IH: Tensor, bias_I: Tensor, gradients: _Gradients | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Goes through the blocks of rows: loss, nll_B, ndcg_B; adds to the gradients, if there are any."""
        hidden_BH, weight_IH = hidden_BH.to(self.dtype), weight_IH.to(self.dtype)
        nll_B, loss_B, ndcg_B = (bias_I.new_zeros(len(hidden_BH)) for _ in range(3))
        for block, flat, rows in self.rows.blocks():
            logits = _logits(hidden_BH[block], weight_IH, bias_I)
            if self.kept_N is not None:
                ndcg_B[block] = _ndcg(logits, rows, self.kept_N[flat], self.k)
            torch.log_softmax(logits, 1, out=logits)
            nll_B[block] = -row_sums(logits.view(-1)[rows.cell_N], rows.offsets)
            loss_B[block], slope = self.row_losses(nll_B[block], block)
            if gradients is not None:
                _softmax_minus_share(logits, rows)
                gradients.add(block, logits, slope * rows.lengths_B / len(hidden_BH), hidden_BH, weight_IH)
        return loss_B.mean(), nll_B, ndcg_B[:0] if self.kept_N is None else ndcg_B

    def row_losses(self, nll: Tensor, block: slice) -> tuple[Tensor, Tensor]:
        """Losses of some users and their derivatives in the nll."""
        if self.row_loss is None:
            return nll, torch.ones_like(nll)
        with torch.enable_grad():
            nll = nll.detach().requires_grad_()
            losses = self.row_loss(nll, block)
            (slope,) = torch.autograd.grad(losses.sum(), nll)
        return losses.detach(), slope


class _Gradients:
    """Gradients of the decoder, added up block by block.

    The gradient in the logits is `scale_u (softmax(logits_u) - x_u / n_u)`; the scale multiplies the narrow
    factors of the products, never the block.
    """

    def __init__(self, hidden_BH: Tensor, weight_IH: Tensor, bias_I: Tensor) -> None:
        self.hidden_BH, self.weight_IH = torch.empty_like(hidden_BH), torch.empty_like(weight_IH)
        self.bias_I = torch.zeros_like(bias_I)
        self.started = False

    def add(self, block: slice, residual: Tensor, scale: Tensor, hidden_BH: Tensor, weight_IH: Tensor) -> None:
        """Adds a block's part; `residual` is softmax minus share, [R, I], and `scale` is [R]."""
        narrow = residual.to(weight_IH.dtype)
        self.hidden_BH[block] = (narrow @ weight_IH) * scale[:, None]
        weighted = (hidden_BH[block] * scale[:, None]).to(weight_IH.dtype)
        _accumulate(self.weight_IH, narrow.t(), weighted, self.started)
        self.bias_I += torch.mv(residual.t(), scale)
        self.started = True


def _accumulate(total: Tensor, left: Tensor, right: Tensor, started: bool) -> None:
    """total += left @ right, or total = left @ right the first time: no pass over memory for zeros."""
    if left.dtype != total.dtype:
        product = left @ right
        _ = total.add_(product) if started else total.copy_(product)
    elif started:
        total.addmm_(left, right)
    else:
        torch.mm(left, right, out=total)


def _logits(hidden: Tensor, weight_IH: Tensor, bias_I: Tensor) -> Tensor:
    """hidden W' + b in the type of the biases, in memory that the next block uses again."""
    if hidden.dtype != bias_I.dtype:
        return (hidden @ weight_IH.t()).to(bias_I.dtype).add_(bias_I)
    out = _scratch((len(hidden), len(weight_IH)), bias_I.dtype, bias_I.device)
    return torch.addmm(bias_I, hidden, weight_IH.t(), out=out)


@lru_cache(maxsize=1)
def _scratch(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A block of logits. Kept, because fresh pages of memory cost as much as three passes over them."""
    with torch.inference_mode(False):
        return torch.empty(shape, dtype=dtype, device=device)


def _softmax_minus_share(log_softmax: Tensor, rows: RaggedCells) -> None:
    """exp(log_softmax) - x / n in place, x the 0/1 row of a user's n items."""
    log_softmax.exp_()
    share_B = -1 / rows.lengths_B.to(log_softmax.dtype)
    share_N = torch.repeat_interleave(share_B, rows.lengths_B, output_size=len(rows.cell_N))
    log_softmax.view(-1).index_add_(0, rows.cell_N, share_N)


def _ndcg(logits: Tensor, rows: RaggedCells, kept_N: Tensor, k: int) -> Tensor:
    """`held_out_ndcg` of a block. Held-out items are recognised by an infinity written over their logits."""
    cells = logits.view(-1)
    own = cells[rows.cell_N]
    cells[rows.cell_N] = own.masked_fill(kept_N, -torch.inf)
    best_RK = top_k(logits, k)
    cells[rows.cell_N] = own.masked_fill(~kept_N, torch.inf)
    hits_RK = logits.gather(1, best_RK) == torch.inf
    cells[rows.cell_N] = own
    discounts_K = 1 / torch.log2(torch.arange(2, k + 2, device=logits.device, dtype=logits.dtype))
    ideal_K = F.pad(discounts_K.cumsum(0), (1, 0)).clamp(min=0.1)
    held_out = row_sums((~kept_N).to(logits.dtype), rows.offsets).long().clamp(max=k)
    return hits_RK.to(logits.dtype) @ discounts_K[: hits_RK.shape[1]] / ideal_K[held_out]
