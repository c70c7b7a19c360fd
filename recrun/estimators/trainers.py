"""Trainers with the interfaces of Torch-RecHub's, over any module and any iterable of batches, on this project's loop.

A loader gives pairs (x, y): x a tensor or a mapping of tensors, y [B], or [B, tasks] for several tasks. What is
otherwise on purpose: the weights kept are the best by validation, whether training stops early or not; every mode can
be evaluated; regressions stop early by the smaller error; the three weightings work, by their papers. Weights are
stored as safetensors (`model.safetensors`), which reading cannot execute.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from recrun.api.tables import history_frame
from recrun.checkpoints.metadata import WEIGHTS
from recrun.console.progress_bar import progress_bar
from recrun.errors import Interrupted
from recrun.estimators.base import TemporaryFolder
from recrun.estimators.batches import (
    Loader,
    LoaderData,
    LoaderEvaluator,
    Losses,
    counted,
    cross_entropy_of_probabilities,
    packed,
)
from recrun.experiments.run_record import MetricsLog
from recrun.features import Task
from recrun.runtime.device import Device
from recrun.runtime.process import stop_signals
from recrun.training.loop import TrainingLoop
from recrun.training.loss_weighting import Weighting
from recrun.training.settings import StageContext
from recrun.training.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd


class BaseTrainer:
    """What the three share.

    Attributes:
        history: After `fit`, a row per epoch: mean losses (`loss/<name>`), validation metrics, weights of the tasks.
    """

    file = WEIGHTS

    def __init__(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        optimizer_fn: Callable[..., torch.optim.Optimizer],
        optimizer_params: Mapping[str, Any] | None,
        scheduler_fn: Callable[..., Any] | None,
        scheduler_params: Mapping[str, Any] | None,
        n_epoch: int,
        earlystop_patience: int,
        device: str,
        gpus: Sequence[int] | None,
        model_path: str | Path,
    ) -> None:
        self.tasks, self.n_epoch, self.earlystop_patience = list(tasks), n_epoch, earlystop_patience
        params = {"lr": 1e-3, "weight_decay": 1e-5} if optimizer_params is None else dict(optimizer_params)
        self.lr = params.pop("lr", 1e-3)
        self.optimizer = partial(optimizer_fn, **params)
        self.scheduler = partial(scheduler_fn, **(scheduler_params or {})) if scheduler_fn else None
        self.device = Device.named(f"cuda:{gpus[0]}" if gpus else device, "fp32")
        model = model.to(self.device.torch)
        self.model: nn.Module = nn.DataParallel(model, device_ids=list(gpus)) if gpus and len(gpus) > 1 else model
        self.model_path = Path(model_path)
        self.history: pd.DataFrame
        self._loop: TrainingLoop | None = None
        self._folder = TemporaryFolder()

    def _scores(self, model: Any, x: Any) -> tuple[Tensor, Tensor | None]:
        """Predictions of a module, and a loss of its own."""
        return model(x), None

    def _losses(self, predicted: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Named losses of predictions."""
        return {"loss": cross_entropy_of_probabilities(predicted, label)}

    def _weighting(self, train: Loader) -> Callable[..., Weighting] | None:
        """What turns the tasks' losses into gradients; None = their sum."""
        return None

    def _evaluator(self) -> LoaderEvaluator:
        """Evaluates predictions."""
        return LoaderEvaluator(self._scores, self.tasks)

    def _monitor(self) -> str:
        """The metric that chooses the weights."""
        return self._evaluator().monitor

    def _make_loop(self, train: Loader, valid: Loader | None, reporter: Any, stop: Callable[[], bool]) -> TrainingLoop:
        """The training loop of the command, over loaders."""
        directory = self._folder.path / "fit"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        trainer = Trainer(
            Losses(self._scores, self._losses),
            self.optimizer,
            self.n_epoch,
            self.lr,
            1,
            weighting=self._weighting(train),
            scheduler=self.scheduler,
            patience=self.earlystop_patience if valid is not None else None,
            monitor=self._monitor(),
            keep="last" if valid is None else "best",
            save_seconds=1e9,
        )
        context = StageContext(
            stage="fit",
            directory=directory,
            seed=torch.initial_seed() % 2**31,
            device=self.device,
            step_limit=None,
            eval_limit=None,
            card={},
            reporter=reporter,
            log=MetricsLog(directory),
            stop=stop,
        )
        return TrainingLoop(trainer, self.model, LoaderData(train, valid, self._evaluator(), self.tasks), context)

    def _train(self, train: Loader, valid: Loader | None) -> None:
        """Trains, and leaves the weights that are kept in the model and in `model_path`."""
        self.model_path.mkdir(parents=True, exist_ok=True)
        self._loop = None
        with progress_bar() as reporter, stop_signals() as stop:
            loop = self._make_loop(train, valid, reporter, stop.is_set)
            try:
                loop.run(0)
            except Interrupted as interruption:
                raise KeyboardInterrupt(str(interruption)) from None
        kept = "last" if valid is None else "best"
        shutil.copyfile(loop.context.directory / kept / WEIGHTS, self.model_path / self.file)
        self.history = history_frame(MetricsLog(loop.context.directory).rows())

    def train_one_epoch(self, data_loader: Loader, log_interval: int = 10) -> Any:
        """One more epoch with the same optimizer; no validation.

        Args:
            data_loader: Gives (x, y).
            log_interval: Steps between updates of the running loss on the terminal.

        Returns:
            The mean loss; of several tasks a list of them.
        """
        with progress_bar() as reporter, stop_signals() as stop:
            if self._loop is None:
                self._loop = self._make_loop(data_loader, None, reporter, stop.is_set)
            loop = self._loop
            loop.dataset = LoaderData(data_loader, None, self._evaluator(), self.tasks)
            loop.train_epoch()
        means = loop.state.mean_losses()
        loop.progress.epoch, loop.progress.step = loop.progress.epoch + 1, 0
        loop.state.losses = type(loop.state.losses)(self.device.torch, loop.state.losses.names)
        loop.step_scheduler("epoch")
        return list(means.values()) if len(self.tasks) > 1 else sum(means.values())

    def metrics(self, model: nn.Module, data_loader: Loader) -> dict[str, float]:
        """Every metric of a model on a loader of (x, y), by name."""
        counted(data_loader)
        evaluator = self._evaluator()
        return evaluator.metrics(*evaluator.predictions(model, map(packed, data_loader), self.device))

    def predict(self, model: nn.Module, data_loader: Loader) -> list[Any]:
        """What a model predicts for each row: probabilities and values, [rows] or [rows][tasks].

        Args:
            model: Any module.
            data_loader: Gives (x, y), or x alone.
        """
        found: list[Any] = self._evaluator().predictions(model, map(packed, data_loader), self.device)[0].tolist()
        return found


class CTRTrainer(BaseTrainer):
    """Trains a module that gives one probability a row.

    Args:
        model: Any module: `model(x)` gives probabilities [B] or [B, 1].
        optimizer_fn: Makes the optimizer.
        optimizer_params: Its arguments; None = {"lr": 1e-3, "weight_decay": 1e-5}.
        scheduler_fn: Makes a scheduler of torch, stepped after every epoch; a plateau gets the validation metric.
        scheduler_params: Its arguments.
        n_epoch: Most epochs.
        earlystop_patience: Epochs without a better validation after which training stops.
        device: "cpu" or "cuda:N".
        gpus: Numbers of GPUs; several share every batch.
        loss_mode: True: the module gives predictions alone. False: predictions and a loss of its own, which is added.
        model_path: The folder of the kept weights, `model.safetensors`; made if it is not there.

    Raises:
        ConfigError: The machine has no such device.
    """

    def __init__(  # the interface of another library
        self,
        model: nn.Module,
        optimizer_fn: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler_fn: Callable[..., Any] | None = None,
        scheduler_params: Mapping[str, Any] | None = None,
        n_epoch: int = 10,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: Sequence[int] | None = None,
        loss_mode: bool = True,
        model_path: str | Path = "./",
    ) -> None:
        self.loss_mode = loss_mode
        args = (optimizer_fn, optimizer_params, scheduler_fn, scheduler_params)
        super().__init__(
            model, [Task("label", "classification")], *args, n_epoch, earlystop_patience, device, gpus, model_path
        )

    def _scores(self, model: Any, x: Any) -> tuple[Tensor, Tensor | None]:
        """Probabilities, and the module's own loss where there is one."""
        found = model(x)
        return (found, None) if self.loss_mode else (found[0], found[1])

    def fit(self, train_dataloader: Loader, val_dataloader: Loader | None = None) -> Self:
        """Trains; keeps the best weights by validation AUC, or the last ones without validation; returns itself.

        Raises:
            ConfigError: A loader cannot be iterated again.
            Diverged: The loss is not finite.
        """
        self._train(train_dataloader, val_dataloader)
        return self

    def evaluate(self, model: nn.Module, data_loader: Loader) -> float:
        """The AUC of a model's predictions on a loader of (x, y)."""
        return self.metrics(model, data_loader)["auc"]
