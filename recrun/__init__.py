"""A config-driven experiment runner for recommender models."""

from __future__ import annotations

import os
from typing import Any

__version__ = "0.1.0"

# Read by torch's libraries when they are loaded. Threads that spin while they wait make a shared machine several
# times slower and an idle one no faster; huge pages spare a tenth of a step over large tables.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def train(*overrides: str) -> dict[str, Any]:
    """Does what `recrun key=value …` does, and returns results.json's content with the run's "directory"."""
    from recrun.experiments import directories

    return directories.train(overrides)
