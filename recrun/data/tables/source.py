"""Where the rows of a table come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from recrun.data.io.chunks import DataFile


class TableSource(DataFile, Protocol):
    """Gives the rows of a table: files, or a generator."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values that change whenever the rows would: content hashes, settings, seeds."""
