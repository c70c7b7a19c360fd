"""The trainer for several tasks; see recrun.estimators.trainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.estimators.base import refuse_unless
from recrun.estimators.batches import Loader, cross_entropy_of_probabilities, metric_of, packed, unpacked
from recrun.estimators.shared_parts import Shared, bound
from recrun.estimators.trainers import BaseTrainer
from recrun.features import Task
from recrun.training.loss_weighting import FixedWeights, GradNorm, MetaBalance, UncertaintyWeights, Weighting

if TYPE_CHECKING:
    import pandas as pd

METHODS: Mapping[str, Callable[..., Weighting]] = {
    "uwl": UncertaintyWeights,
    "gradnorm": GradNorm,
    "metabalance": MetaBalance,
}


class MTLTrainer(BaseTrainer):
    """Trains a module that predicts several things at once.

    Args:
        model: Any module: `model(x)` gives [B, tasks], probabilities of classifications and values of regressions.
        task_types: "classification" or "regression" of each.
        optimizer_fn, optimizer_params, scheduler_fn, scheduler_params: As of `CTRTrainer`.
        adaptive_params: How the tasks are weighed: {"method": "uwl"} (Kendall et al. 2018), {"method": "metabalance"}
            (He et al. 2022) or {"method": "gradnorm", "alpha": 0.16} (Chen et al. 2018), with further arguments of
            recrun.training.loss_weighting; None = the mean of the losses.
        n_epoch: Most epochs.
        earlystop_taskid: Number of the task whose validation metric decides: AUC, the greater the better, or the mean
            squared error, the smaller.
        earlystop_patience, device, gpus, model_path: As of `CTRTrainer`.

    Raises:
        ConfigError: A task type, a method or the task's number is unknown.
    """

    def __init__(  # the interface of another library
        self,
        model: nn.Module,
        task_types: Sequence[Literal["classification", "regression"]],
        optimizer_fn: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler_fn: Callable[..., Any] | None = None,
        scheduler_params: Mapping[str, Any] | None = None,
        adaptive_params: Mapping[str, Any] | None = None,
        n_epoch: int = 10,
        earlystop_taskid: int = 0,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: Sequence[int] | None = None,
        model_path: str | Path = "./",
    ) -> None:
        for kind in task_types:
            refuse_unless("MTLTrainer", "task_types", kind, ("classification", "regression"))
        refuse_unless("MTLTrainer", "earlystop_taskid", earlystop_taskid, range(len(task_types)))
        if adaptive_params is not None:
            refuse_unless("MTLTrainer", "adaptive_params['method']", adaptive_params.get("method"), METHODS)
        self.adaptive_params, self.earlystop_taskid = adaptive_params, earlystop_taskid
        self.entire_space = type(model).__name__ == "ESMM"  # trains the rates of clicks and of both, not the first
        tasks = [Task(f"task_{at}", kind) for at, kind in enumerate(task_types)]
        args = (optimizer_fn, optimizer_params, scheduler_fn, scheduler_params)
        super().__init__(model, tasks, *args, n_epoch, earlystop_patience, device, gpus, model_path)

    def _losses(self, predicted: Tensor, label: Tensor) -> dict[str, Tensor]:
        """One of each task."""
        found = {}
        for task, output_B, label_B in zip(self.tasks, predicted.unbind(1), label.unbind(1), strict=True):
            if task.kind == "classification":
                found[task.name] = cross_entropy_of_probabilities(output_B, label_B)
            else:
                found[task.name] = F.mse_loss(output_B.float(), label_B.float())
        return found

    def _weighting(self, train: Loader) -> Callable[..., Weighting]:
        """The mean of the losses, or what `adaptive_params` says."""
        if self.entire_space and len(self.tasks) == 3:
            weights = {task.name: float(at > 0) for at, task in enumerate(self.tasks)}
            return bound(partial(FixedWeights, weights=weights), Named(self.tasks))
        if self.adaptive_params is None:
            weights = {task.name: 1 / len(self.tasks) for task in self.tasks}
            return bound(partial(FixedWeights, weights=weights), Named(self.tasks))
        settings = {name: value for name, value in self.adaptive_params.items() if name != "method"}
        method = METHODS[self.adaptive_params["method"]]
        if method is UncertaintyWeights:
            return bound(partial(method, **settings), Named(self.tasks))
        batch = self.device.move(packed(next(iter(train))))
        was_training = self.model.training
        self.model.eval()  # so that running statistics stay as they are
        losses = self._losses(self._scores(self.model, unpacked(batch))[0], batch["label"])
        shared = Shared(self.model, self.tasks, losses)
        self.model.train(was_training)
        return bound(partial(method, **settings), shared)

    def _monitor(self) -> str:
        """The metric of `earlystop_taskid`."""
        return metric_of(self.tasks[self.earlystop_taskid], len(self.tasks))

    def fit(
        self, train_dataloader: Loader, val_dataloader: Loader, mode: str = "base", seed: int = 0
    ) -> list[list[float]]:
        """Trains, and keeps the best weights by the metric of `earlystop_taskid`.

        Losses, weights and validation metrics of every epoch and task are in `history`.

        Args:
            train_dataloader, val_dataloader: Give (x, y), y [B, tasks].
            mode, seed: Name the file of the weights, `model_<mode>_<seed>.safetensors`.

        Returns:
            Of each epoch the mean training losses of the tasks, then their validation metrics.

        Raises:
            ConfigError: A loader cannot be iterated again, or nothing is shared by the tasks.
            Diverged: A loss is not finite.
        """
        if val_dataloader is None:
            raise ConfigError("fit: val_dataloader is needed: early stopping and the best weights are by validation")
        self.file = f"model_{mode}_{seed}.safetensors"
        self._train(train_dataloader, val_dataloader)
        names = [f"loss/{task.name}" for task in self.tasks] + [metric_of(task, len(self.tasks)) for task in self.tasks]
        found: pd.DataFrame = self.history[names]
        return [[float(value) for value in row] for row in found.to_numpy()]

    def evaluate(self, model: nn.Module, data_loader: Loader) -> list[float]:
        """Of each task the AUC, or the mean squared error, of a model on a loader of (x, y)."""
        found = self.metrics(model, data_loader)
        return [found[metric_of(task, len(self.tasks))] for task in self.tasks]


class Named:
    """Names the tasks of a weighting that asks for nothing else."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
