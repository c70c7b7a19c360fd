"""What a run, its stages and its evaluations cost, as recrun.experiments.estimate finds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from recrun.types import Split


@dataclass(frozen=True)
class EvaluationCost:
    """What it takes to evaluate a split.

    Attributes:
        seconds: Of the whole split, or as much of it as `eval_limit` wants.
        bytes: Of its file in units/.
        timed, units: How many units were evaluated for this, and how many there are.
    """

    seconds: float = 0.0
    bytes: int = 0
    timed: int = 0
    units: int = 0


@dataclass(frozen=True)
class StageCost:
    """What a stage takes.

    Attributes:
        epochs: At most; early stopping may end it sooner.
        steps, timed: Of an epoch; those that were timed.
        step_seconds: Of a step, in the median.
        epoch_seconds: Of training in an epoch, what comes before its first step included.
        evaluations: With validation, in all epochs together.
        validation_seconds: Of one of them.
        saving_seconds: Of writing the weights, which the best so far are, at most after each validation.
        final_seconds: Of evaluating validation and test at the end.
        bytes: Of its checkpoints.
        whole: Whether nothing was extrapolated, as of a solver in closed form.
    """

    epochs: int
    steps: int
    timed: int
    step_seconds: float
    epoch_seconds: float
    evaluations: int
    validation_seconds: float
    saving_seconds: float
    final_seconds: float
    bytes: int
    whole: bool = False

    @property
    def seconds(self) -> float:
        """Of all its epochs and evaluations."""
        validations = self.evaluations * (self.validation_seconds + self.saving_seconds)
        return self.epochs * self.epoch_seconds + validations + self.final_seconds


@dataclass
class Estimate:
    """What a run takes.

    Attributes:
        data_seconds: Of reading or generating the data, the model included.
        data_mb, peak_mb: Resident memory with the data and the model, and the largest while steps were timed, in MiB.
        gpu_mb: The largest on the GPU; None without one.
        parameters: Of the model.
        evaluations: By split.
        stages: By name.
        vocabulary_bytes: Of vocabulary/ in the run directory.
    """

    data_seconds: float
    data_mb: float
    parameters: int
    vocabulary_bytes: int
    peak_mb: float = 0.0
    gpu_mb: float | None = None
    evaluations: dict[Split, EvaluationCost] = field(default_factory=dict)
    stages: dict[str, StageCost] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the whole run, if no stage stops early."""
        return self.data_seconds + sum(stage.seconds for stage in self.stages.values())

    @property
    def disk_bytes(self) -> int:
        """Of the run directory when it is finished, logs left out."""
        units = sum(cost.bytes for cost in self.evaluations.values())
        return units + self.vocabulary_bytes + sum(stage.bytes for stage in self.stages.values())
