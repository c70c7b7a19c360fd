"""Spaces of searches in files: YAML with a line per key, and RecBole's lists of `name choice [a,b]`."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recrun.config import renamed
from recrun.config.composition import key_of
from recrun.config.schema import signature
from recrun.config.search_path import GROUPS
from recrun.errors import ConfigError, did_you_mean
from recrun.runtime.run_files import refuse_bomb

FOLDER = "space"  # of a conf folder
SECTIONS = ("model", "loader", "trainer", "trainer.objective")  # whose keys a file may name alone, as RecBole does
RECBOLE_LINE = re.compile(r"(\S+)\s+(\w+)\s+(\S.*)")


@dataclass(frozen=True)
class Entry:
    """A key of a space.

    Attributes:
        name: As the file has it.
        values: In Hydra's grammar: `choice(a,b)`, `interval(0,1)`.
        where: File and line.
    """

    name: str
    values: str
    where: str


def with_space(words: Sequence[str], space: str, folders: Sequence[Path], config: Mapping[str, Any]) -> list[str]:
    """The words of a search with those of a space; what was typed wins.

    Args:
        words: Typed words.
        space: The name of a file in `conf/space`, or a path.
        folders: The conf folders, those that win first.
        config: A trial without the space, which says what a name means.

    Raises:
        ConfigError: There is no such file, or a line of it cannot be read or names what is not there.
    """
    typed = {key_of(word) for word in words}
    found = {key_in(entry, config): entry for entry in read(find(space, folders))}
    return [*words, *(f"{key}={entry.values}" for key, entry in found.items() if key not in typed)]


def find(space: str, folders: Sequence[Path]) -> Path:
    """The file of a space."""
    named = {path.stem: path for folder in reversed(folders) for path in (folder / FOLDER).glob("*.yaml")}
    path = named.get(space, Path(space).expanduser())
    if path.is_file():
        return path
    raise ConfigError(
        f"search.space={space}: there is no such file, and no space of this name{did_you_mean(space, named)} "
        f"(there are: {', '.join(sorted(named))})"
    )


def read(path: Path) -> list[Entry]:
    """The entries of a file, YAML by its name, else of RecBole's form."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"search.space={path}: cannot be read ({error})") from None
    entries = [*(yaml_entries(text, path) if path.suffix in (".yaml", ".yml") else recbole_entries(text, path))]
    if not entries:
        raise ConfigError(f"{path}: there is no space in it: write key: [a, b], or name choice [a,b]")
    return entries


def yaml_entries(text: str, path: Path) -> Iterator[Entry]:
    """Of a mapping from keys to a list, or to Hydra's grammar."""
    import yaml

    try:
        refuse_bomb(text, path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}: expected a mapping from keys to their values")
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if isinstance(value, yaml.SequenceNode):
            items = yaml.load(yaml.serialize(value), Loader=yaml.SafeLoader)
            yield Entry(str(key.value), choice(items, where), where)
        elif isinstance(value, yaml.ScalarNode) and "(" in value.value:
            yield Entry(str(key.value), str(value.value), where)
        else:
            raise ConfigError(f"{where}: expected a list, or interval(…), int(…), range(…), choice(…), tag(log,…)")


def recbole_entries(text: str, path: Path) -> Iterator[Entry]:
    """Of lines `name kind values`."""
    kinds: dict[str, Callable[[str], str]] = {
        "choice": choices_of,
        "uniform": lambda values: "interval({!r},{!r})".format(*numbers(values, 2)),
        "loguniform": lambda values: "tag(log,interval({!r},{!r}))".format(*map(math.exp, numbers(values, 2))),
        "quniform": steps,
        "randint": whole_numbers,
    }
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = RECBOLE_LINE.fullmatch(line.strip())
        if found is None or found[2] not in kinds:
            raise ConfigError(
                f"{where}: expected `name kind values`, for example `learning_rate choice [0.01,0.001]`; "
                f"the kinds are {', '.join(kinds)}"
            )
        try:
            yield Entry(found[1], kinds[found[2]](found[3]), where)
        except (ValueError, SyntaxError, OverflowError) as error:
            raise ConfigError(f"{where}: {found[2]} {found[3]} cannot be read: {error}") from None


def choices_of(values: str) -> str:
    """Of a list; a text with a list in it, `'[64,64]'`, is that list."""
    items = ast.literal_eval(values)
    if not isinstance(items, list):
        raise ValueError("expected a list")
    return choice([ast.literal_eval(one) if isinstance(one, str) and one.startswith("[") else one for one in items], "")


def choice(items: Sequence[Any], where: str) -> str:
    """A list in Hydra's grammar."""
    if not items:
        raise ConfigError(f"{where}: the list is empty") if where else ValueError("the list is empty")
    return ",".join(map(typed, items)) if len(items) > 1 else f"choice({typed(items[0])})"


def typed(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)


def numbers(values: str, count: int) -> list[float]:
    """So many finite numbers with commas between them."""
    found = [float(value) for value in values.split(",")]
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ValueError(f"expected {count} numbers with commas between them")
    return found


def steps(values: str) -> str:
    """Of `low,high,q`: the multiples of q between the limits, rounded to multiples; whole ones where q is whole."""
    low, high, step = numbers(values, 3)
    if step <= 0:
        raise ValueError("the step must be above 0")
    first, last = round(low / step), round(high / step)
    if step.is_integer():
        return f"range({first * int(step)},{last * int(step) + 1},{int(step)})"
    return f"range({first * step!r},{(last + 0.5) * step!r},{step!r})"


def whole_numbers(values: str) -> str:
    """Of `high`, or of `low,high`, which is not among them."""
    low, high = (["0", values] if "," not in values else values.split(","))[:2]
    return f"range({int(low)},{int(high)})"


def key_in(entry: Entry, config: Mapping[str, Any]) -> str:
    """Our key for a name: itself, what another library means by it, or a key of the model, loader or trainer.

    Raises:
        ConfigError: It is none of these, or has no effect here.
    """
    name = entry.name
    key = renamed.OF_OTHERS.get(name, name)
    if "." not in key and key not in config and key not in GROUPS:
        key = next((f"{section}.{key}" for section in SECTIONS if key in keys_of(section, config)), "")
    if not key:
        known = [one for section in SECTIONS for one in keys_of(section, config)]
        hint = did_you_mean(name, [*known, *renamed.OF_OTHERS])
        raise ConfigError(
            f"{entry.where}: unknown name '{name}'{hint}; it may be a key such as trainer.lr, a name of RecBole's "
            f"such as learning_rate, or one of {', '.join(dict.fromkeys(known))}"
        )
    refuse_idle(key, entry, config)
    return key


def refuse_idle(key: str, entry: Entry, config: Mapping[str, Any]) -> None:
    """Raises ConfigError for a key of the trainer that every stage replaces."""
    section, _, name = key.partition(".")
    stages = {stage: node or {} for stage, node in config["stage"].items()}
    if section == "trainer" and all(name.partition(".")[0] in node for node in stages.values()):
        instead = " or ".join(f"stage.{stage}.{name}" for stage in stages)
        raise ConfigError(
            f"{entry.where}: {entry.name} is {key}, which has no effect: every stage of this run sets its own; "
            f"write {instead}"
        )


def keys_of(section: str, config: Mapping[str, Any]) -> list[str]:
    """The keys that a section of a config has or may have, but for those that the data give."""
    node: Any = config
    for part in section.split("."):
        node = (node or {}).get(part)
    if not isinstance(node, Mapping) or "_target_" not in node:
        return []
    fields = [name for name, field in signature(str(node["_target_"])).fields.items() if not field.from_data]
    return list(dict.fromkeys([*fields, *(name for name in node if not name.startswith("_"))]))
