"""YAML as omegaconf reads and writes it, by libyaml where there is one: a run reads its config several times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml


def parse(text: str) -> Any:
    """The plain values that `OmegaConf.create(text)` would hold; None of an empty text.

    Raises:
        yaml.YAMLError: It is no YAML, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=loader())


def to_text(config: Any) -> str:
    """What `OmegaConf.to_yaml(config)` gives, of a config or of plain values, whose interpolations stay."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(config, enum_to_str=True) if OmegaConf.is_config(config) else config
    return str(yaml.dump(values, Dumper=dumper(), default_flow_style=False, allow_unicode=True, sort_keys=False))


@cache
def loader() -> Any:
    """Reads 1e-3 as a number and dates as text, as omegaconf does."""
    from omegaconf._utils import get_yaml_loader

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # known when it runs
        """Refuses a key that is there twice."""

        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Mapping[Any, Any]:
            """A mapping."""
            keys = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in keys:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
                keys.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key))
            found: Mapping[Any, Any] = super().construct_mapping(node, deep=deep)
            return found

    return Loader


@cache
def dumper() -> Any:
    """Puts texts in quotes that would be read as something else."""
    from omegaconf._utils import OmegaConfDumper

    class Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]  # known when it runs
        """Quotes as omegaconf does."""

    Dumper.add_representer(str, OmegaConfDumper.str_representer)
    return Dumper
