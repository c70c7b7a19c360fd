"""Means over units with their intervals, and the values themselves, of finished runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recrun.errors import RecrunError
from recrun.experiments.compare.bootstrap import Interval, spread
from recrun.experiments.compare.compare import Estimates, blocks_of
from recrun.experiments.compare.runs import Setting
from recrun.experiments.compare.units import MatchedUnits, metric_names
from recrun.runtime.run_files import inside
from recrun.types import Split

MOST_RESAMPLED = 50_000  # units; the mean of more is normal enough, and drawing them takes minutes
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Value:
    """A metric's mean over units and seeds, with its 95 % interval."""

    metric: str
    mean: float
    interval: Interval
    units: int
    unit: str


def values_of(settings: Sequence[Setting], split: Split, metrics: Sequence[str] = ()) -> Iterator[dict[str, Value]]:
    """Of each setting the metrics that have values per unit; all of them, if none are asked for.

    Raises:
        RecrunError: The units of the runs differ, or a file is damaged.
    """
    runs = [run for setting in settings for run in setting.runs]
    named = [metric_names(inside(run.directory, "units", f"{split}.npz")) for run in runs]
    common = [name for name in named[0] if all(name in names for names in named)]
    wanted = [name for name in metrics if name in common] if metrics else common
    found: list[dict[str, Value]] = [{} for _ in settings]
    for block in blocks_of(runs, wanted, split) if wanted else ():
        for at, values in enumerate(of_block(settings, block)):
            found[at] |= {value.metric: value for value in values}
    yield from found


def of_block(settings: Sequence[Setting], block: MatchedUnits) -> Iterator[list[Value]]:
    """Of each setting its values: intervals by the bootstrap, or of the normal distribution for very many units."""
    size = len(block.weights_U)
    if size <= MOST_RESAMPLED:
        estimates = Estimates(settings, block)
        for at in range(len(settings)):
            summaries = [estimates.summary(at, metric) for metric in block.metrics]
            yield [Value(one.metric, one.mean, one.interval, size, block.unit) for one in summaries]
        return
    begin = 0
    for setting in settings:
        values_MSU = block.values_MRU[:, begin : begin + len(setting.runs)]
        begin += len(setting.runs)
        yield [normal(metric, values_SU, block) for metric, values_SU in zip(block.metrics, values_MSU, strict=True)]


def normal(metric: str, values_SU: npt.NDArray[np.float64], block: MatchedUnits) -> Value:
    """The mean with the interval of the normal distribution."""
    values_U = values_SU.mean(0)
    mean = float((values_U * block.weights_U).mean())
    half = NORMAL_95 * math.sqrt(spread(values_U, block.weights_U, values_SU).variance)
    return Value(metric, mean, Interval(mean - half, mean + half), len(values_U), block.unit)


def unit_values(setting: Setting, split: Split, metric: str) -> npt.NDArray[np.float64] | None:
    """A metric's value of each unit, of a setting of one run; None where there are none."""
    try:
        (block,) = blocks_of(setting.runs, [metric], split)
    except (RecrunError, ValueError):
        return None
    values: npt.NDArray[np.float64] = block.values_MRU[0].mean(0)
    return values
