"""The few words that every module shares. Importing them costs nothing: no torch, no numpy.

Shape suffixes, as in `logits_BI`:
    B  batch (users, sessions, impressions)     I  items in the catalogue
    H  hidden width                             L  latent width
    N  flat entries of a ragged field           K  length of a ranking
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

from annotated_types import Ge, Gt, Interval, MinLen

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

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
Counts: TypeAlias = Annotated[Sequence[Count], MinLen(1)]
Index: TypeAlias = Annotated[int, Ge(0)]
Positive: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Probability: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]
Share: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
Fraction: TypeAlias = Annotated[float, Interval(gt=0, lt=1)]

# A constructor parameter of a model that the data give, by its name (see `Dataset.sizes`): no key of a config.
T = TypeVar("T")
FromData: TypeAlias = Annotated[T, "given by the data"]


LOWER_IS_BETTER = ("loss", "logloss", "rmse", "mae", "squared_error", "bpr", "warp")


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric that is computed here ("logloss", "income/rmse") means a better model."""
    return metric.rsplit("/", 1)[-1] in LOWER_IS_BETTER


@dataclass(frozen=True)
class GroupValues:
    """A metric with one value for each group of rows.

    Attributes:
        ids: Of the groups [G], each once.
        weights: What a group counts in the mean, positive [G].
        values: float64 [G].
    """

    ids: np.ndarray
    weights: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator finds.

    Attributes:
        metrics: Means over the units, and metrics that only the whole has (coverage).
        ids: Ids of the units, as strings [U].
        units: One value per unit for every metric that has one, {"ndcg@10": float64 [U]}.
        instead: Metrics that these data leave undefined (no AUC of one class), each with the one to go on by.
        groups: Of metrics whose units are groups of rows (group_auc of tables) their values.
    """

    metrics: Metrics
    ids: np.ndarray
    units: dict[str, np.ndarray]
    instead: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, GroupValues] = field(default_factory=dict)
