"""How the losses of several tasks become one gradient.

A weighting replaces `Objective.backward`: it gets the losses by name and leaves gradients in the parameters.
Losses that are not named after a task (a regulariser, a model's own) always count once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import grad as gradient

from recrun.capabilities import MultiTask
from recrun.errors import ConfigError
from recrun.training.task_gradients import each_row_once, moving, same_rows, taken, values_of, with_rows
from recrun.types import NonNegative, Positive, Probability, Share

Losses: TypeAlias = dict[str, Tensor]
Scale: TypeAlias = Callable[[Tensor], Tensor]

LEAST_WEIGHT = 1e-3  # GradNorm's weights stay above it


class Weighting(nn.Module, ABC):
    """Weights of tasks. What is learned is a parameter and what is remembered a buffer, so that checkpoints hold both.

    Attributes:
        needs: Names of the model's members that the weighting uses. A plain literal.
        names_tasks: Constructor arguments that name tasks, one or a mapping of several. A plain literal.
        lr: Learning rate of its parameters; None for the trainer's.
    """

    needs: ClassVar[tuple[str, ...]] = ("tasks",)
    names_tasks: ClassVar[tuple[str, ...]] = ()
    lr: float | None = None

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.tasks = [task.name for task in model.tasks]

    @abstractmethod
    def backward(self, losses: Losses, model: Any, scale: Scale) -> None:
        """Leaves the gradients in the parameters' `grad`; see `Objective.backward`."""

    @abstractmethod
    def weights(self) -> Tensor:
        """What each task's loss or gradient counts at present, [T]."""

    def split(self, losses: Losses) -> tuple[list[Tensor], list[Tensor]]:
        """The losses of the tasks in their order, and the others."""
        return [losses[name] for name in self.tasks], [losses[name] for name in losses if name not in self.tasks]


class FixedWeights(Weighting):
    """The sum of the losses, each with a weight that is given.

    Args:
        model: Names the tasks.
        weights: By task; 1 for those not named.

    Raises:
        ConfigError: A weight is for no task, or all are 0.
    """

    names_tasks: ClassVar[tuple[str, ...]] = ("weights",)
    weight_T: Tensor

    def __init__(self, model: MultiTask, weights: Mapping[str, NonNegative]) -> None:
        super().__init__(model)
        strangers = weights.keys() - set(self.tasks)
        if strangers:
            raise ConfigError(
                f"trainer.weighting.weights names {', '.join(sorted(strangers))}, which is no task; "
                f"tasks are: {', '.join(self.tasks)}"
            )
        self.register_buffer("weight_T", torch.tensor([float(weights.get(name, 1.0)) for name in self.tasks]))
        if not self.weight_T.any():
            raise ConfigError("trainer.weighting.weights leaves nothing to train: a task needs a weight above 0")

    def backward(self, losses: Losses, model: MultiTask, scale: Scale) -> None:
        """See the class."""
        backward(scale(total_loss(*self.split(losses), self.weight_T)))

    def weights(self) -> Tensor:
        """As given."""
        return self.weight_T


class UncertaintyWeights(Weighting):
    """Homoscedastic uncertainty (Kendall, Gal and Cipolla, CVPR 2018), with s = log sigma^2 of each task learned.

    A classification counts exp(-s) L + s / 2, a regression exp(-s) L / 2 + s / 2. At the best s a regression's sigma^2
    is its mean squared error, and a classification's twice its loss. Nothing holds s above 0.

    Args:
        model: Names the tasks and their kinds.
        lr: Learning rate of s; None for the trainer's. Weight decay does not touch s.
    """

    factor_T: Tensor

    def __init__(self, model: MultiTask, lr: Positive | None = None) -> None:
        super().__init__(model)
        self.lr = lr
        self.log_variance_T = nn.Parameter(torch.zeros(len(self.tasks)))
        factors = [1.0 if task.kind == "classification" else 0.5 for task in model.tasks]
        self.register_buffer("factor_T", torch.tensor(factors), persistent=False)

    def backward(self, losses: Losses, model: MultiTask, scale: Scale) -> None:
        """See the class."""
        total = total_loss(*self.split(losses), self.weights()) + self.log_variance_T.sum() / 2
        backward(scale(total))

    def weights(self) -> Tensor:
        """exp(-s), half of it for a regression."""
        return self.factor_T * (-self.log_variance_T).exp()


class GradNorm(Weighting):
    """Weights that let tasks train at similar rates (Chen et al., ICML 2018).

    With G_i the norm of the gradient of w_i L_i in the last shared layer, L_i' the loss over that of the first step and
    r_i = L_i' / mean(L'), each step moves w_i down the gradient of sum |G_i - mean(G) r_i^alpha|, the second term held
    constant; then the weights are scaled to sum to the number of tasks.

    Args:
        model: Names the tasks and, by `last_shared_layer()`, the weight of that layer.
        alpha: How strongly rates are pulled together; 0 makes the norms equal.
        lr: Step size of the weights.
    """

    needs: ClassVar[tuple[str, ...]] = ("tasks", "last_shared_layer")
    weight_T: Tensor
    first_T: Tensor

    def __init__(self, model: MultiTask, alpha: NonNegative = 1.5, lr: Positive = 0.025) -> None:
        super().__init__(model)
        if not model.last_shared_layer().requires_grad:
            raise ConfigError("weighting=gradnorm needs the last shared layer to move: add it to the trainable parts")
        self.alpha, self.step_size = alpha, lr
        self.register_buffer("weight_T", torch.ones(len(self.tasks)))
        self.register_buffer("first_T", torch.full((len(self.tasks),), torch.nan))

    def backward(self, losses: Losses, model: MultiTask, scale: Scale) -> None:
        """See the class. Tasks' own gradients are taken in the last shared layer alone."""
        own, others = self.split(losses)
        layer = model.last_shared_layer()
        grads = [values_of(each_row_once(gradient(scale(loss), layer, retain_graph=True)[0])) for loss in own]
        norm_T = torch.stack(torch._foreach_norm(grads)) / scale_of(scale, own[0])
        backward(scale(total_loss(own, others, self.weight_T)))
        self.update(torch.stack(own).detach().float(), norm_T)

    @torch.no_grad()
    def update(self, loss_T: Tensor, norm_T: Tensor) -> None:
        """One step of the weights, from the losses and from the gradients' norms without weights."""
        self.first_T.copy_(self.first_T.where(self.first_T.isfinite(), loss_T))
        ratio_T = loss_T / self.first_T
        gradient_T = self.weight_T * norm_T
        target_T = gradient_T.mean() * (ratio_T / ratio_T.mean()) ** self.alpha
        moved_T = self.weight_T - self.step_size * (gradient_T - target_T).sign() * norm_T
        moved_T = moved_T.clamp(min=LEAST_WEIGHT)
        moved_T *= len(self.tasks) / moved_T.sum()
        self.weight_T.copy_(moved_T.where(moved_T.isfinite().all(), self.weight_T))

    def weights(self) -> Tensor:
        """w."""
        return self.weight_T


class MetaBalance(Weighting):
    """Gradients of tasks brought to the size of the target task's, in each shared tensor (He et al., WWW 2022).

    With m_i the moving average of the norm of task i's gradient in a tensor, that gradient is multiplied by
    relax * m_target / m_i + 1 - relax before the tasks' are summed. A task that does not reach a tensor is left out of
    it; a tensor that the target does not reach is left alone.

    Args:
        model: Names the tasks and, by `shared_parameters()`, the tensors.
        relax: 0 leaves gradients as they are, 1 gives all the target's norm.
        beta: Share of the old average that stays.
        target: The task whose gradients are the measure; the first by default.

    Raises:
        ConfigError: The target is no task, or nothing that is shared moves.
    """

    needs: ClassVar[tuple[str, ...]] = ("tasks", "shared_parameters")
    names_tasks: ClassVar[tuple[str, ...]] = ("target",)
    norm_TP: Tensor

    def __init__(
        self, model: MultiTask, relax: Share = 0.7, beta: Probability = 0.9, target: str | None = None
    ) -> None:
        super().__init__(model)
        if target is not None and target not in self.tasks:
            raise ConfigError(f"trainer.weighting.target={target} is no task; tasks are: {', '.join(self.tasks)}")
        self.relax, self.beta = relax, beta
        self.target = self.tasks.index(target) if target else 0
        shared = moving(model.shared_parameters())
        if not shared:
            raise ConfigError(
                "weighting=metabalance needs shared parameters that move: add them to the trainable parts"
            )
        self.register_buffer("norm_TP", torch.zeros(len(self.tasks), len(shared)))

    def backward(self, losses: Losses, model: MultiTask, scale: Scale) -> None:
        """See the class. One backward pass per task, each through its own tower and what is shared."""
        own, others = self.split(losses)
        shared, size = moving(model.shared_parameters()), scale_of(scale, own[0])
        grads, norms = [], []
        for at, loss in enumerate(own, 1):
            backward(scale(loss), retain_graph=at < len(own) or bool(others))
            grads.append(taken(shared))
            norms.append(self.norms(grads[-1]) / size)  # at once, while they lie in the cache
        if others:
            backward(scale(torch.stack(others).sum()))
        self.remember(torch.stack(norms))
        for parameter, grads_T, factor_T in zip(
            shared, zip(*grads, strict=True), self.factors().unbind(1), strict=True
        ):
            balanced = self.balanced(same_rows(grads_T), factor_T)
            if balanced is not None:
                parameter.grad = balanced if parameter.grad is None else parameter.grad + balanced

    def norms(self, grads: Sequence[Tensor | None]) -> Tensor:
        """Of a task's gradient in each shared tensor, [P]; 0 where there is none."""
        found = iter(torch._foreach_norm([values_of(grad) for grad in grads if grad is not None]))
        nothing = self.norm_TP.new_zeros(())
        return torch.stack([nothing if grad is None else next(found).to(nothing) for grad in grads])

    def remember(self, norm_TP: Tensor) -> None:
        """Brings the averages up to date; a step whose scaled gradients overflowed does not count."""
        fresh_TP = norm_TP.lerp(self.norm_TP, self.beta)
        self.norm_TP.copy_(fresh_TP.where(fresh_TP.isfinite().all(), self.norm_TP))

    def factors(self) -> Tensor:
        """What each task's gradient in each shared tensor is multiplied by, [T, P]."""
        target_P = self.norm_TP[self.target]
        known_TP = (self.norm_TP > 0) & (target_P > 0)
        return torch.where(known_TP, self.relax * target_P / self.norm_TP + 1 - self.relax, 1.0)

    def balanced(self, grads_T: Sequence[Tensor | None], factor_T: Tensor) -> Tensor | None:
        """The sum of the tasks' gradients in a tensor; the target's own is taken as it is, and written over."""
        total = grads_T[self.target]
        for at, grad in enumerate(grads_T):
            if grad is None or at == self.target:
                continue
            if total is None:
                total = with_rows(grad, values_of(grad) * factor_T[at])
            else:
                values_of(total).addcmul_(values_of(grad), factor_T[at])
        return total

    def weights(self) -> Tensor:
        """The mean of a task's factors over the shared tensors."""
        return self.factors().mean(1)


def total_loss(own: list[Tensor], others: list[Tensor], weight_T: Tensor) -> Tensor:
    """What is minimised: the tasks' losses by their weights, and the others."""
    return torch.stack([*(torch.stack(own) * weight_T).unbind(), *others]).sum()


def backward(loss: Tensor, retain_graph: bool = False) -> None:
    """Adds a loss's gradients to the parameters'."""
    loss.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]


def scale_of(scale: Scale, loss: Tensor) -> Tensor:
    """The number by which `scale` multiplies."""
    return scale(torch.ones_like(loss.detach()))
