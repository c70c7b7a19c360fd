"""Comparison of runs from Python: what `recrun compare` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.api.run import Run
from recrun.api.sweep import Sweep
from recrun.errors import ConfigError, did_you_mean
from recrun.types import Split

if TYPE_CHECKING:
    import pandas as pd

    from recrun.experiments.compare.result import ComparisonResult, Correction


def compare(
    *runs: Run | Sweep | str | Path,
    metrics: str | Sequence[str] = (),
    baseline: str | None = None,
    all_pairs: bool = False,
    split: Split = "test",
    correction: Correction = "holm",
) -> Comparison:
    """Compares settings over their seeds: means, differences with intervals, paired tests with corrections.

    Runs that differ by the seed alone are one setting. Runs of other data, another split or another evaluator are
    refused: their numbers say nothing about each other.

    Args:
        runs: Runs, sweeps, or their directories.
        metrics: Names; the monitored metric and some others by default.
        baseline: The setting that all others are compared with; the first by default.
        all_pairs: Whether every setting is compared with every other instead.
        split: Whose units.
        correction: Of p-values over all comparisons: "holm" (family-wise) or "bh" (false discovery rate).

    Raises:
        ConfigError: The runs cannot be compared.
        DataError: A file of a run is damaged.
    """
    from recrun.experiments.compare import command

    for name, value, allowed in (("split", split, ("valid", "test")), ("correction", correction, ("holm", "bh"))):
        if value not in allowed:
            raise ConfigError(f"{name}={value}: expected {', '.join(allowed)}{did_you_mean(str(value), allowed)}")
    if baseline is not None and all_pairs:
        raise ConfigError("compare: baseline and all_pairs exclude each other")
    paths = tuple(Path(run.directory if isinstance(run, Run | Sweep) else run) for run in runs)
    if not paths:
        raise ConfigError("compare needs runs or sweeps")
    options = command.Options(
        paths,
        (metrics,) if isinstance(metrics, str) else tuple(metrics),
        baseline,
        all_pairs,
        split,
        correction,
    )
    return Comparison(command.compared(options)[0])


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        result: Everything, see recrun.experiments.compare.result.
    """

    result: ComparisonResult

    @property
    def settings(self) -> pd.DataFrame:
        """A row per setting and metric: mean over units and seeds, sd over seeds, ends of the 95 % interval, counts."""
        return frame(self.result.summaries)

    @property
    def differences(self) -> pd.DataFrame:
        """A row per pair of settings and metric.

        Columns: difference, the ends of its 95 % interval, effect size d_z, shares of units that are better, equal and
        worse, p-values of each test (`p_<test>`, `corrected_<test>`), and the verdict of the test that decides.
        """
        return frame(self.result.comparisons).assign(verdict=[one.verdict for one in self.result.comparisons])

    def __str__(self) -> str:
        from recrun.experiments.compare.tables import as_markdown

        return as_markdown(self.result)


def frame(rows: Sequence[Any]) -> pd.DataFrame:
    """Dataclasses as rows; pairs and mappings in them become several columns."""
    import pandas as pd

    return pd.DataFrame([flat(asdict(row)) for row in rows])


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """One row without nesting: interval as low and high, p-values as p_<test> and corrected_<test>."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "interval":
            found |= value if isinstance(value, dict) else dict(zip(("low", "high"), value, strict=True))
        elif isinstance(value, dict):
            found |= {f"{name}_{key}": part for key, part in value.items()}
        elif isinstance(value, tuple):
            found |= {f"{name}_{key}": part for key, part in zip(("setting", "baseline"), value, strict=True)}
        else:
            found[name] = value
    return found
