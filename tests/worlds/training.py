"""Small worlds for tests of the loop: a model with one answer, data that are a few numbers, a context to train in."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from recrun.evaluation.metrics import greater_is_better
from recrun.experiments.run_record import MetricsLog
from recrun.objectives.base import Objective
from recrun.runtime.device import Device
from recrun.training.settings import StageContext
from recrun.training.trainer import Trainer
from recrun.types import Evaluation


class Line(nn.Module):
    """y = a x + b, with dropout on x so that the noise stream matters."""

    kind = "numbers"

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Linear(1, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch):
        return self.slope(self.dropout(batch["x"]))


class Squared(Objective):
    """Mean squared error, counting its steps as an annealing objective does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, model, batch):
        self.steps += 1
        return {"mse": (model(batch) - batch["y"]).square().mean()}


class Fitted:
    """Evaluator: minus the error on all the data."""

    def greater_is_better(self, name):
        return greater_is_better(name)

    def __call__(self, model, dataset, split, device, limit=None):
        with torch.no_grad():
            error = (model({"x": dataset.x}) - dataset.y).square().mean()
        return Evaluation({"fit": -float(error)}, dataset.units(split), {})


class Points:
    """y = 2 x + 1."""

    kind = "numbers"
    train_unit = "points"
    sizes = {"n_points": 64}
    monitor = "fit"
    fingerprints = {"dataset_fingerprint": "points"}
    evaluator = Fitted()

    def __init__(self) -> None:
        self.x = torch.linspace(-1, 1, 64)[:, None]
        self.y = 2 * self.x + 1

    def describe(self):
        return {"points": 64}

    def train_size(self):
        return 64

    def train_batches(self, batch_size, rng, start=0, stride=1):
        order = rng.permutation(64)
        for at in range(start * batch_size, 64, stride * batch_size):
            index = torch.from_numpy(order[at : at + batch_size])
            yield {"x": self.x[index], "y": self.y[index]}

    def eval_size(self, split):
        return 64

    def eval_batches(self, split, batch_size):
        yield {"x": self.x, "y": self.y}

    def units(self, split):
        return np.arange(64).astype(str)

    def vocabulary(self):
        return {}


class Silent:
    """A reporter that says nothing."""

    def step(self, fit):
        pass

    def evaluated(self, row, monitored):
        pass


def never():
    return False


def context_in(directory: Path, **changes) -> StageContext:
    """A context on the CPU, in a temporary directory."""
    values = {
        "stage": "train",
        "directory": directory / "train",
        "seed": 3,
        "device": Device(torch.device("cpu")),
        "step_limit": None,
        "eval_limit": None,
        "card": {"dataset_fingerprint": "points"},
        "reporter": Silent(),
        "log": MetricsLog(directory),
        "stop": never,
    }
    return StageContext(**{**values, **changes})


def trainer_of(**changes) -> Trainer:
    """A trainer for Line on Points."""
    values = {
        "objective": Squared(),
        "optimizer": torch.optim.Adam,
        "epochs": 4,
        "lr": 0.05,
        "batch_size": 10,
    }
    return Trainer(**{**values, **changes})
