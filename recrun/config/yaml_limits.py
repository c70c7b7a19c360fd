"""Limits of YAML files: what contains itself, or is huge once its aliases are written out, is not read."""

from __future__ import annotations

from pathlib import Path

from recrun.errors import ConfigError

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
