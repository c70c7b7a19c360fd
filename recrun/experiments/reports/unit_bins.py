"""A metric by what units are like: by their activity, and by the popularity of their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recrun.errors import DataError
from recrun.experiments.compare.compare import is_by_session, unit_of
from recrun.experiments.compare.runs import StoredRun
from recrun.experiments.compare.units import UnitValues, matched, metric_names, opened_npz, read_units
from recrun.experiments.reports.charts import Chart, Estimate, interval_chart
from recrun.experiments.reports.estimates import normal
from recrun.runtime.run_files import inside, profile_file
from recrun.types import Split

BINS = 5
PROFILES = {"activity": "by input events", "popularity": "by training events of the targets"}

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Some of the units of a run: those with a like activity, or popularity.

    Attributes:
        mask_U: Which.
        low, high: The least and the greatest of it.
    """

    mask_U: npt.NDArray[np.bool_]
    low: float
    high: float

    @property
    def name(self) -> str:
        """The range."""
        return " to ".join(dict.fromkeys((self.text(self.low), self.text(self.high))))

    @staticmethod
    def text(number: float) -> str:
        """Whole numbers whole, others short."""
        return f"{number:,.0f}" if number == int(number) or number >= 100 else f"{number:.1f}"


def bins_of(values_U: Numbers) -> list[Bin]:
    """At most BINS bins of about equal size; equal values are in one bin."""
    cuts = np.unique(np.quantile(values_U, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    bin_U = np.searchsorted(cuts, values_U)
    masks = [bin_U == at for at in np.unique(bin_U)]
    return [Bin(mask_U, float(values_U[mask_U].min()), float(values_U[mask_U].max())) for mask_U in masks]


def bin_charts(run: StoredRun, split: Split, metric: str) -> Iterator[Chart]:
    """A chart for activity and one for popularity; none where the run says nothing of these.

    Raises:
        DataError: A file is damaged.
    """
    path = profile_file(run.directory, split)
    units = inside(run.directory, "units", f"{split}.npz")
    if not path.is_file() or metric not in metric_names(units):
        return
    (values, *_) = read_units(units, [metric])
    for name, profile_U in read_profile(path, len(values.ids)).items():
        bins = bins_of(profile_U)
        if len(bins) > 1:
            estimates = [estimate(one, run, values, metric) for one in bins]
            chart = interval_chart(f"{split} {metric} {PROFILES[name]}", metric, estimates)
            if chart is not None:
                yield chart


def read_profile(path: Path, size: int) -> dict[str, Numbers]:
    """Activity and popularity of units.

    Raises:
        DataError: The file is damaged, or of other units.
    """
    with opened_npz(path) as file:
        arrays: dict[str, npt.NDArray[Any]] = {name: file[name] for name in PROFILES}
    for name, values in arrays.items():
        if values.shape != (size,) or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise DataError(f"{path}: {name} must be {size} numbers, one for each unit in units/")
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def estimate(one: Bin, run: StoredRun, values: UnitValues, metric: str) -> Estimate:
    """The mean of a bin, with its interval where it has two units or more."""
    mask_U, by_session = one.mask_U, is_by_session(run)
    mean = float(values.values[metric][mask_U].mean())
    count = f"{np.count_nonzero(mask_U):,} {'events' if by_session else unit_of(run)}"
    name = f"{one.name} ({count})"
    chosen = UnitValues(values.ids[mask_U], values.weights[mask_U], {metric: values.values[metric][mask_U]})
    try:
        block = matched({str(run.directory): chosen}, unit_of(run), by_session)
    except DataError:  # a single session
        return Estimate(name, mean, mean, mean)
    if len(block.weights_U) < 2:
        return Estimate(name, mean, mean, mean)
    interval = normal(metric, block.values_MRU[0], block).interval
    return Estimate(name, mean, interval.low, interval.high)
