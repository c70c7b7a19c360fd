"""What a stage found: the kept weights evaluated, its entry of results.json, and one value per unit in `units/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recrun.errors import RecrunError
from recrun.evaluation.profile import profile_of
from recrun.interfaces import Dataset
from recrun.runtime.device import Device
from recrun.runtime.escapes import in_array
from recrun.runtime.run_files import read_json
from recrun.training.monitor import names_of_tasks, with_mean
from recrun.training.progress import Progress
from recrun.types import Evaluation, Split

Results = dict[str, Any]  # the mapping that results.json holds


def evaluate_splits(model: nn.Module, dataset: Dataset, device: Device, limit: int | None) -> dict[Split, Evaluation]:
    """Evaluates a model on the splits that have something to evaluate."""
    both: tuple[Split, Split] = ("valid", "test")
    return {
        split: dataset.evaluator(model, dataset, split, device, limit) for split in both if dataset.eval_size(split)
    }


def earlier_results(directory: Path) -> Results:
    """results.json of the stages that an earlier attempt finished."""
    try:
        found = read_json(directory / "results.json")
    except FileNotFoundError:
        return {"valid": {}, "test": {}, "stages": {}}
    if not isinstance(found.get("stages"), dict):
        raise RecrunError(f"{directory / 'results.json'} is damaged: stages is no mapping")
    return found


def stage_results(progress: Progress, found: Mapping[Split, Evaluation], greater_is_better: bool) -> Results:
    """One stage's entry of results.json: with the metric that decided, also where it is a mean over tasks."""
    decided = names_of_tasks(progress.monitor, found["valid"].metrics) if "valid" in found else None
    metrics = {split: with_mean(progress.monitor, evaluation, decided) for split, evaluation in found.items()}
    return {
        "valid": metrics.get("valid", {}),
        "test": metrics.get("test", {}),
        "monitor": progress.monitor,
        "greater_is_better": greater_is_better,
        "best_epoch": progress.best_epoch,
        "best_step": progress.best_step,
        "train_seconds": round(progress.total_seconds, 3),
        "eval_seconds": round(progress.eval_seconds, 3),
        "samples_per_second": round(progress.total_units / max(progress.total_seconds, 1e-9), 1),
    }


def save_units(path: Path, evaluation: Evaluation) -> None:
    """One value per unit and metric, with the units' ids, as a .npz of plain arrays.

    A metric over groups is stored with their ids and weights: `group_auc`, `group_auc:ids`, `group_auc:weights`. One
    group alone is not: it says nothing of others.
    """
    path.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {"ids": in_array(evaluation.ids), **evaluation.units}
    for name, groups in evaluation.groups.items():
        if len(groups.ids) > 1:
            own = {"": groups.values, ":ids": groups.ids.astype(str), ":weights": groups.weights}
            arrays |= {f"{name}{suffix}": values for suffix, values in own.items()}
    write_arrays(path, arrays)


def save_profile(path: Path, dataset: Dataset, split: Split, evaluation: Evaluation) -> None:
    """Activity and popularity of the units that were evaluated, in the order of their values; nothing where unknown."""
    found = profile_of(dataset, split, evaluation.ids)
    path.unlink(missing_ok=True)
    if found is not None:
        path.parent.mkdir(exist_ok=True)
        write_arrays(path, {"activity": found.activity, "popularity": found.popularity})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with fresh.open("xb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    fresh.replace(path)
