"""The command that says what a run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recrun.console import report
from recrun.errors import ConfigError

if TYPE_CHECKING:
    from recrun.experiments.costs import Estimate, StageCost


def estimate(words: list[str]) -> int:
    """`estimate [overrides]`: memory, disk and time of a run, from a few of its steps."""
    option = next((word for word in words if word.startswith("-")), None)
    if option is not None:
        raise ConfigError(f"estimate: unknown option {option}; it takes the key=value words of a run alone")
    from recrun.config import targets
    from recrun.config.compose import compose
    from recrun.config.validate import check

    composed = compose(words)
    check(composed)
    targets.check(composed.config, composed.permission)
    from recrun.experiments import preflight
    from recrun.experiments.estimate import estimate as measured

    preflight.check(composed.config)
    found = measured(composed.config)
    report.listing("the run", whole_lines(found))
    for name, stage in found.stages.items():
        report.listing(f"stage {name}", stage_lines(stage, found))
    return 0


def whole_lines(found: Estimate) -> list[tuple[str, str]]:
    """What the run takes in all."""
    lines = [
        ("time", f"{duration(found.seconds)} at most: data {duration(found.data_seconds)}, then the stages below"),
        ("memory", f"{found.peak_mb:,.0f} MB at the peak of what was timed, {found.data_mb:,.0f} MB without a step"),
        ("disk", f"{size(found.disk_bytes)}, logs left out"),
        ("model", f"{found.parameters:,} parameters"),
    ]
    if found.gpu_mb is not None:
        lines.insert(2, ("GPU memory", f"{found.gpu_mb:,.0f} MB at the peak of what was timed"))
    return lines


def stage_lines(stage: StageCost, found: Estimate) -> list[tuple[str, str]]:
    """What a stage takes, and what of it was timed."""
    in_all = duration(stage.seconds)
    if stage.whole:
        lines = [("time", in_all), ("solver", f"{duration(stage.epoch_seconds)}, carried out whole")]
    else:
        steps = f"{stage.steps:,} steps of {1000 * stage.step_seconds:,.2f} ms ({timed(stage.timed, stage.steps)})"
        lines = [
            ("time", f"{in_all}, {stage.epochs:,} epochs and {stage.evaluations:,} validations at most"),
            ("epoch", f"{duration(stage.epoch_seconds)} of training: {steps}"),
        ]
    for split, cost in found.evaluations.items():
        lines.append((split, f"{duration(cost.seconds)} for {cost.units:,} units ({timed(cost.timed, cost.units)})"))
    saving = f", at most {duration(stage.saving_seconds)} after each validation" if stage.saving_seconds else ""
    return [*lines, ("checkpoints", f"{size(stage.bytes)}{saving}")]


def timed(some: int, of: int) -> str:
    """How much was timed."""
    return "all timed" if some >= of else f"{some:,} timed, the others extrapolated"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 2**20:,.1f} MB" if count < 2**30 else f"{count / 2**30:,.1f} GB"
