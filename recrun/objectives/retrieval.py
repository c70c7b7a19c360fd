"""The next item against those that the rest of the batch asks for and sampled ones, or against the whole catalogue.

Yi et al.: Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recrun.capabilities import Retriever
from recrun.errors import ConfigError
from recrun.objectives.base import Objective
from recrun.types import Batch, Count, Share

SCORES_AT_ONCE = 1 << 22

# From the scores [q, C] of some of the queries, which may be overwritten, losses [q] and derivatives [q, C].
Losses: TypeAlias = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


class InBatch(Objective):
    """Softmax over, or BPR against, the other targets of a batch and sampled items, shared by all its queries.

    A column of scores is a distinct item. Its weight is the number of its copies among the targets and the drawn
    items; with `logq` that number over what it is on average: then the negatives' sum is on average that of the
    whole catalogue, however popular some items are. A query's target has weight 1 in its own row. What is no
    negative to it: copies of the target and, where loader.avoid_positives says so, what else the user took.

    Args:
        mode: softmax: -log of the target's share. bpr: weighted mean of -log sigmoid(target - negative).
        logq: Correction for the sampling, see above.
        in_batch_ratio: Share of the batch's targets that serve as negatives, drawn anew for each batch.
        hard_negatives: Of each query's negatives only that many count, those with the highest scores; None = all.

    Raises:
        ConfigError: The correction supposes random negatives, and hard ones are not.
    """

    needs: ClassVar[tuple[str, ...]] = ("queries", "item_vectors", "temperature")
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.negatives": ("batch",)}

    def __init__(
        self,
        mode: Literal["softmax", "bpr"] = "softmax",
        logq: bool = True,
        in_batch_ratio: Share = 1.0,
        hard_negatives: Count | None = None,
    ) -> None:
        super().__init__()
        if logq and hard_negatives is not None:
            raise ConfigError(
                f"trainer.objective.hard_negatives={hard_negatives} with logq=true: the correction supposes random "
                "negatives; set trainer.objective.logq=false"
            )
        self.mode, self.logq, self.ratio, self.hard = mode, logq, in_batch_ratio, hard_negatives

    def forward(self, model: Retriever, batch: Batch) -> dict[str, Tensor]:
        """{"in_batch": mean over the queries}; one that has no negative adds 0."""
        if not self.ratio and not len(batch["sampled"].nonzero()):
            raise ConfigError("trainer.objective.in_batch_ratio=0 and loader.num_negatives=0 leave no negatives")
        negatives = Negatives.of(batch, self.weights(batch))
        return {"in_batch": mean_loss(model, batch["columns"], batch, partial(self.losses, negatives))}

    def losses(self, negatives: Negatives, scores_QC: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """A `Losses`, of the queries `part` against their negatives."""
        column_Q1 = negatives.column_Q[part, None]
        target_Q1 = scores_QC.gather(1, column_Q1)
        negatives.leave_out_(scores_QC, part)
        if self.hard is not None:
            negatives.keep_hardest_(scores_QC, self.hard)
        loss_ = softmax_loss_ if self.mode == "softmax" else bpr_loss_
        return loss_(scores_QC, negatives.weight_C, column_Q1, target_Q1)

    def weights(self, batch: Batch) -> Tensor:
        """Of each column as a negative, float32 [C]."""
        column_Q = batch["column"]
        taken_Q = torch.ones(len(column_Q), device=column_Q.device)
        if self.ratio < 1:
            taken_Q = (torch.rand_like(taken_Q) < self.ratio).float()
        copies_C = batch["sampled"].index_add(0, column_Q, taken_Q)
        if not self.logq:
            return copies_C
        expected_C = batch["in_batch_expected"] * self.ratio + batch["sampled_expected"]
        return copies_C / expected_C.clamp(min=torch.finfo(torch.float32).tiny)


class CatalogueSoftmax(Objective):
    """-log of the target's share in the softmax over the whole catalogue: exact, at a cost that grows with it."""

    needs: ClassVar[tuple[str, ...]] = ("queries", "item_vectors", "temperature", "n_items")
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.num_negatives": (0,)}

    def forward(self, model: Retriever, batch: Batch) -> dict[str, Tensor]:
        """{"softmax": mean over the queries}."""
        n_items: Any = model.n_items
        columns_I = torch.arange(n_items, device=batch["target"].device)

        def losses(scores_QI: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            return cross_entropy_(scores_QI, batch["target"][part, None])

        return {"softmax": mean_loss(model, columns_I, batch, losses)}


@dataclass(frozen=True)
class Negatives:
    """Which columns each query is compared with, and how much they count.

    Attributes:
        weight_C: Of each column, float32.
        column_Q: The column of each query's target.
        user_Q: Which row of `taken_UC` is about each query's user.
        taken_UC: Which columns users took, bool; None where that is no matter.
    """

    weight_C: Tensor
    column_Q: Tensor
    user_Q: Tensor
    taken_UC: Tensor | None

    @classmethod
    def of(cls, batch: Batch, weight_C: Tensor) -> Negatives:
        """See recrun.data.loaders.histories and pairs for what a batch holds; a batch of pairs has a query per row."""
        row_Q = torch.arange(len(batch["column"]), device=weight_C.device)
        if "query" in batch:
            row_Q = torch.bucketize(batch["query"], batch["items_offsets"][1:], right=True)
        if "owner" not in batch:
            return cls(weight_C, batch["column"], row_Q, None)
        owner_R = batch["owner"]  # there are no more users than rows
        taken_UC = torch.zeros(len(owner_R), len(weight_C), dtype=torch.bool, device=weight_C.device)
        taken_UC[batch["own_user"], batch["own_column"]] = True
        return cls(weight_C, batch["column"], owner_R[row_Q], taken_UC)

    def leave_out_(self, scores_QC: Tensor, part: slice) -> None:
        """Puts what is no negative to the queries `part` at -inf: their targets, and what their users took."""
        if self.taken_UC is not None:
            scores_QC.masked_fill_(self.taken_UC[self.user_Q[part]], -torch.inf)
        scores_QC.scatter_(1, self.column_Q[part, None], -torch.inf)

    def keep_hardest_(self, scores_QC: Tensor, k: int) -> None:
        """Puts all but the k highest scores of each query at -inf; columns that do not count are not among them."""
        scores_QC.masked_fill_(self.weight_C == 0, -torch.inf)
        hardest = scores_QC.topk(min(k, scores_QC.shape[1]), 1)
        scores_QC.fill_(-torch.inf).scatter_(1, hardest.indices, hardest.values)


def softmax_loss_(scores_QC: Tensor, weight_C: Tensor, column_Q1: Tensor, target_Q1: Tensor) -> tuple[Tensor, Tensor]:
    """-log(e^t / (e^t + sum_c w_c e^c)), [Q], and its derivative in the scores, which it overwrites."""
    return cross_entropy_(scores_QC.add_(weight_C.log()).scatter_(1, column_Q1, target_Q1), column_Q1)


def cross_entropy_(logits_QC: Tensor, column_Q1: Tensor) -> tuple[Tensor, Tensor]:
    """-log of a column's share of each row's softmax, [Q], and the derivative in the logits, which it overwrites."""
    torch.log_softmax(logits_QC, 1, out=logits_QC)
    loss_Q1 = -logits_QC.gather(1, column_Q1)
    slope_QC = torch.softmax(logits_QC, 1, out=logits_QC)  # is exp, which takes fifty times as long near underflow
    return loss_Q1[:, 0], slope_QC.scatter_add_(1, column_Q1, -torch.ones_like(loss_Q1))


def bpr_loss_(scores_QC: Tensor, weight_C: Tensor, column_Q1: Tensor, target_Q1: Tensor) -> tuple[Tensor, Tensor]:
    """sum_c w_c softplus(c - t) / sum_c w_c, [Q], 0 without negatives, and its derivative; scores are overwritten."""
    behind_QC = scores_QC.sub_(target_Q1)
    weight_QC = weight_C * (behind_QC > -torch.inf)
    weight_QC /= weight_QC.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    loss_Q = (weight_QC * F.softplus(behind_QC)).sum(1)
    slope_QC = weight_QC.mul_(behind_QC.sigmoid_())
    return loss_Q, slope_QC.scatter_add_(1, column_Q1, -slope_QC.sum(1, keepdim=True))


def mean_loss(model: Retriever, columns_C: Tensor, batch: Batch, losses: Losses) -> Tensor:
    """The mean loss of a batch's queries over some columns of the catalogue."""
    user_QD, item_CD = model.queries(batch), model.item_vectors(columns_C)
    loss: Tensor = _MeanLoss.apply(user_QD / model.temperature, item_CD, losses)  # type: ignore[no-untyped-call]
    return loss


class _MeanLoss(torch.autograd.Function):
    """Scores and their loss, some queries at a time; hands out the gradients that the forward pass computed.

    These stay float32 until they are multiplied by that of the loss, which in fp16 is what keeps them from underflow.
    """

    @staticmethod
    def forward(ctx: Any, user_QD: Tensor, item_CD: Tensor, losses: Losses) -> Tensor:
        with torch.autocast(user_QD.device.type, enabled=False):
            user, item = user_QD.float(), item_CD.float()
            user_grad, item_grad = torch.empty_like(user), torch.zeros_like(item)
            loss, size = user.new_zeros(()), max(1, SCORES_AT_ONCE // len(item))
            for at in range(0, len(user), size):
                part = slice(at, at + size)
                loss_q, slope_qC = losses(user[part] @ item.t(), part)
                loss += loss_q.sum()
                torch.mm(slope_qC, item, out=user_grad[part])
                item_grad.addmm_(slope_qC.t(), user[part])
            share = 1 / len(user)
            ctx.gradients, ctx.dtypes = (user_grad.mul_(share), item_grad.mul_(share)), (user_QD.dtype, item_CD.dtype)
            return loss * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, None]:
        (user, item), ctx.gradients = ctx.gradients, None
        return user.mul_(grad_loss).to(ctx.dtypes[0]), item.mul_(grad_loss).to(ctx.dtypes[1]), None
