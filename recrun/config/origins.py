"""Where the parts of a config come from, as a person would name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recrun.config.composition import SECTIONS, Composition, key_of
from recrun.config.search_path import options, target_in

NODES = (
    *("objective", "weighting", "optimizer", "scheduler", "regularization", "tracker"),
    *("split", "loader", "evaluator", "filters"),
)  # keys that name a class


@dataclass(frozen=True)
class Origins:
    """The words that were typed, and the YAML files of what was not."""

    composed: Composition

    def of(self, path: str) -> str:
        """Where a key's value comes from: the YAML file in brackets, nothing if it was typed."""
        for word in map(key_of, self.composed.overrides):
            is_group = word in SECTIONS  # `model=ract` chooses a file: what is in it was not typed
            if f"{word}.".startswith(f"{path}.") or (f"{path}.".startswith(f"{word}.") and not is_group):
                return ""
        node: Any = self.composed.raw
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        source = f", which says {node}" if isinstance(node, str) and "${" in node else ""
        return f" ({self.file(path)}{source})"

    def file(self, path: str) -> str:
        """The YAML file that a part of the config comes from, an experiment's where it speaks of that key."""
        parts = path.split(".")
        experiment = self.composed.option("experiment")
        if experiment:
            text = options("experiment", self.composed.folders)[experiment].read_text(encoding="utf-8")
            if re.search(rf"^\s*{re.escape(parts[-1])}\s*:", text, re.MULTILINE):
                return self.composed.file("experiment")
        if parts[0] == "stage" and len(parts) > 1:
            return self.composed.file("stage", parts[1])
        inner = [part for part in parts[1:2] if part in NODES]
        return self.composed.file(inner[0] if inner else parts[0])

    def named(self, group: str, target: str | None = None) -> str:
        """A group's option as a person types it; the class that was meant where that is not the option's."""
        file = self.composed.path(group)
        is_other = target is not None and (file is None or target_in(file) != target)
        return str(target) if is_other else f"{group}={self.composed.option(group)}"

    def listed(self, group: str) -> str:
        """The options of a group in words."""
        return ", ".join(options(group, self.composed.folders)) or "none"

    def options_of(self, group: str, targets: tuple[Any, ...]) -> str:
        """The options of a group that name one of some classes, as a hint."""
        found = [name for name, path in options(group, self.composed.folders).items() if target_in(path) in targets]
        return f"\nchoose {group}={' or '.join(found)}" if found else ""
