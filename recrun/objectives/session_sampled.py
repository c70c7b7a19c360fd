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

from recrun.errors import ConfigError
from recrun.objectives.activations import Activation, activate_, before_activation_
from recrun.objectives.base import Objective
from recrun.objectives.score_columns import ScoreColumns, aligned, dot, exp_
from recrun.optim.row_gradients import Rows
from recrun.types import Batch, NonNegative

EPSILON = 1e-24  # inside logarithms of shares


class SavedForBackward(NamedTuple):
    """What the forward pass leaves for the backward pass; the rows hold their gradients."""

    hidden_BD: Tensor
    hidden_grad: Tensor
    rows: Rows
    biases: Rows


class Sampled(Objective):
    """Base of the sampled losses: sum over the rows, weighted by the batch's `weight` (1 / slots).

    The gradients of loss and scores are computed in one pass and reach the output layer as rows, summed.
    """

    needs: ClassVar[tuple[str, ...]] = ("advance", "output", "bias")
    sparse_gradients: ClassVar[bool] = True
    found: SavedForBackward | None = None

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One step of the sessions; {"loss": scalar}, whose gradients are known already."""
        biased, weight_B = batch["items"][: len(batch["in_batch"])], batch["weight"]
        rows, biases = Rows(model.get_parameter("output"), batch["items"]), Rows(model.get_parameter("bias"), biased)
        hidden_BD = model.advance(batch, rows)  # type: ignore[operator]  # `needs` says that it is there
        if len(biased) == len(weight_B) == 1:
            refuse_one_slot(batch)
            return {"loss": weight_B.new_zeros(())}  # the last slot of an epoch: nothing to compare with or to learn
        columns = ScoreColumns(*(batch[name] for name in ("target", "in_batch", "sampled", "in_batch_q", "sampled_q")))
        with torch.no_grad(), torch.autocast(hidden_BD.device.type, enabled=False):
            loss, hidden_grad = self.score(hidden_BD.to(rows.values.dtype), rows, biases, columns, weight_B)
        self.found = SavedForBackward(hidden_BD, hidden_grad, rows, biases)
        return {"loss": loss}

    def score(
        self, hidden_BD: Tensor, rows: Rows, biases: Rows, columns: ScoreColumns, weight_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient in the hidden states; those of the rows are left with them."""
        size, weight_B1 = len(biases.values), weight_B[:, None]
        used = rows.values[:size]
        scores_BC = aligned(len(hidden_BD), size, used)
        shift = self.shift(columns)
        torch.mm(hidden_BD, used.t(), out=scores_BC).add_(biases.values + shift)
        loss_B1, slope_BC = self.rows(scores_BC, columns, shift)
        rows.grad = torch.empty_like(rows.values)
        rows.grad[size:] = 0
        weighted = torch.mul(hidden_BD, weight_B1, out=aligned(len(hidden_BD), hidden_BD.shape[1], used))
        torch.mm(slope_BC.t(), weighted, out=rows.grad[:size])
        biases.grad = torch.mv(slope_BC.t(), weight_B)
        return loss_B1[:, 0] @ weight_B, torch.mm(slope_BC, used).mul_(weight_B1)

    def backward(self, losses: dict[str, Tensor], model: nn.Module, scale: Callable[[Tensor], Tensor]) -> None:
        """From the hidden states on; then the rows that were used give their gradients to their tables."""
        if self.found is None:
            return
        hidden_BD, hidden_grad, rows, biases = self.found
        factor = scale(torch.ones_like(losses["loss"]))
        if factor.device.type != "cpu" or factor.item() != 1:
            for gradient in (hidden_grad, rows.grad, biases.grad):
                assert gradient is not None
                gradient.mul_(factor)
        if hidden_BD.requires_grad:
            hidden_BD.backward(hidden_grad.to(hidden_BD.dtype))  # type: ignore[no-untyped-call]
        rows.hand_over()
        biases.hand_over()
        self.found = None

    def shift(self, columns: ScoreColumns) -> Tensor | float:
        """What is added to every row of the scores, [C]."""
        return 0.0

    @abstractmethod
    def rows(self, scores_BC: Tensor, columns: ScoreColumns, shift: Tensor | float) -> tuple[Tensor, Tensor]:
        """Each row's loss [B, 1] and its derivative in the scores [B, C]; the scores hold `shift`; overwritten."""


class CrossEntropy(Sampled):
    """-log of the target's share in the softmax over all copies.

    Args:
        logq: Correction for the sampling: scores of in-batch copies less logq * log(count), of drawn copies less
            logq * alpha * log(count). 0 = none, 1 = full.
    """

    def __init__(self, logq: NonNegative = 0.0) -> None:
        super().__init__()
        self.logq = logq

    def shift(self, columns: ScoreColumns) -> Tensor:
        """The logarithm of a column's copies, each divided by its odds to the power of logq."""
        in_batch = columns.in_batch_C * torch.exp(-self.logq * columns.in_batch_q_C)
        return in_batch.add_(columns.sampled_C * torch.exp(-self.logq * columns.sampled_q_C)).log_()

    def rows(self, scores_BC: Tensor, columns: ScoreColumns, shift: Tensor | float) -> tuple[Tensor, Tensor]:
        """The derivative is softmax - onehot."""
        slope = exp_(scores_BC)
        total = slope.sum(1, keepdim=True)
        one = columns.in_batch_q_C.mul(-self.logq).sub_(shift)[columns.target_B].exp_()  # a copy's share of its column
        share = columns.own(slope).mul_(one[:, None]).div_(total)
        certain = share / (share + EPSILON)
        return -(share + EPSILON).log(), columns.add_own(slope.mul_(certain / total), -certain)


class PairwiseSampled(Sampled):
    """Base of the losses that compare the target's score with others', after a final activation.

    The activation is for training alone: models are evaluated by their scores before it.

    Args:
        elu_param: alpha of ELU; 0 = linear.
        final_activation: Of the scores.
    """

    def __init__(self, elu_param: NonNegative = 0.0, final_activation: Activation = "elu") -> None:
        super().__init__()
        if elu_param and final_activation != "elu":
            raise ConfigError(
                f"trainer.objective.elu_param={elu_param} does nothing with final_activation={final_activation}; "
                "set it to 0, or use final_activation=elu"
            )
        self.elu_param = elu_param
        self.final_activation: Activation = final_activation if elu_param or final_activation != "elu" else "linear"

    def rows(self, scores_BC: Tensor, columns: ScoreColumns, shift: Tensor | float) -> tuple[Tensor, Tensor]:
        """The loss of the activated scores, and the chain rule."""
        active = activate_(scores_BC, self.final_activation, self.elu_param)
        loss, slope = self.compare(active, columns)
        return loss, before_activation_(slope, active, self.final_activation, self.elu_param)

    @abstractmethod
    def compare(self, scores_BC: Tensor, columns: ScoreColumns) -> tuple[Tensor, Tensor]:
        """Each row's loss [B, 1] and its derivative [B, C] in the activated scores."""


class BPR(PairwiseSampled):
    """Sum over the copies j of -log sigmoid(target - j); the target's own copy adds log 2."""

    def compare(self, scores_BC: Tensor, columns: ScoreColumns) -> tuple[Tensor, Tensor]:
        """See the class."""
        behind = scores_BC - columns.own(scores_BC)
        copies = columns.copies_C
        loss = torch.nn.functional.softplus(behind) @ copies[:, None]
        slope = behind.sigmoid_().mul_(copies)
        return loss, columns.add_own(slope, -slope.sum(1, keepdim=True))


class BPRMax(PairwiseSampled):
    """-log sum_j s_j sigmoid(target - j) + bpreg * sum_j s_j j^2, s the softmax over all but the target.

    Args:
        bpreg: Weight of the regularisation of the negatives' scores.
        elu_param: alpha of ELU; 0 = linear.
        final_activation: Applied to the scores first, see recrun.objectives.activations.
    """

    def __init__(
        self, bpreg: NonNegative = 1.0, elu_param: NonNegative = 0.5, final_activation: Activation = "elu"
    ) -> None:
        super().__init__(elu_param, final_activation)
        self.bpreg = bpreg

    def compare(self, scores_BC: Tensor, columns: ScoreColumns) -> tuple[Tensor, Tensor]:
        """With A = sum s sigma and R = sum s o^2: dL/do = s ((A - sigma^2) / A + bpreg (o^2 + 2 o - R))."""
        share = columns.negatives(scores_BC)
        sigma = (columns.own(scores_BC) - scores_BC).sigmoid_()
        won = dot(share, sigma)
        both_BC = sigma.square_().mul_(share)
        both = both_BC.sum(1, keepdim=True)
        inverse = (won + EPSILON).reciprocal_()
        loss, constant = inverse.log(), won * inverse
        if self.bpreg:
            first = share * scores_BC
            penalty = dot(first, scores_BC)
            loss.add_(penalty, alpha=self.bpreg)
            slope = share.mul_(constant.sub_(penalty, alpha=self.bpreg))
            slope.add_(first, alpha=2 * self.bpreg).addcmul_(first, scores_BC, value=self.bpreg)
        else:
            slope = share.mul_(constant)
        slope.sub_(both_BC.mul_(inverse))
        return loss, columns.add_own(slope, (both - won).mul_(inverse))


class TOP1(PairwiseSampled):
    """Mean over all copies j of sigmoid(j - target) + sigmoid(j^2), without the target's own sigmoid(target^2)."""

    def compare(self, scores_BC: Tensor, columns: ScoreColumns) -> tuple[Tensor, Tensor]:
        """See the class."""
        own, share = columns.own(scores_BC), columns.copies_C / columns.copies_C.sum()
        value, ahead, size = _top1_terms(scores_BC, own)
        own_size = own.square().sigmoid()
        one = 1 / columns.copies_C.sum()
        loss = value @ share[:, None] - own_size * one
        ahead.mul_(share)
        own_slope = -ahead.sum(1, keepdim=True) - 2 * own * own_size * (1 - own_size) * one
        return loss, columns.add_own(ahead.add_(size.mul_(share)), own_slope)


class TOP1Max(PairwiseSampled):
    """sum_j s_j (sigmoid(j - target) + sigmoid(j^2)), s the softmax over all but the target."""

    def compare(self, scores_BC: Tensor, columns: ScoreColumns) -> tuple[Tensor, Tensor]:
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
            "trainer.batch_size=1 with loader.num_negatives=0 leaves no item to compare the target with; raise one of "
            "them, or use objective=full_softmax"
        )


class FullSoftmax(Objective):
    """-log of the target's share in the softmax over the whole catalogue: no sampling, but a cost that grows."""

    needs: ClassVar[tuple[str, ...]] = ("advance", "score")
    sparse_gradients: ClassVar[bool] = True
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.num_negatives": (0,)}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One step of the sessions; {"loss": scalar}."""
        scores_BI = model.score(model.advance(batch))  # type: ignore[operator]  # `needs` says that they are there
        target_B = batch["items"][batch["target"]]
        loss_B = torch.nn.functional.cross_entropy(scores_BI.float(), target_B, reduction="none")
        return {"loss": loss_B @ batch["weight"]}
