"""Settings compared: means over units and seeds, differences with intervals, tests, and what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import stdev
from typing import Any, TypeAlias

import numpy as np

from recrun.console.tables import room_for
from recrun.errors import ConfigError, DataError, did_you_mean
from recrun.experiments.compare import paired_tests
from recrun.experiments.compare.bootstrap import Floats, bca, resampled_means, seed_weights, spread
from recrun.experiments.compare.result import Comparison, ComparisonResult, Correction, Summary
from recrun.experiments.compare.runs import Setting, StoredRun, printable
from recrun.experiments.compare.units import MatchedUnits, UnitValues, matched, metric_names, read_units
from recrun.runtime.run_files import inside
from recrun.types import Split, lower_is_better

Pair: TypeAlias = tuple[int, int]  # settings: the one compared, and the one that it is compared with

CORRECT = {"holm": paired_tests.holm, "bh": paired_tests.benjamini_hochberg}
SEED = 0  # of resampling: the same runs give the same table
ROUNDING = 1e-12  # relative; means over seeds that differ by less are equal
AGREES = 1e-6  # how far results.json may be from the mean of the units' values


def compare(
    settings: Sequence[Setting],
    metrics: Sequence[str],
    split: Split,
    baseline: int | None,
    correction: Correction,
) -> ComparisonResult:
    """Compares settings whose runs were evaluated alike.

    Args:
        settings: Of them the first gives the order of units.
        metrics: Names; the monitor and some others if there are none.
        split: Whose units.
        baseline: The index of the setting that all others are compared with; None compares all pairs.
        correction: For all comparisons of the table together.

    Raises:
        ConfigError: A metric has no values per unit.
        DataError: Files are damaged, or the units of runs are not the same.
    """
    runs = [run for setting in settings for run in setting.runs]
    asked = chosen_metrics(runs, metrics, split)
    pairs = pairs_of(len(settings), baseline)
    summaries: list[Summary] = []
    comparisons: list[Comparison] = []
    for block in blocks_of(runs, asked, split):
        estimates = Estimates(settings, block)
        for metric in block.metrics:
            summaries += [estimates.summary(at, metric) for at in range(len(settings))]
            comparisons += [estimates.comparison(pair, metric) for pair in pairs]
    return ComparisonResult(
        split=split,
        correction=correction,
        baseline=None if baseline is None else settings[baseline].name,
        settings=tuple(setting.name for setting in settings),
        metrics=tuple(asked),
        summaries=tuple(summaries),
        comparisons=tuple(sorted(corrected(comparisons, correction), key=lambda one: asked.index(one.metric))),
    )


def pairs_of(count: int, baseline: int | None) -> list[Pair]:
    """All settings against the baseline, or every later one against every earlier one."""
    if baseline is None:
        return [(later, earlier) for earlier, later in combinations(range(count), 2)]
    return [(at, baseline) for at in range(count) if at != baseline]


def chosen_metrics(runs: Sequence[StoredRun], metrics: Sequence[str], split: Split) -> list[str]:
    """The metrics asked for, if every run has their values per unit; else the first ones, the monitor before others."""
    available = {run.directory: metric_names(inside(run.directory, "units", f"{split}.npz")) for run in runs}
    for directory, names in available.items():
        for metric in metrics:
            if metric not in names:
                raise ConfigError(
                    f"{metric} has no values per unit in {directory}{did_you_mean(metric, names)} "
                    f"(there are: {', '.join(names)})"
                )
    shared = [name for name in available[runs[0].directory] if all(name in names for names in available.values())]
    if not shared:
        raise ConfigError(f"the runs have no metric in common in units/{split}.npz")
    monitors = dict.fromkeys(run.results.get("monitor") for run in runs)
    return list(dict.fromkeys(metrics)) or room_for(shared, [name for name in shared if name in monitors])


def blocks_of(runs: Sequence[StoredRun], metrics: Sequence[str], split: Split) -> Iterator[MatchedUnits]:
    """The values of all runs, matched: metrics of the same units together."""
    kinds: dict[tuple[Any, ...], dict[str, UnitValues]] = {}
    for run in runs:
        path = inside(run.directory, "units", f"{split}.npz")
        for found in read_units(path, metrics):
            refuse_other_results(run, path, found, split)
            kinds.setdefault((found.grouped, *found.values), {})[str(run.directory)] = found
    unit, by_session = unit_of(runs[0]), is_by_session(runs[0])
    for (grouped, *names), files in kinds.items():
        if len(files) < len(runs):
            raise DataError(f"{names[0]} has a value for each group in some runs only: they are of different versions")
        yield matched(files, "groups" if grouped else unit, by_session and not grouped)


def unit_of(run: StoredRun) -> str:
    """What a run calls its units, in the plural."""
    return printable(run.results.get("unit") or "units")


def is_by_session(run: StoredRun) -> bool:
    """Whether the ids of a run's units are `<session>:<position>`, and sessions belong together."""
    return "next_item" in str(run.evaluator.get("_target_"))


def refuse_other_results(run: StoredRun, path: Path, found: UnitValues, split: Split) -> None:
    """Raises DataError where results.json and the units disagree: one of the files was changed."""
    stated = run.results.get(split)
    for metric, values in found.values.items():
        value = stated.get(metric) if isinstance(stated, Mapping) else None
        mean = float(np.average(values, weights=found.weights))
        if isinstance(value, float | int) and not abs(value - mean) <= AGREES * max(1.0, abs(mean)):
            raise DataError(
                f"{path}: the mean of {metric} is {mean:.6g}, results.json says {value:.6g}: one was edited"
            )


class Estimates:
    """The settings' values over one kind of unit, and the same of resampled units and seeds."""

    def __init__(self, settings: Sequence[Setting], block: MatchedUnits) -> None:
        self.settings, self.block = settings, block
        ends = np.cumsum([len(setting.runs) for setting in settings])
        self.runs = [slice(end - len(one.runs), end) for one, end in zip(settings, ends.tolist(), strict=True)]
        rng = np.random.default_rng(SEED)
        shape = block.values_MRU.shape
        drawn = resampled_means(block.values_MRU.reshape(-1, shape[2]), block.weights_U, rng)
        self.drawn_BMR = drawn.reshape(-1, *shape[:2])
        self.seeds = [seed_weights(len(setting.runs), rng, len(drawn)) for setting in settings]

    def values(self, at: int, metric: str) -> Floats:
        """A setting's value of each seed and unit, [S, U]."""
        found: Floats = self.block.values_MRU[self.block.metrics.index(metric), self.runs[at]]
        return found

    def mean(self, values_U: Floats) -> float:
        """The mean over units, each with its weight."""
        return float((values_U * self.block.weights_U).mean())

    def drawn(self, at: int, metric: str) -> Floats:
        """A setting's value under resampled units and seeds, [B]."""
        found: Floats = (self.drawn_BMR[:, self.block.metrics.index(metric), self.runs[at]] * self.seeds[at]).sum(1)
        return found

    def summary(self, at: int, metric: str) -> Summary:
        """A setting's mean, with its interval."""
        values_SU = self.values(at, metric)
        values_U = values_SU.mean(0)
        mean, of_seeds = self.mean(values_U), [self.mean(values) for values in values_SU]
        return Summary(
            setting=self.settings[at].name,
            metric=metric,
            unit=self.block.unit,
            units=len(values_U),
            seeds=len(of_seeds),
            mean=mean,
            sd=stdev(of_seeds) if len(of_seeds) > 1 else None,
            interval=bca(mean, self.drawn(at, metric), spread(values_U, self.block.weights_U, values_SU)),
        )

    def comparison(self, pair: Pair, metric: str) -> Comparison:
        """A setting against another: uncorrected."""
        one, other = pair
        sides_SU = self.values(one, metric), self.values(other, metric)
        values_U, baseline_U = (values_SU.mean(0) for values_SU in sides_SU)
        differences_U = differences(values_U, baseline_U)
        difference = self.mean(differences_U)
        varies = spread(differences_U, self.block.weights_U, *sides_SU)
        weighted_U = differences_U * self.block.weights_U
        deviation = float(weighted_U.std(ddof=1))
        p = p_values(weighted_U) | {"decides": paired_tests.p_of_t(difference, varies.variance**0.5, varies.freedom)}
        sign = -1 if lower_is_better(metric) else 1
        return Comparison(
            setting=self.settings[one].name,
            baseline=self.settings[other].name,
            metric=metric,
            unit=self.block.unit,
            units=len(differences_U),
            seeds=(len(sides_SU[0]), len(sides_SU[1])),
            means=(self.mean(values_U), self.mean(baseline_U)),
            difference=difference,
            interval=bca(difference, self.drawn(one, metric) - self.drawn(other, metric), varies),
            d_z=difference / deviation if deviation else 0.0,
            better=float(np.mean(sign * differences_U > 0)),
            equal=float(np.mean(differences_U == 0)),
            worse=float(np.mean(sign * differences_U < 0)),
            p=p,
            corrected=p,
        )


def differences(one_U: Floats, other_U: Floats) -> Floats:
    """Paired differences; those of rounding alone, which means over seeds have, are 0."""
    found = one_U - other_U
    found[np.abs(found) <= ROUNDING * np.maximum(np.abs(one_U), np.abs(other_U))] = 0
    return found


def p_values(weighted_U: Floats) -> dict[str, float]:
    """Of each test of units its p-value; a unit of weight w adds w times its difference."""
    return {
        "t": paired_tests.t_test(weighted_U),
        "wilcoxon": paired_tests.wilcoxon(weighted_U),
        "permutation": paired_tests.sign_flip(weighted_U, np.random.default_rng(SEED)),
    }


def corrected(comparisons: Sequence[Comparison], correction: Correction) -> list[Comparison]:
    """The comparisons with the p-values of each test corrected over all of them."""
    tests = list(comparisons[0].p) if comparisons else []
    columns = {test: CORRECT[correction](np.array([one.p[test] for one in comparisons])).tolist() for test in tests}
    return [replace(one, corrected={test: columns[test][at] for test in tests}) for at, one in enumerate(comparisons)]
