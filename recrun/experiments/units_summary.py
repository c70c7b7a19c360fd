"""What the values of a run's units are like, in a few numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

QUANTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}


def units_summary(directory: Path) -> dict[str, dict[str, float]]:
    """Of each split and metric, as "test/ndcg@10", the count, mean, deviation and quartiles over its units.

    Args:
        directory: A run's, with `units/<split>.npz`.
    """
    found: dict[str, dict[str, float]] = {}
    for path in sorted((directory / "units").glob("*.npz")):
        with np.load(path) as arrays:
            for name in arrays:
                values = arrays[name]
                if name == "ids" or ":" in name or not np.issubdtype(values.dtype, np.number) or not len(values):
                    continue
                quantiles = {key: float(np.quantile(values, at)) for key, at in QUANTILES.items()}
                sd = float(values.std(ddof=int(len(values) > 1)))
                about = {"count": len(values), "mean": float(values.mean()), "sd": sd}
                found[f"{path.stem}/{name}"] = {**about, **quantiles}
    return found
