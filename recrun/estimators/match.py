"""The trainer for retrieval; see recrun.estimators.trainers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.estimators.base import refuse_unless
from recrun.estimators.batches import Loader, LoaderEvaluator, cross_entropy_of_probabilities, packed, unpacked
from recrun.estimators.trainers import BaseTrainer
from recrun.features import Task


class MatchTrainer(BaseTrainer):
    """Trains a two-tower or sequence module for retrieval.

    Args:
        model: Any module. Mode 0: `model(x)` gives probabilities [B]; 1: a pair of scores [B] of a positive and a
            negative; 2: scores [B, 1 + K], the positive in column 0.
        mode: 0 point-wise (binary cross-entropy), 1 pair-wise (BPR), 2 list-wise (cross-entropy of the positive).
        optimizer_fn, optimizer_params, scheduler_fn, scheduler_params, n_epoch, earlystop_patience, device, gpus,
            model_path: As of `CTRTrainer`.

    Raises:
        ConfigError: There is no such mode or device.
    """

    def __init__(  # the interface of another library
        self,
        model: nn.Module,
        mode: Literal[0, 1, 2] = 0,
        optimizer_fn: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_params: Mapping[str, Any] | None = None,
        scheduler_fn: Callable[..., Any] | None = None,
        scheduler_params: Mapping[str, Any] | None = None,
        n_epoch: int = 10,
        earlystop_patience: int = 10,
        device: str = "cpu",
        gpus: Sequence[int] | None = None,
        model_path: str | Path = "./",
    ) -> None:
        refuse_unless("MatchTrainer", "mode", mode, (0, 1, 2))
        self.mode = mode
        args = (optimizer_fn, optimizer_params, scheduler_fn, scheduler_params)
        super().__init__(
            model, [Task("label", "classification")], *args, n_epoch, earlystop_patience, device, gpus, model_path
        )

    def _scores(self, model: Any, x: Any) -> tuple[Tensor, Tensor | None]:
        """Probabilities [B], or scores [B, candidates] with the positive in column 0."""
        found = model(x)
        return (torch.stack(list(found), 1), None) if self.mode == 1 else (found, None)

    def _losses(self, predicted: Tensor, label: Tensor) -> dict[str, Tensor]:
        """By the mode; labels count in mode 0 alone."""
        if self.mode == 0:
            return {"loss": cross_entropy_of_probabilities(predicted, label)}
        if self.mode == 1:
            return {"loss": F.softplus(predicted[:, 1] - predicted[:, 0]).mean()}
        return {"loss": F.cross_entropy(predicted.float(), label.new_zeros(len(predicted), dtype=torch.int64))}

    def _evaluator(self) -> LoaderEvaluator:
        """Of rows, or of candidates in rows."""
        return LoaderEvaluator(self._scores, self.tasks, in_rows=self.mode > 0)

    def fit(self, train_dataloader: Loader, val_dataloader: Loader | None = None) -> Self:
        """As of `CTRTrainer`; in modes 1 and 2 validation is the chance that the positive is above a negative."""
        self._train(train_dataloader, val_dataloader)
        return self

    def evaluate(self, model: nn.Module, data_loader: Loader) -> float:
        """The AUC on a loader of (x, y); in modes 1 and 2 over each row's candidates."""
        return self.metrics(model, data_loader)["auc"]

    @torch.no_grad()
    def inference_embedding(
        self, model: nn.Module, mode: Literal["user", "item"], data_loader: Loader, model_path: str | Path
    ) -> Tensor:
        """Vectors of users or items, [rows, width], on the CPU.

        Args:
            model: A module whose attribute `mode` says which tower `model(x)` gives; it is put back afterwards.
            mode: Whose vectors.
            data_loader: Gives x, or (x, y).
            model_path: The folder of weights that `fit` wrote, which are loaded first.

        Raises:
            ConfigError: There is no such mode, or no weights.
        """
        refuse_unless("inference_embedding", "mode", mode, ("user", "item"))
        weights = Path(model_path) / self.file
        if not weights.is_file():
            raise ConfigError(f"{weights} does not exist: model_path is the folder that fit wrote to")
        inner: Any = model.module if isinstance(model, nn.DataParallel) else model
        model.load_state_dict(load_file(weights))
        before, was_training = getattr(inner, "mode", None), model.training
        inner.mode = mode
        try:
            model.eval()
            found = [model(unpacked(self.device.move(packed(batch)))).float().cpu() for batch in data_loader]
        finally:
            inner.mode = before
            model.train(was_training)
        return torch.cat(found)
