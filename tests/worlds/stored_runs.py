"""Finished run directories with values that a test chooses; nothing was trained."""

import json

import numpy as np
import yaml

FULL = {"_target_": "recrun.evaluation.full_ranking.FullRanking", "metrics": ["ndcg"], "ks": [10], "memory_mb": 64}
NEXT = {"_target_": "recrun.evaluation.next_item.NextItem", "ties": "conservative"}


class PlainDumper(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data):
        return True


def as_yaml(value):
    return yaml.dump(value, Dumper=PlainDumper)


def store_run(directory, units, ids=None, *, model="ease", seed=0, overrides=(), evaluator=FULL, config=None, **record):
    """A run directory whose test units have some values.

    Args:
        directory: Made here.
        units: {metric: one value per unit}, also `<metric>:ids` and `<metric>:weights` of groups.
        ids: Of the units; by default their numbers.
        config: More top-level keys of config.yaml.
        record: More keys of run.json.
    """
    (directory / ".hydra").mkdir(parents=True)
    (directory / "units").mkdir()
    own = {"seed": seed, "model": {"_target_": f"recrun.models.{model}.{model.upper()}"}, "output_dir": "outputs"}
    own |= {"dataset": {"evaluator": evaluator}, "eval_limit": None, **(config or {})}
    words = [f"model={model}", f"seed={seed}", *overrides]
    (directory / "config.yaml").write_text(as_yaml(own))
    (directory / ".hydra/overrides.yaml").write_text(as_yaml(words))
    (directory / ".hydra/hydra.yaml").write_text(as_yaml({"hydra": {"runtime": {"choices": {"model": model}}}}))
    (directory / "run.json").write_text(
        json.dumps({"status": "finished", "dataset_fingerprint": "d" * 64, "stages": {}, **record})
    )
    values = {name: np.asarray(value) for name, value in units.items()}
    metrics = {name: float(value.mean()) for name, value in values.items() if ":" not in name}
    for name in metrics:
        if f"{name}:weights" in values:
            metrics[name] = float(np.average(values[name], weights=values[f"{name}:weights"]))
    monitor = next(iter(metrics))
    (directory / "results.json").write_text(
        json.dumps({"valid": {}, "test": metrics, "monitor": monitor, "unit": "users", "stages": {}})
    )
    length = len(next(value for name, value in values.items() if ":" not in name))
    named = np.array([str(at) for at in range(length)]) if ids is None else np.array(ids)
    np.savez(directory / "units/test.npz", ids=named, **values)
    return directory
