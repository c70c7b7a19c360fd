"""A config-driven experiment runner for recommender models.

    import recrun

    run = recrun.run("model=ease", "dataset=ml_100k")
    run.metrics.loc["test", "ndcg@100"]
    run.recommend(["196"], k=10)

Nothing big is imported before it is used: names are looked up when they are asked for.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recrun import estimators
    from recrun.api.compare import Comparison, compare
    from recrun.api.run import Run
    from recrun.api.start import load, run
    from recrun.api.sweep import Sweep, search, sweep
    from recrun.errors import CheckpointError, ConfigError, DataError, Diverged, InUse, RecrunError

__version__ = "0.1.0"

# Read by torch's libraries when they are loaded. Threads that spin while they wait make a shared machine several
# times slower and an idle one no faster; huge pages spare a tenth of a step over large tables.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_HOME = {
    "Run": "recrun.api.run",
    **dict.fromkeys(("run", "load"), "recrun.api.start"),
    **dict.fromkeys(("sweep", "search", "Sweep"), "recrun.api.sweep"),
    **dict.fromkeys(("compare", "Comparison"), "recrun.api.compare"),
    **dict.fromkeys(
        ("RecrunError", "ConfigError", "DataError", "CheckpointError", "Diverged", "InUse"), "recrun.errors"
    ),
}

__all__ = [
    "CheckpointError",
    "Comparison",
    "ConfigError",
    "DataError",
    "Diverged",
    "InUse",
    "RecrunError",
    "Run",
    "Sweep",
    "compare",
    "estimators",
    "load",
    "run",
    "search",
    "sweep",
    "train",
]


def train(*overrides: str) -> dict[str, Any]:
    """The older form of `recrun.run`: returns results.json's content with the run's "directory"."""
    from recrun.config import local_code
    from recrun.experiments import directories

    local_code.install()
    return directories.train(overrides)


def __getattr__(name: str) -> Any:
    """Imports what a name needs when it is first asked for (PEP 562)."""
    if name == "estimators":
        return importlib.import_module("recrun.estimators")
    if name not in _HOME:
        raise AttributeError(f"module 'recrun' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
