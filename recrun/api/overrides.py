"""From Python values to the words of a command line, so that there is one way to compose a config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from recrun.config.composition import key_of
from recrun.errors import ConfigError

Overrides: TypeAlias = str | Mapping[str, Any]

INTERACTIONS = "dataset=interactions"
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*")  # a text that Hydra's grammar reads as a text without quotes
RESERVED = ("null", "true", "false", "nan", "inf", "on", "off", "yes", "no")


def words_of(overrides: Sequence[Overrides], data: Any = None) -> tuple[list[str], list[Any]]:
    """The words that overrides stand for, and the tables that they name.

    Args:
        overrides: Words as typed, and mappings of keys to values: {"model": "ease", "trainer": {"lr": 0.01}}.
        data: A table for `dataset.path`, if any.

    Returns:
        words, and the tables (recrun.data.io.frames.MemoryTable) that must be held while the run needs them.

    Raises:
        ConfigError: A value is none that a config can hold.
        DataError: A table cannot be used.
    """
    words: list[str] = []
    tables: list[Any] = []
    for override in overrides:
        if isinstance(override, str):
            words.append(override)
        elif isinstance(override, Mapping):
            words += _words("", override, tables)
        else:
            raise ConfigError(f"{override!r:.80} is no override: give 'key=value' or a mapping of keys to values")
    if data is not None:
        words += _table_words("dataset", data, tables)
    if any(key_of(word) == "dataset" and word != INTERACTIONS for word in words):
        words = [word for word in words if word != INTERACTIONS]  # the chosen data set says how the table is read
    return words, tables


def several(values: Mapping[str, Any], searched: bool = False) -> list[str]:
    """The words for keys with several values each.

    Args:
        values: {"seed": range(3), "model": ["ease", "ract"]}.
        searched: Whether texts are ranges in the grammar of the command line, "interval(0,1)".

    Raises:
        ConfigError: A key has no value, or a single one that is no list.
    """
    words = []
    for key, choices in values.items():
        if searched and isinstance(choices, str):
            words.append(f"{key}={choices}")
        elif isinstance(choices, str | Mapping) or not hasattr(choices, "__iter__"):
            raise ConfigError(f"{key}: {choices!r:.80} is one value: give a list of those to try")
        elif not (texts := [literal(choice) for choice in choices]):
            raise ConfigError(f"{key}=[]: this sweeps over nothing")
        else:
            words.append(f"{key}=choice({','.join(texts)})" if searched else f"{key}={','.join(texts)}")
    return words


def literal(value: Any) -> str:
    """A value in Hydra's override grammar.

    Raises:
        ConfigError: A config cannot hold it.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # of numpy
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return quoted(str(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(literal, value)) + "]"
    raise ConfigError(f"{value!r:.80} is a {type(value).__name__}: a config holds texts, numbers, lists and mappings")


def quoted(text: str) -> str:
    """A text, in quotes where it would be read as something else without."""
    if PLAIN.fullmatch(text) and text.lower() not in RESERVED:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def _words(above: str, values: Mapping[str, Any], tables: list[Any]) -> Iterator[str]:
    from recrun.data.io.frames import is_table

    for name, value in values.items():
        key = f"{above}.{name}" if above else str(name)
        if is_table(value):
            yield from _table_words(key, value, tables)
        elif isinstance(value, Mapping) and "_target_" not in value and value:
            yield from _words(key, value, tables)
        else:
            yield f"{key}={literal(value)}"


def _table_words(key: str, table: Any, tables: list[Any]) -> list[str]:
    """The words for a table: of the data set itself, or of a key that names a file."""
    from recrun.data.io.frames import hold

    tables.append(hold(table))
    name = quoted(tables[-1].name)
    return [INTERACTIONS, f"dataset.path={name}"] if key == "dataset" else [f"{key}={name}"]
