"""Losses of the next item against the others of the batch and against sampled ones, shared by all rows.

A column is one of the C distinct items at hand with its number of copies. Losses are those over every copy: the
other rows' targets and the drawn items, with repetition. Hidasi and Karatzoglou, CIKM 2018; https://arxiv.org/abs/1706.03847
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recrun.errors import ConfigError
from recrun.objectives import Objective
from recrun.types import Batch, NonNegative

EPSILON = 1e-24  # inside logarithms of shares


class Columns(NamedTuple):
    """What a loss knows besides the scores [B, C].

    Attributes:
        target_B: int64, each row's own column.
        in_batch_C, sampled_C: Copies of each column that are a row's target, and that were drawn.
        in_batch_q_C, sampled_q_C: Logarithms of the odds of being either.
    """

    target_B: Tensor
    in_batch_C: Tensor
    sampled_C: Tensor
    in_batch_q_C: Tensor
    sampled_q_C: Tensor

    @property
    def copies_C(self) -> Tensor:
        """Copies of each column."""
        return self.in_batch_C + self.sampled_C

    def own(self, values_BC: Tensor) -> Tensor:
        """Each row's value in its own column, [B, 1]."""
        return values_BC.gather(1, self.target_B[:, None])

    def add_own(self, values_BC: Tensor, own_B1: Tensor) -> Tensor:
        """Adds to each row's own column, in place."""
        return values_BC.scatter_add_(1, self.target_B[:, None], own_B1)

    def negatives(self, scores_BC: Tensor) -> Tensor:
        """Softmax of each row over the copies of all columns but its target, [B, C]."""
        copies = self.copies_C
        own = self.own(scores_BC) + (copies - 1).log()[self.target_B, None]
        logits = (scores_BC + copies.log()).scatter_(1, self.target_B[:, None], own)
        return torch.softmax(logits, 1)


class Sampled(Objective):
    """Base of the sampled losses: sum over the rows, weighted by the batch's `weight` (1 / slots).

    The gradients of loss and scores are computed in one pass and reach the output layer as rows, summed.
    """

    needs: ClassVar[tuple[str, ...]] = ("advance", "output", "bias")
    demands: ClassVar[dict[str, tuple[str, ...]]] = {
        "optimizer._target_": ("recrun.optim.RowAdagrad", "recrun.optim.RowSGD", "recrun.optim.RowAdam")
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One step of the sessions; {"loss": scalar}."""
        rows_UD = take_rows(model.output, batch["items"])
        bias_C = take_rows(model.bias, batch["items"][: len(batch["in_batch"])])
        hidden_BD = model.advance(batch, rows_UD)  # type: ignore[operator]  # `needs` says that it is there
        if len(batch["in_batch"]) == len(batch["weight"]) == 1:
            refuse_one_slot(batch)
            return {"loss": hidden_BD.sum() * 0}  # the last slot of an epoch without sampling: nothing to compare with
        fields = ("target", "in_batch", "sampled", "in_batch_q", "sampled_q")
        columns = Columns(*(batch[name] for name in fields))
        loss = _Scored.apply(hidden_BD, rows_UD, bias_C, self, columns, batch["weight"])  # type: ignore[no-untyped-call]
        return {"loss": loss}

    def backward(self, losses: dict[str, Tensor], model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        """As always; then says again that the rows are distinct, which autograd forgets."""
        super().backward(losses, model, scale)
        for table in (model.get_parameter("output"), model.get_parameter("bias")):
            if table.grad is not None and table.grad.is_sparse:
                table.grad._coalesced_(True)

    @abstractmethod
    def rows(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """Each row's loss [B, 1] and its derivative in the scores [B, C]; `scores_BC` may be overwritten."""


class CrossEntropy(Sampled):
    """-log of the target's share in the softmax over all copies.

    Args:
        logq: Correction for the sampling: scores of in-batch copies less logq * log(count), of drawn copies less
            logq * alpha * log(count). 0 = none, 1 = full.
    """

    def __init__(self, logq: NonNegative = 0.0) -> None:
        super().__init__()
        self.logq = logq

    def rows(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """The derivative is softmax - onehot."""
        in_batch = columns.in_batch_C * torch.exp(-self.logq * columns.in_batch_q_C)
        total = in_batch + columns.sampled_C * torch.exp(-self.logq * columns.sampled_q_C)
        one = torch.exp(-self.logq * columns.in_batch_q_C) / total  # share of one in-batch copy in its column
        slope = torch.softmax(scores_BC.add_(total.log()), 1)
        share = columns.own(slope) * one[columns.target_B, None]
        columns.add_own(slope, -torch.ones_like(share))
        return -(share + EPSILON).log(), slope.mul_(share / (share + EPSILON))


class Pairwise(Sampled):
    """Base of the losses that compare the target's score with others', after a final activation.

    Args:
        elu_param: The activation is ELU with this alpha; 0 = linear.
    """

    def __init__(self, elu_param: NonNegative = 0.0) -> None:
        super().__init__()
        self.elu_param = elu_param

    def rows(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """The loss of the activated scores, and the chain rule."""
        alpha = self.elu_param
        if not alpha:
            return self.compare(scores_BC, columns)
        falling = scores_BC.clamp(max=0).exp_().mul_(alpha)
        rising = scores_BC.clamp_(min=0)
        derivative = torch.add(falling, rising.sign(), alpha=1 - alpha)  # 1 above 0, alpha e^x below
        loss, slope = self.compare(rising.add_(falling).sub_(alpha), columns)
        return loss, slope.mul_(derivative)

    @abstractmethod
    def compare(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """Each row's loss [B, 1] and its derivative [B, C] in the activated scores."""


class BPR(Pairwise):
    """Sum over the copies j of -log sigmoid(target - j); the target's own copy adds log 2."""

    def compare(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """See the class."""
        behind = scores_BC - columns.own(scores_BC)
        copies = columns.copies_C
        loss = torch.nn.functional.softplus(behind) @ copies[:, None]
        slope = behind.sigmoid_().mul_(copies)
        return loss, columns.add_own(slope, -slope.sum(1, keepdim=True))


class BPRMax(Pairwise):
    """-log sum_j s_j sigmoid(target - j) + bpreg * sum_j s_j j^2, s the softmax over all but the target.

    Args:
        bpreg: Weight of the regularisation of the negatives' scores.
        elu_param: The final activation is ELU with this alpha; 0 = linear.
    """

    def __init__(self, bpreg: NonNegative = 1.0, elu_param: NonNegative = 0.5) -> None:
        super().__init__(elu_param)
        self.bpreg = bpreg

    def compare(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """With A = sum s sigma and R = sum s o^2: dL/do = s ((A - sigma^2) / A + bpreg (o^2 + 2 o - R))."""
        share = columns.negatives(scores_BC)
        sigma = (columns.own(scores_BC) - scores_BC).sigmoid_()
        won = dot(share, sigma)
        square = sigma.square_()
        both = dot(share, square)
        inverse = 1 / (won + EPSILON)
        slope = (won - square).mul_(inverse)
        loss = -(won + EPSILON).log()
        if self.bpreg:
            squares = scores_BC.square()
            penalty = dot(share, squares)
            slope.add_(squares.add_(scores_BC, alpha=2).sub_(penalty), alpha=self.bpreg)
            loss = loss.add_(penalty, alpha=self.bpreg)
        return loss, columns.add_own(slope.mul_(share), (both - won) * inverse)


class TOP1(Pairwise):
    """Mean over all copies j of sigmoid(j - target) + sigmoid(j^2), without the target's own sigmoid(target^2)."""

    def compare(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """See the class."""
        own, share = columns.own(scores_BC), columns.copies_C / columns.copies_C.sum()
        value, ahead, size = _top1_terms(scores_BC, own)
        own_size = own.square().sigmoid()
        one = 1 / columns.copies_C.sum()
        loss = value @ share[:, None] - own_size * one
        ahead.mul_(share)
        own_slope = -ahead.sum(1, keepdim=True) - 2 * own * own_size * (1 - own_size) * one
        return loss, columns.add_own(ahead.add_(size.mul_(share)), own_slope)


class TOP1Max(Pairwise):
    """sum_j s_j (sigmoid(j - target) + sigmoid(j^2)), s the softmax over all but the target."""

    def compare(self, scores_BC: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
        """See the class."""
        share = columns.negatives(scores_BC)
        value, ahead, size = _top1_terms(scores_BC, columns.own(scores_BC))
        loss = dot(share, value)
        ahead.mul_(share)
        own_slope = -ahead.sum(1, keepdim=True)
        return loss, columns.add_own((value - loss).add_(size).mul_(share).add_(ahead), own_slope)


def _top1_terms(scores_BC: Tensor, own_B1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sigmoid(j - target) + sigmoid(j^2), and the derivatives of the two in j."""
    first, second = (scores_BC - own_B1).sigmoid_(), scores_BC.square().sigmoid_()
    return first + second, first * (1 - first), (second * (1 - second)).mul_(scores_BC).mul_(2)


def refuse_one_slot(batch: Batch) -> None:
    """Raises ConfigError if a row is alone not at the end of an epoch, but always."""
    if float(batch["weight"][0]) == 1:
        raise ConfigError(
            "trainer.batch_size=1 with dataset.num_negatives=0 leaves no item to compare the target with; raise one of "
            "them, or use objective=full_softmax"
        )


class FullSoftmax(Objective):
    """-log of the target's share in the softmax over the whole catalogue: no sampling, but a cost that grows."""

    needs: ClassVar[tuple[str, ...]] = ("advance", "score")
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {
        "dataset.num_negatives": (0,),
        "optimizer._target_": ("recrun.optim.RowAdagrad", "recrun.optim.RowSGD", "recrun.optim.RowAdam"),
    }

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One step of the sessions; {"loss": scalar}."""
        scores_BI = model.score(model.advance(batch))  # type: ignore[operator]  # `needs` says that they are there
        target_B = batch["items"][batch["target"]]
        loss_B = torch.nn.functional.cross_entropy(scores_BI.float(), target_B, reduction="none")
        return {"loss": loss_B @ batch["weight"]}


def dot(one_BC: Tensor, other_BC: Tensor) -> Tensor:
    """The inner product of each row, [B, 1]."""
    return (one_BC * other_BC).sum(1, keepdim=True)


def take_rows(table: Any, index_U: Tensor) -> Tensor:
    """Rows of a table, [U, ...], whose gradient is sparse. `index_U` is distinct, so that nothing need be summed."""
    rows: Tensor = _TakeRows.apply(table, index_U)  # type: ignore[no-untyped-call]
    return rows


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index_U: Tensor) -> Tensor:
        ctx.save_for_backward(index_U)
        ctx.shape = table.shape
        return table.index_select(0, index_U)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index_U,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(index_U[None], grad, ctx.shape, is_coalesced=True, check_invariants=False), None


class _Scored(torch.autograd.Function):
    """Scores of the columns and their weighted loss; hands out the gradients that the forward pass computed."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_BD: Tensor,
        rows_UD: Tensor,
        bias_C: Tensor,
        objective: Sampled,
        columns: Columns,
        weight_B: Tensor,
    ) -> Tensor:
        with torch.autocast(hidden_BD.device.type, enabled=False):
            hidden = hidden_BD.to(rows_UD.dtype)
            used = rows_UD[: len(bias_C)]
            loss_B1, slope_BC = objective.rows(torch.addmm(bias_C, hidden, used.t()), columns)
            weight_B1 = weight_B[:, None]
            rows_grad = torch.zeros_like(rows_UD)
            torch.mm(slope_BC.t(), hidden * weight_B1, out=rows_grad[: len(bias_C)])
            hidden_grad = (slope_BC @ used).mul_(weight_B1).to(hidden_BD.dtype)
            ctx.gradients = (hidden_grad, rows_grad, torch.mv(slope_BC.t(), weight_B))
            return loss_B1[:, 0] @ weight_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Any, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if grad_loss.device.type != "cpu" or grad_loss.item() != 1:
            for gradient in gradients:
                gradient.mul_(grad_loss)
        return *gradients, None, None, None
