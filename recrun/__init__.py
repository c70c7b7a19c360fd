"""A config-driven experiment runner for recommender models."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def train(*overrides: str) -> dict[str, Any]:
    """Does what `recrun key=value …` does, and returns results.json's content with the run's "directory"."""
    from recrun import jobs

    return jobs.train(overrides)
