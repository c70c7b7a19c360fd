"""The few words that every module shares. Importing them costs nothing: no torch, no numpy.

Shape suffixes, as in `logits_BI`:
    B  batch (users, sessions, impressions)     I  items in the catalogue
    H  hidden width                             L  latent width
    N  flat entries of a ragged field           K  length of a ranking
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

from annotated_types import Ge, Gt, Interval

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from recrun.device import Device

# A batch maps field names to tensors. A field is batch-first, [B, ...], or ragged: then `x` holds the flat
# values, [N], and `x_offsets` where each row begins and ends, int64 [B + 1]. Where rows are sorted by length,
# `x_groups`, int64 [G, 2], may say how many there are of each length; it stays on the CPU, for it decides shapes.
Batch: TypeAlias = "dict[str, Tensor]"

Metrics: TypeAlias = dict[str, float]
Split: TypeAlias = Literal["valid", "test"]
Side: TypeAlias = Literal["user", "item"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

# Numbers with a range. The config check reads them from constructor signatures, so a bad value is refused early.
Count: TypeAlias = Annotated[int, Ge(1)]
Index: TypeAlias = Annotated[int, Ge(0)]
Positive: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Probability: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]
Fraction: TypeAlias = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator finds.

    Attributes:
        metrics: Means over the units, and metrics that only the whole has (coverage).
        ids: Ids of the units, as strings [U].
        units: One value per unit for every metric that has one, {"ndcg@10": float64 [U]}.
        instead: Metrics that these data leave undefined (no AUC of one class), each with the one to go on by.
    """

    metrics: Metrics
    ids: np.ndarray
    units: dict[str, np.ndarray]
    instead: Mapping[str, str] = field(default_factory=dict)


class Dataset(Protocol):
    """Reads files once into arrays and yields batches. One instance serves all the stages of a run.

    Attributes:
        kind: What the batches hold; a model names the kind it reads. A plain literal in the class body.
        unit: What a row of a batch is, in the plural: "users", "sessions". Progress is counted in it.
        sizes: Constructor arguments of the model that the data decide, for example {"n_items": 1682}; besides
            numbers, an array to start from.
        monitor: The metric that early stopping and `keep: best` watch by default.
        evaluator: The object that judges a model on this data (see recrun.evaluate).
        fingerprint: Hash of the data and its split: equal fingerprints mean equal train, valid and test rows.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    sizes: Mapping[str, Any]
    monitor: str
    evaluator: Evaluator
    fingerprint: str

    def describe(self) -> dict[str, int]:
        """Counts for the person who reads the run: users, items, interactions of each part, rows dropped."""

    def train_size(self) -> int:
        """Units (users, impressions, events) in one training epoch."""

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int = 0) -> Iterator[Batch]:
        """One epoch of batches in the order that `rng` decides, from batch number `start` on.

        Equal `rng` states give equal batches, and `start=n` gives exactly what is left after n batches.
        """

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The units of a split, in a fixed order, `batch_size` at a time."""

    def units(self, split: Split) -> np.ndarray:
        """Ids of a split's units in the order of `eval_batches`, as strings [U]."""

    def vocabulary(self) -> dict[str, np.ndarray]:
        """Ids by index, as strings, for example {"items": [n_items]}."""

    def entities(self, side: Side, split: Split) -> Iterator[tuple[np.ndarray, Batch]]:
        """Ids [n], as strings, and batches from which a model can embed a split's users, or its items, in parts."""


class Evaluator(Protocol):
    """Judges a model on a split of a data set; see recrun.evaluate."""

    def __call__(
        self,
        model: nn.Module,
        dataset: Dataset,
        split: Split,
        device: Device,
        limit: int | None = None,
    ) -> Evaluation:
        """Metrics, and one value per unit, on a split or its first `limit` batches."""

    def predict(self, model: nn.Module, dataset: Dataset, split: Split, device: Device) -> Iterator[str]:
        """Lines of a file of predictions for the units of a split, in order."""
