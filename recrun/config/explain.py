"""`recrun explain KEY`: what a key means, what it may be, what it is, and where that comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recrun.config import docs, renamed
from recrun.config.composition import Composition
from recrun.config.listing import description
from recrun.config.origins import Origins
from recrun.config.schema import Parameter, signature
from recrun.config.search_path import GROUPS, options
from recrun.errors import ConfigError, did_you_mean

SETTINGS = "recrun.config.composition.Settings"
Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Key:
    """A key of a config: the class that declares it, its parameter, and its path."""

    path: str
    target: str
    field: Parameter


def explain(key: str, composed: Composition) -> tuple[str, Lines]:
    """A title, and lines of a name and its text.

    Args:
        key: `trainer.lr`, `seed`, or a group: `split`.
        composed: The config in which the key is looked up.

    Raises:
        ConfigError: There is no such key; names the nearest.
    """
    if key in GROUPS:
        return f"{key}=…", group_lines(key, composed)
    found = {one.path: one for one in keys(composed)}
    if key not in found:
        same_name = [path for path in found if path.rpartition(".")[2] == key.rpartition(".")[2]]
        hint = renamed.hint(key) or did_you_mean(key, found)
        if same_name:
            hint = f"; did you mean {' or '.join(same_name[:3])}?"
        raise ConfigError(
            f"there is no key {key} in this config{hint}\nadd model=…, dataset=…, split=… to look in others"
        )
    return key, key_lines(found[key], composed)


def keys(composed: Composition) -> Iterator[Key]:
    """Every key of a config that a person may set."""
    for name, field in signature(SETTINGS).fields.items():
        yield Key(name, SETTINGS, field)
    for section in ("model", "dataset", "split", "loader", "evaluator", "trainer", "search", "launcher"):
        node = composed.config.get(section)
        if node:
            yield from _keys_under(section, node)


def _keys_under(path: str, node: Mapping[str, Any]) -> Iterator[Key]:
    for name, field in signature(node["_target_"]).fields.items():
        if field.from_data:
            continue
        yield Key(f"{path}.{name}", node["_target_"], field)
        value = node.get(name)
        if isinstance(value, Mapping) and "_target_" in value:
            yield from _keys_under(f"{path}.{name}", value)


def key_lines(key: Key, composed: Composition) -> Lines:
    """Type, default, present value and meaning of a key."""
    value: Any = composed.config
    for part in key.path.split("."):
        value = value.get(part, key.field.default) if isinstance(value, Mapping) else None
    origin = Origins(composed).of(key.path) or " (typed)"
    meaning = docs.sentences(key.target).get(key.field.name) or comment(key.path, composed)
    lines = [
        ("meaning", meaning or "not documented"),
        ("allowed", str(key.field.kind)),
        ("default", "none: it must be given" if key.field.required else shown(key.field.default)),
        ("now", f"{shown(value)}{origin}"),
    ]
    return lines if key.target == SETTINGS else [*lines, ("declared by", key.target)]


def comment(path: str, composed: Composition) -> str:
    """The comment beside a key in config.yaml."""
    folder = next(folder for folder in reversed(composed.folders) if (folder / "config.yaml").is_file())
    for line in (folder / "config.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{path}:"):
            return line.partition("#")[2].strip()
    return ""


def group_lines(group: str, composed: Composition) -> Lines:
    """The options of a group, and the keys of the chosen one."""
    lines = [(name, description(path, whole=False)) for name, path in options(group, composed.folders).items()]
    node = composed.config.get(group)
    if isinstance(node, Mapping) and "_target_" in node:
        names = [field.name for field in signature(node["_target_"]).fields.values() if not field.from_data]
        chosen = f"{composed.option(group)}: {docs.first_line(node['_target_'])}"
        lines += [("chosen", chosen), ("keys", ", ".join(f"{group}.{name}" for name in names) or "none")]
    return lines


def shown(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {shown(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
