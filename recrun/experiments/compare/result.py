"""What a comparison finds: a value per setting and metric, and a difference per pair of settings and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from recrun.experiments.compare.bootstrap import Interval
from recrun.types import Split, lower_is_better

Correction: TypeAlias = Literal["holm", "bh"]

ALPHA = 0.05  # of a corrected p-value


@dataclass(frozen=True)
class Summary:
    """A setting's value of a metric.

    Attributes:
        mean: Over units and seeds.
        sd: Standard deviation over seeds (n - 1); None for one seed.
        interval: For other units, and for other seeds where there are several.
    """

    setting: str
    metric: str
    unit: str
    units: int
    seeds: int
    mean: float
    sd: float | None
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """A setting against another one in a metric.

    Attributes:
        difference: The setting's mean less the other's.
        interval: Of the difference.
        d_z: Mean over standard deviation of the units' differences.
        better, equal, worse: Shares of the units.
        p: Of each test, uncorrected: "t", "wilcoxon" and "permutation" over units, averaged over seeds first; and the
            one that "decides": t with the variance that the interval has, which counts how seeds vary. For one seed and
            units of equal weight it is "t".
        corrected: The same, each corrected over all comparisons of the table.
    """

    setting: str
    baseline: str
    metric: str
    unit: str
    units: int
    seeds: tuple[int, int]
    means: tuple[float, float]
    difference: float
    interval: Interval
    d_z: float
    better: float
    equal: float
    worse: float
    p: Mapping[str, float]
    corrected: Mapping[str, float]

    @property
    def verdict(self) -> Literal["better", "worse", "no difference shown"]:
        """What the corrected test shows of the setting."""
        if self.corrected["decides"] >= ALPHA:
            return "no difference shown"
        return "better" if (self.difference > 0) != lower_is_better(self.metric) else "worse"


@dataclass(frozen=True)
class ComparisonResult:
    """Everything that a format shows."""

    split: Split
    correction: Correction
    baseline: str | None
    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]

    def summary(self, setting: str, metric: str) -> Summary:
        """One setting's value of a metric."""
        return next(one for one in self.summaries if (one.setting, one.metric) == (setting, metric))
