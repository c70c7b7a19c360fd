"""YAML files within limits: what contains itself, or is huge once its aliases are written out, is not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recrun.errors import ConfigError, DataError
from recrun.runtime.run_files import read_text

NODES, DEPTH = 100_000, 100


def refuse_bomb(text: str, path: Path) -> None:
    """Raises ConfigError for YAML that contains itself, is nested deeper than DEPTH, or has more than NODES values.

    Args:
        text: The YAML.
        path: Its file, for the message.
    """
    import yaml

    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: tuple[int, ...] = ()) -> int:
        if id(node) in above or len(above) > DEPTH:
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: contains itself, or is nested deeper than {DEPTH}")
        if id(node) not in sizes:
            inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            parts = inner if isinstance(node, yaml.CollectionNode) else ()
            sizes[id(node)] = 1 + sum(size(part, (*above, id(node))) for part in parts)
        return sizes[id(node)]

    whole = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if whole is not None and size(whole) > NODES:
        raise ConfigError(f"{path}: more than {NODES:,} values once its aliases are written out")


def read_plain(path: Path) -> Any:
    """What a YAML file of a run directory holds: plain values, interpolations as text, no tags and no aliases.

    Raises:
        MissingFile: It does not exist.
        DataError: It cannot be read, or is not what a run writes.
    """
    import yaml

    text, loader = read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise DataError(f"{path} is damaged: it has a YAML alias, which no run writes")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())}") from None
