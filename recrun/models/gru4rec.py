"""GRU4Rec: a recurrent network that reads a session and scores what comes next.

Hidasi, Karatzoglou, Baltrunas, Tikk: Session-based Recommendations with Recurrent Neural Networks, ICLR 2016.
Hidasi, Karatzoglou: Recurrent Neural Networks with Top-k Gains for Session-based Recommendations, CIKM 2018.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recrun.optim.row_gradients import Rows
from recrun.types import Batch, Count, Counts, FromData, Probability

aten = torch.ops.aten


class GRU4Rec(nn.Module):
    """GRU layers over the items of a session; an output layer over the catalogue.

    In training a batch is a step of many sessions side by side, or a few steps. Each slot's hidden state is carried
    from batch to batch, without gradient, and is zero where a session begins; within a batch gradients go back in time.

    Args:
        n_items: Items in the catalogue.
        layers: Widths of the GRU layers.
        embedding: `shared`: an item's input is its row of the output layer. `separate`: a table of its own.
            `one_hot`: the first layer's input matrix has a row of 3 * layers[0] per item.
        embedding_size: Width of a separate embedding; None = layers[0].
        dropout_embedding: Of the input.
        dropout_hidden: Of each layer's output, which is also what is carried on.
    """

    kind: ClassVar[str] = "session_parallel"
    encodes_sequences: ClassVar[bool] = True

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        layers: Counts = (100,),
        embedding: Literal["shared", "separate", "one_hot"] = "shared",
        embedding_size: Count | None = None,
        dropout_embedding: Probability = 0.0,
        dropout_hidden: Probability = 0.0,
    ) -> None:
        super().__init__()
        self.embedding_mode = embedding
        self.dropout_embedding, self.dropout_hidden = dropout_embedding, dropout_hidden
        self.output = nn.Parameter(glorot(n_items, layers[-1]))
        self.bias = nn.Parameter(torch.zeros(n_items))
        width = {"shared": layers[-1], "separate": embedding_size or layers[0], "one_hot": 0}[embedding]
        if embedding == "separate":
            self.embedding = nn.Parameter(glorot(n_items, width))
        if embedding == "one_hot":
            self.embedding = nn.Parameter(torch.cat([glorot(n_items, layers[0]) for _ in range(3)], 1))
        self.cells = nn.ModuleList(GRU(before, after) for before, after in zip([width, *layers], layers, strict=False))

    def advance(self, batch: Batch, rows: Rows | None = None) -> Tensor:
        """The steps of the sessions of a training batch: the last layer's states, float [B, D].

        Args:
            batch: See recrun.data.loaders.session_parallel.
            rows: Rows of the output layer of the batch's `items`, if they are at hand.
        """
        if self.embedding_mode == "shared" and rows is not None:
            x_B = rows.look_up(batch["input"])
        else:
            x_B = self.look_up(batch["items"][batch["input"]])
        x_B = self.drop(x_B, self.dropout_embedding)
        sizes = batch["step_groups"].tolist() if "step_groups" in batch else [len(x_B)]
        for cell in self.cells:
            assert isinstance(cell, GRU)
            x_B = self.unrolled(cell, x_B, batch, sizes)
        return x_B

    def unrolled(self, cell: GRU, x_B: Tensor, batch: Batch, sizes: list[int]) -> Tensor:
        """What a layer makes of the steps of a batch, one after the other."""
        state, found = cell.begin(sizes[0]), []
        whole = (x_B, batch["slot"], batch["first"])
        parts = (values.split_with_sizes(sizes) if len(sizes) > 1 else [values] for values in whole)
        for x, slot, first in zip(*parts, strict=True):
            after = self.drop(cell(x, cell.carried(state, slot, first)), self.dropout_hidden)
            state = after if len(slot) == len(state) else state.index_copy(0, slot, after.to(state.dtype))
            found.append(after)
        cell.state = state.detach().to(cell.state.dtype)
        return found[0] if len(found) == 1 else torch.cat(found)

    def drop(self, x: Tensor, share: float) -> Tensor:
        """Inverted dropout in training; torch's own draws its mask several times slower on a CPU."""
        if not self.training or share == 0:
            return x
        return x * torch.rand_like(x).ge_(share).mul_(1 / (1 - share))

    def look_up(self, items_N: Tensor) -> Tensor:
        """The network's input for items: [N, width], or gates [N, 3 * layers[0]] if `one_hot`."""
        if self.embedding_mode == "shared":
            return F.embedding(items_N, self.output)
        return F.embedding(items_N, self.embedding, sparse=True)

    def encode_sequences(self, batch: Batch) -> Tensor:
        """States after every event of whole sessions, float [N, D]; `items` of the batch is ragged."""
        offsets = batch["items_offsets"]
        lengths, order = offsets.diff().sort(descending=True, stable=True)
        start, going = offsets[:-1][order], going_at_each_step(lengths)
        x_N = self.look_up(batch["items"])
        for cell in self.cells:
            assert isinstance(cell, GRU)
            gates_N = cell.gates(x_N)
            out_N = gates_N.new_empty(len(gates_N), cell.hidden_size)
            state = gates_N.new_zeros(len(lengths), cell.hidden_size)
            for step, count in enumerate(going):
                rows = start[:count] + step
                state = cell.update(gates_N[rows], state[:count])
                out_N[rows] = state
            x_N = out_N
        return x_N

    def score(self, hidden_BD: Tensor) -> Tensor:
        """Scores of all items from the last layer's states, float32 [B, I] also under autocast: 16 bits would tie."""
        with torch.autocast(hidden_BD.device.type, enabled=False):
            return torch.addmm(self.bias, hidden_BD.float(), self.output.t())

    def forward(self, batch: Batch) -> Tensor:
        """Scores of all items after the last event of each session, float [B, I]."""
        return self.score(self.embed_users(batch))

    def embed_users(self, batch: Batch) -> Tensor:
        """States after the last event of each session, [B, D]; times an item's vector, plus its bias, is a score."""
        return self.encode_sequences(batch)[batch["items_offsets"][1:] - 1]

    def embed_items(self, batch: Batch) -> Tensor:
        """Output rows of the items in `batch["item"]`."""
        return self.output[batch["item"]]

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item for each session, float [B]."""
        return (self.embed_users(batch) * self.output[items_B]).sum(1) + self.bias[items_B]


class GRU(nn.Module):
    """A GRU layer of which one step is taken at a time; `n = tanh(W x + b + r * (V h + c))`, as in torch.nn.GRU.

    Args:
        input_size: Width of the input; 0 if the input is the gates' share already.
        hidden_size: Width of the state.
    """

    state: Tensor

    carries: ClassVar[tuple[str, ...]] = ("state",)  # held by a checkpoint to resume from

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        blocks = [glorot(hidden_size, input_size) for _ in range(3)]
        self.weight_ih = nn.Parameter(torch.cat(blocks)) if input_size else None
        self.weight_hh = nn.Parameter(torch.cat([glorot(hidden_size, hidden_size) for _ in range(3)]))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size))
        # Of each slot, [slots, H]. No weight; see `carries`.
        self.register_buffer("state", torch.zeros(0, hidden_size), persistent=False)

    def forward(self, x: Tensor, before_BH: Tensor) -> Tensor:
        """The state after an input, [B, H]."""
        weights = (self.weight_ih, self.bias_ih, self.weight_hh, self.bias_hh)
        after_BH: Tensor = _Step.apply(x, before_BH, *weights)  # type: ignore[no-untyped-call]
        return after_BH

    def gates(self, x: Tensor) -> Tensor:
        """What an input contributes to the gates r, z and n: [B, 3H]."""
        return x + self.bias_ih if self.weight_ih is None else F.linear(x, self.weight_ih, self.bias_ih)

    def update(self, gates: Tensor, before_BH: Tensor) -> Tensor:
        """The state after an input that contributes `gates` [B, 3H]."""
        return _after(gates, F.linear(before_BH, self.weight_hh, self.bias_hh), before_BH)[0]

    def begin(self, slots: int) -> Tensor:
        """Each slot's state before a batch, [slots, H]; zero before the first one."""
        if len(self.state) < slots:
            self.state = self.weight_hh.new_zeros(slots, self.hidden_size)
        return self.state

    def carried(self, state: Tensor, slot_B: Tensor, first_B: Tensor) -> Tensor:
        """The states of some slots, zero where a session begins."""
        state_BH = state if len(state) == len(slot_B) else state.index_select(0, slot_B)
        return state_BH.masked_fill(first_B[:, None], 0)


def _after(gates: Tensor, recurrent: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The state after a step, the open gates r and z side by side, and the candidate n."""
    width = h.shape[1]
    (outer, outer_n), (inner, inner_n) = (x.split_with_sizes([2 * width, width], 1) for x in (gates, recurrent))
    opened = (outer + inner).sigmoid_()
    r, z = opened.chunk(2, 1)
    n = torch.addcmul(outer_n, r, inner_n).tanh_()
    return torch.lerp(n, h.to(n.dtype), z), opened, n


class _Step(torch.autograd.Function):
    """A GRU step; its gradient by hand costs a third of what autograd takes for it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, weight_ih: Tensor | None, bias_ih: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> Tensor:
        gates = x + bias_ih if weight_ih is None else F.linear(x, weight_ih, bias_ih)
        recurrent = F.linear(h, weight_hh, bias_hh)
        after, opened, n = _after(gates, recurrent, h)
        ctx.save_for_backward(x, h, weight_ih, weight_hh, opened, n, recurrent)
        return after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, h, weight_ih, weight_hh, opened, n, recurrent = ctx.saved_tensors
        width, kind = n.shape[1], n.dtype
        (r, z), state = opened.chunk(2, 1), h.to(kind)
        gates, both = torch.empty_like(recurrent), torch.empty_like(opened)
        first, last = gates.split_with_sizes([2 * width, width], 1)
        aten.tanh_backward.grad_input(torch.addcmul(grad, grad, z, value=-1), n, grad_input=last)
        torch.mul(last, recurrent[:, 2 * width :], out=both[:, :width])
        torch.mul(grad, state - n, out=both[:, width:])
        aten.sigmoid_backward.grad_input(both, opened, grad_input=first)
        of_x = gates.clone() if weight_ih is None else gates @ weight_ih.to(kind)
        of_ih = None if weight_ih is None else (gates.t() @ x.to(kind)).to(weight_ih.dtype)
        of_bias = gates.sum(0).to(weight_hh.dtype)
        last.mul_(r)  # from here on the gates are those of the recurrent part
        of_h = torch.addmm(grad * z, gates, weight_hh.to(kind)).to(h.dtype) if ctx.needs_input_grad[1] else None
        of_hh = (gates.t() @ state).to(weight_hh.dtype)
        return of_x, of_h, of_ih, of_bias, of_hh, gates.sum(0).to(weight_hh.dtype)


def glorot(rows: int, columns: int) -> Tensor:
    """Uniform in +-sqrt(6 / (rows + columns)), [rows, columns]; of stacked gates each block is its own matrix."""
    return torch.empty(rows, columns).uniform_(-1, 1) * math.sqrt(6 / (rows + columns))


def going_at_each_step(lengths: Tensor) -> list[int]:
    """How many of sessions sorted by length, longest first, have more events than 0, 1, 2, ...: waits for a GPU."""
    longest = int(lengths[0]) if len(lengths) else 0
    ended = torch.bincount(lengths, minlength=longest + 1).cumsum(0)
    return [len(lengths) - count for count in ended[:longest].tolist()]
