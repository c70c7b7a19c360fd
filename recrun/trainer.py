"""The one training loop: epochs, validation, early stopping, checkpoints and exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from recrun import checkpoint, seeds
from recrun.errors import ConfigError, RecrunError
from recrun.metrics import lower_is_better
from recrun.monitor import judged_by, which
from recrun.objectives import Objective
from recrun.optim import clip_norm
from recrun.parameters import carried, carry_on, freeze_others, hold_frozen_norms, parameter_groups
from recrun.place import Place
from recrun.progress import Progress
from recrun.protocols import Dataset
from recrun.regularization import Regularization
from recrun.running import RunningLosses
from recrun.scheduling import make_scheduler, needs_metric
from recrun.types import Batch, Count, Evaluation, Index, Metrics, NonNegative, Positive, Split
from recrun.weighting import Weighting, weighting_group

logger = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to stop (SIGINT or SIGTERM); its state is saved and it can be resumed."""


class Diverged(RecrunError):
    """The loss became NaN or infinite."""


class Trainer:
    """Minimises an objective on a data set's training part and keeps the best or the last weights.

    Args:
        objective: What is minimised.
        optimizer: Makes the optimizer from parameter groups.
        epochs: Passes over the training part.
        lr: Learning rate.
        batch_size: Units (users, sessions, impressions) per step.
        part_lr: Learning rates of parts of the model by parameter-name prefix, in place of `lr`.
        weighting: Makes from the model what turns its tasks' losses into gradients; None for their sum.
        scheduler: Makes a torch scheduler from the optimizer; see recrun.scheduling.
        scheduler_every: When it steps; a ReduceLROnPlateau always does so at validations, with the monitored value.
        regularization: Penalties of the weights.
        clip_norm: Largest global gradient norm.
        patience: Validations without improvement after which training stops.
        min_improvement: A value must beat the best by more than this to count as an improvement.
        monitor: Metric that decides; the data set's own by default. `mean/auc` is the mean of the tasks' auc.
        earlystop_taskid: Task whose auc or rmse decides, by number or name; in place of `monitor`.
        keep: Which weights the stage hands on, saves and is tested with.
        trainable: Prefixes of the parameters that move; the others are frozen.
        eval_every: Epochs between validations; the last epoch is always validated.
        test_every: Epochs between looks at the test part, which decide nothing; None for the end of the stage alone.
        save_step: Epochs between extra checkpoints `epoch-<n>`.
        show_step: Steps between updates of the live line; None for four a second.
        save_seconds: Seconds between checkpoints `last`, also within an epoch: a killed run repeats at most these.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        epochs: Count,
        lr: Positive,
        batch_size: Count,
        *,
        part_lr: Mapping[str, Positive] | None = None,
        weighting: Callable[..., Weighting] | None = None,
        scheduler: Callable[..., Any] | None = None,
        scheduler_every: Literal["epoch", "step"] = "epoch",
        regularization: Regularization | None = None,
        clip_norm: Positive | None = None,
        patience: Count | None = None,
        min_improvement: NonNegative = 0.0,
        monitor: str | None = None,
        earlystop_taskid: Index | str | None = None,
        keep: Literal["best", "last"] = "best",
        trainable: Sequence[str] | None = None,
        eval_every: Count = 1,
        test_every: Count | None = None,
        save_step: Count | None = None,
        save_seconds: NonNegative = 30.0,
        show_step: Count | None = None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.part_lr = dict(part_lr or {})
        self.weighting = weighting
        self.scheduler = scheduler
        self.scheduler_every = scheduler_every
        self.regularization = regularization
        self.clip_norm = clip_norm
        self.patience = patience
        self.min_improvement = min_improvement
        self.monitor = monitor
        self.earlystop_taskid = earlystop_taskid
        self.keep = keep
        self.trainable = trainable
        self.eval_every = eval_every
        self.test_every = test_every
        self.save_step = save_step
        self.save_seconds = save_seconds
        self.show_step = show_step

    def fit(self, model: nn.Module, dataset: Dataset, place: Place, rows: int = 0) -> Progress:
        """Trains `model` in place, going on from the stage's last checkpoint if there is one.

        Args:
            model: Ends with the weights that the stage keeps.
            dataset: Gives the batches and judges the model.
            place: Where this happens.
            rows: Lines that metrics.jsonl holds before this stage.

        Raises:
            Interrupted: After saving, if the run was asked to stop.
            Diverged: The loss is not finite; the last good checkpoint is on the disk.
            ConfigError: A key does not fit the model or the data.
        """
        return Fit(self, model, dataset, place).run(rows)


class Fit:
    """One training of one model: the state that `Trainer.fit` works on."""

    def __init__(self, trainer: Trainer, model: nn.Module, dataset: Dataset, place: Place) -> None:
        self.trainer, self.model, self.dataset, self.place = trainer, model, dataset, place
        self.objective = trainer.objective.to(place.device.torch)
        self.monitor = which(trainer.monitor, trainer.earlystop_taskid, dataset)
        self.learned = [*freeze_others(model, trainer.trainable, place.stage), *self.objective.parameters()]
        self.weighting = trainer.weighting(model).to(place.device.torch) if trainer.weighting else None
        groups = parameter_groups(model, self.objective, trainer.lr, trainer.part_lr, place.stage)
        self.optimizer = trainer.optimizer([*groups, *weighting_group(self.weighting, trainer.lr)], lr=trainer.lr)
        self.scheduler = self.make_scheduler()
        self.scaler = place.device.scaler()
        self.progress = Progress()
        self.losses = RunningLosses(place.device.torch)
        self.saved_at = time.monotonic()
        self.validates = len(dataset.units("valid")) > 0
        self.refuse_missing_parts()

    def refuse_missing_parts(self) -> None:
        """Raises ConfigError if a key needs a part that the data do not have."""
        trainer = self.trainer
        asks = {"keep=best": trainer.keep == "best", f"patience={trainer.patience}": trainer.patience is not None}
        asks["scheduler=plateau"] = needs_metric(self.scheduler)
        wanting = [key for key, asked in asks.items() if asked and not self.validates]
        if wanting:
            raise ConfigError(
                f"stage {self.place.stage}: trainer.{wanting[0]} needs a validation part, and these data have none; "
                "use trainer.keep=last without early stopping, or a dataset split that makes one"
            )
        if trainer.test_every and not len(self.dataset.units("test")):
            raise ConfigError(
                f"stage {self.place.stage}: trainer.test_every={trainer.test_every} needs a test part with labels, "
                "and these data have none"
            )

    def make_scheduler(self) -> Any:
        """The trainer's scheduler, if it has one, for the metric that decides at present."""
        by_step = self.trainer.scheduler_every == "step"
        steps = self.trainer.epochs * (self.steps_per_epoch() if by_step else 1)
        return make_scheduler(self.trainer.scheduler, self.optimizer, self.monitor, steps)

    def run(self, rows: int) -> Progress:
        """Trains to the end and leaves the kept weights in the model."""
        self.progress.rows = rows
        if checkpoint.exists(self.place.directory / "last"):
            self.restore()
        self.place.log.keep(self.progress.rows)
        while self.progress.epoch < self.trainer.epochs and not self.out_of_patience():
            self.train_epoch()
            self.finish_epoch()
        self.save("last")
        if self.trainer.keep == "best":
            checkpoint.load_weights(self.place.directory / "best", self.model)
        return self.progress

    def train_epoch(self) -> None:
        """The rest of an epoch, from the step where `progress` stands."""
        if self.progress.step == 0:
            seeds.seed_torch(self.place.seed, "noise", self.place.stage, self.progress.epoch)
        self.model.train()
        hold_frozen_norms(self.model)
        started = time.perf_counter()
        for batch in self.batches():
            self.pause()
            self.step(self.place.device.move(batch))
            self.progress.step += 1
            self.progress.steps += 1
            self.progress.units += rows_of(batch)
            self.place.reporter.step(self)
            now = time.perf_counter()
            self.progress.seconds += now - started
            started = now
        self.check_finite()

    def step(self, batch: Batch) -> None:
        """One update. Losses stay on the device: nothing here waits for it."""
        with self.place.device.autocast():
            losses = self.objective(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        (self.weighting or self.objective).backward(losses, self.model, self.scaler.scale)
        self.shape_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step_scheduler("step")
        self.losses.add(losses)

    def shape_gradients(self) -> None:
        """Adds what regularisation wants and bounds the norm, where the trainer says so."""
        trainer = self.trainer
        if trainer.regularization is None and trainer.clip_norm is None:
            return
        self.scaler.unscale_(self.optimizer)
        if trainer.regularization is not None:
            trainer.regularization.add_gradients(self.model)
        if trainer.clip_norm is not None:
            clip_norm(self.learned, trainer.clip_norm)

    def step_scheduler(self, after: Literal["epoch", "step"]) -> None:
        """Steps the scheduler if that is when it steps; a plateau waits for `validate`."""
        if self.scheduler is not None and after == self.trainer.scheduler_every and not needs_metric(self.scheduler):
            self.scheduler.step()

    def pause(self) -> None:
        """Between two steps: stop if asked to, save if the last checkpoint is old."""
        if self.place.stop():
            self.save("last")
            raise Interrupted(f"stage {self.place.stage}, epoch {self.progress.epoch + 1}, step {self.progress.step}")
        if time.monotonic() - self.saved_at >= self.trainer.save_seconds:
            self.save("last")

    def batches(self) -> Iterator[Batch]:
        """What is left of this epoch's batches."""
        rng = seeds.numpy_stream(self.place.seed, "shuffle", self.place.stage, self.progress.epoch)
        left = self.dataset.train_batches(self.trainer.batch_size, rng, start=self.progress.step)
        limit = self.place.step_limit
        return islice(left, None if limit is None else max(0, limit - self.progress.step))

    def steps_per_epoch(self) -> int:
        """Training steps in one epoch."""
        steps = math.ceil(self.dataset.train_size() / self.trainer.batch_size)
        return steps if self.place.step_limit is None else min(steps, self.place.step_limit)

    def finish_epoch(self) -> None:
        """Counts the epoch, validates, steps the scheduler and saves."""
        progress = self.progress
        progress.epoch += 1
        progress.step = 0
        self.step_scheduler("epoch")
        if self.validates and (progress.epoch % self.trainer.eval_every == 0 or progress.epoch == self.trainer.epochs):
            self.validate()
        if not self.validates:
            self.write_row("train", {}, 0.0)
        if self.trainer.test_every and progress.epoch % self.trainer.test_every == 0:
            self.judge("test")
        if self.trainer.save_step and progress.epoch % self.trainer.save_step == 0:
            self.save(f"epoch-{progress.epoch}")
        self.pause()

    def validate(self) -> None:
        """Evaluates on the validation part, writes the row, keeps the best and steps the scheduler."""
        value = self.monitored(self.judge("valid"))
        self.progress.monitor = self.monitor
        self.place.reporter.evaluated(self, value)
        if self.progress.improved(value, self.trainer.min_improvement, lower_is_better(self.monitor)):
            self.progress.best, self.progress.best_epoch, self.progress.stale = value, self.progress.epoch, 0
            if self.trainer.keep == "best":
                self.save("best")
        else:
            self.progress.stale += 1
        if needs_metric(self.scheduler):
            self.scheduler.step(value)

    def judge(self, split: Split) -> Evaluation:
        """Evaluates on a split and writes the row."""
        started = time.perf_counter()
        evaluator, place = self.dataset.evaluator, self.place
        found = evaluator(self.model, self.dataset, split, place.device, place.eval_limit)
        self.write_row(split, found.metrics, time.perf_counter() - started)
        return found

    def monitored(self, found: Evaluation) -> float:
        """The value of the monitored metric; where it is undefined another one decides from now on."""
        name, value = judged_by(self.monitor, found)
        if name != self.monitor:
            logger.warning("%s is undefined on the validation part; %s decides instead", self.monitor, name)
            self.monitor, self.progress.best, self.progress.stale = name, None, 0
            self.scheduler = self.make_scheduler() if needs_metric(self.scheduler) else self.scheduler
        return value

    def write_row(self, split: str, found: Metrics, seconds: float) -> None:
        """One line of metrics.jsonl: the losses since the line before, and what the validation, if any, found."""
        progress, losses = self.progress, self.running_losses()
        row = {
            "stage": self.place.stage,
            "epoch": progress.epoch,
            "step": progress.steps,
            "split": split,
            "metrics": found,
            "losses": losses,
            **self.weights(),
            "train_seconds": round(progress.seconds, 6),
            "eval_seconds": round(seconds, 6),
            "samples_per_second": round(progress.units / max(progress.seconds, 1e-9), 1),
        }
        self.place.log.append(row)
        told = " ".join(f"{name} {value:.6g}" for name, value in [*losses.items(), *found.items()])
        logger.info("%s epoch %d: %s", self.place.stage, progress.epoch, told)
        progress.rows += 1
        progress.close_row(seconds)
        self.losses = RunningLosses(self.place.device.torch)

    def running_losses(self) -> dict[str, float]:
        """Mean losses since the last row. Waits for the device."""
        return self.losses.means()

    def weights(self) -> dict[str, dict[str, float]]:
        """What the tasks count at present, if a weighting decides. Waits for the device."""
        if self.weighting is None:
            return {}
        return {"weights": dict(zip(self.weighting.tasks, self.weighting.weights().tolist(), strict=True))}

    def out_of_patience(self) -> bool:
        """Whether early stopping ends the stage."""
        return self.trainer.patience is not None and self.progress.stale >= self.trainer.patience

    def check_finite(self) -> None:
        """Raises Diverged if a loss has been NaN or infinite. Waits for the device."""
        bad = self.losses.first_bad_step()
        if bad >= 0:
            step = bad - self.losses.steps + self.progress.step
            raise Diverged(
                f"stage {self.place.stage}: the loss is not finite at step {step} of epoch {self.progress.epoch + 1}. "
                f"Checkpoints in {self.place.directory} are from before; try a lower lr or trainer.clip_norm"
            )

    def save(self, name: str) -> None:
        """Writes a checkpoint of the stage; `last` carries the state that `restore` reads."""
        self.check_finite()
        done = self.progress
        card = {**self.place.card, "stage": self.place.stage, "epoch": done.epoch, "step": done.steps, "kind": name}
        card |= {"best_epoch": done.best_epoch, "monitor": self.monitor, "best": done.best}
        checkpoint.save(self.place.directory / name, self.model, card, self.state() if name == "last" else None)
        if name == "last":
            self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything besides the weights that the next step depends on."""
        return {
            "progress": asdict(self.progress),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "objective": self.objective.state_dict(),
            "weighting": self.weighting.state_dict() if self.weighting is not None else None,
            "scaler": self.scaler.state_dict(),
            "losses": self.losses.state(),
            "carried": carried(self.model),
            "random": seeds.torch_state(),
        }

    def restore(self) -> None:
        """Goes back to the stage's last checkpoint."""
        last = self.place.directory / "last"
        checkpoint.load_weights(last, self.model, self.dataset.fingerprint)
        state = checkpoint.load_state(last)
        self.progress = Progress(**state["progress"])
        self.monitor = self.progress.monitor or self.monitor
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.objective.load_state_dict(state["objective"])
        if self.weighting is not None:
            self.weighting.load_state_dict(state["weighting"])
        self.scaler.load_state_dict(state["scaler"])
        self.losses.load(state["losses"])
        carry_on(self.model, state["carried"])
        seeds.set_torch_state(state["random"])


def rows_of(batch: Batch) -> int:
    """The number of units in a batch."""
    name, value = next(iter(batch.items()))
    return len(value) - 1 if name.endswith("_offsets") else len(value)
