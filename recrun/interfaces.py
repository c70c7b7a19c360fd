"""The protocols between the packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from recrun.types import Batch, Evaluation, Side, Split

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


class ComputeDevice(Protocol):
    """Where a model and its batches are, and in which precision it computes; see recrun.runtime.device."""

    @property
    def torch(self) -> torch.device:
        """The device as torch names it."""

    def move(self, batch: Batch) -> Batch:
        """The batch on the device."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the forward pass runs."""


@dataclass(frozen=True)
class TrainingEvents:
    """All training events of a log, for models that are solved in closed form.

    Attributes:
        unit, item: Indices, int32 [N], by unit, in order where there is one.
        n_units, n_items: Sizes of the vocabularies.
    """

    unit: np.ndarray
    item: np.ndarray
    n_units: int
    n_items: int


class Dataset(Protocol):
    """Reads files once into arrays and yields batches. One instance serves all the stages of a run.

    Where the units of a batch are not `batch_size`, `train_steps(batch_size)` says how many batches an epoch has.

    Attributes:
        kind: What the batches hold; a model names the kind it reads. A plain literal in the class body.
        sequential: Whether a batch goes on where the one before it ended; False if absent.
        train_unit: What a row of a training batch is, in the plural: "users", "events". Progress is counted in it.
        sizes: Constructor arguments of the model that the data decide, for example {"n_items": 1682}; besides
            numbers, an array to start from.
        monitor: The metric that early stopping and `keep: best` watch by default.
        evaluator: Evaluates a model on this data (see recrun.evaluation.full_ranking).
        fingerprints: Hashes by name: `dataset_fingerprint` of the data, where there is a split of them
            `split_fingerprint`, and where the model reads features `features_fingerprint`. Weights and training state
            go with equal ones.
    """

    kind: ClassVar[str]
    sizes: Mapping[str, Any]
    monitor: str
    evaluator: Evaluator

    @property
    def train_unit(self) -> str: ...

    @property
    def fingerprints(self) -> Mapping[str, str]: ...

    def describe(self) -> Mapping[str, float]:
        """Counts for the person who reads the run: users, items, interactions of each split, rows dropped."""

    def train_size(self) -> int:
        """Units (users, impressions, events) in one training epoch."""

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """One epoch of batches in the order that `rng` decides: every `stride`-th, from batch number `start` on.

        Equal `rng` states give equal batches, and `start=n` gives exactly what is left after n batches.
        """

    def eval_size(self, split: Split) -> int:
        """Units of a split that can be evaluated; 0 if there are none, or they have no labels."""

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The units of a split, in a fixed order, `batch_size` at a time."""

    def units(self, split: Split) -> np.ndarray:
        """Ids of a split's units in the order of `eval_batches`, as strings [U]."""

    def vocabulary(self) -> dict[str, np.ndarray]:
        """Ids by index, as strings, for example {"items": [n_items]}."""

    def entities(self, side: Side, split: Split) -> Iterator[tuple[np.ndarray, Batch]]:
        """Ids [n], as strings, and batches from which a model can embed a split's users, or items, some at a time."""


class EventsDataset(Dataset, Protocol):
    """A data set of events, which has them all at once."""

    def training_events(self) -> TrainingEvents:
        """All training events."""


class Evaluator(Protocol):
    """Evaluates a model on a split of a data set; see recrun.evaluation.full_ranking.

    Where `names(dataset)` lists the metrics that it may find, a monitor that is none of them is refused at once.

    Attributes:
        kind: The kind of data that it evaluates on: "events", "news", "table". A plain literal in the class body.
        monitor: The metric that early stopping watches by default; None = the data set says.
    """

    @property
    def monitor(self) -> Any: ...

    def greater_is_better(self, name: str) -> bool:
        """Whether a greater value of a metric means a better model."""

    def __call__(
        self,
        model: nn.Module,
        dataset: Any,
        split: Split,
        device: ComputeDevice,
        limit: int | None = None,
    ) -> Evaluation:
        """Metrics, and one value per unit, on a split or its first `limit` batches."""

    def predict(self, model: nn.Module, dataset: Any, split: Split, device: ComputeDevice) -> Iterator[str]:
        """Lines of a file of predictions for the units of a split, in order."""


@dataclass(frozen=True)
class TrainingStatus:
    """What a reporter may show of a training under way.

    Attributes:
        stage: Its name.
        epoch, epochs: Finished epochs, and all of the stage.
        step, steps_per_epoch: Finished steps of the current epoch, and all of an epoch.
        units, seconds: What the stage has trained on so far, and the time that it took.
        unit: What `units` counts, in the plural.
        show_step: Steps between updates; None = by time.
        losses: Gives the mean losses since the last evaluation. Synchronises with the device.
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    units: int
    seconds: float
    unit: str
    show_step: int | None
    losses: Callable[[], Mapping[str, float]]


class Trainer(Protocol):
    """What a stage does with a model; see recrun.training.trainer."""

    def fit(self, model: nn.Module, dataset: Dataset, context: Any, rows: int = 0) -> Any:
        """Trains the model in place; returns how far it came."""


class Tracker(Protocol):
    """Shows rows elsewhere. Made by the group `tracker` from the run's directory and config.

    Attributes:
        package: What it needs to be installed, by its import name. A plain literal in the class body.
    """

    package: ClassVar[str]

    def append(self, row: Mapping[str, Any]) -> None:
        """One row more."""

    def keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All rows so far, when a stage begins: those of an interrupted run among them."""

    def finish(self, results: Mapping[str, Any]) -> None:
        """The run has finished; `results` is what results.json holds, and all other files are there too."""

    def close(self) -> None:
        """After the last row."""


class Reporter(Protocol):
    """Shows the progress of training; see recrun.console.progress_bar."""

    def step(self, status: TrainingStatus) -> None:
        """After every step."""

    def evaluated(self, row: Mapping[str, Any], monitored: tuple[str, float] | None) -> None:
        """After every validation, or epoch without one: the row of metrics.jsonl, and what decides, if anything."""


class Log(Protocol):
    """metrics.jsonl; see recrun.experiments.run_record."""

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""

    def keep(self, rows: int) -> None:
        """Cuts the file to its first lines: those after a checkpoint are written again."""
