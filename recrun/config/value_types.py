"""Kinds of values that a config key may hold: each says what it accepts and names itself in an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Kind(Protocol):
    """`accepts` a plain value (as in YAML); `str()` of it completes "expected …"."""

    def accepts(self, value: Any) -> bool:
        """Whether a plain value is of this kind."""


@dataclass(frozen=True)
class Anything:
    """What nothing is known about."""

    def accepts(self, value: Any) -> bool:
        return True

    def __str__(self) -> str:
        return "anything"


@dataclass(frozen=True)
class Made:
    """An object: in a config, a node with a `_target_`, which whoever checks looks into; never a plain value.

    Attributes:
        names: Dotted names of the classes that it may be of; empty where its annotation does not say.
    """

    names: tuple[str, ...] = ()

    def accepts(self, value: Any) -> bool:
        return False

    def __str__(self) -> str:
        return "something with a _target_"


@dataclass(frozen=True)
class Null:
    """`null` alone."""

    def accepts(self, value: Any) -> bool:
        return value is None

    def __str__(self) -> str:
        return "null"


@dataclass(frozen=True)
class Truth:
    """A bool."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Text:
    """A string."""

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True)
class Number:
    """An int (`whole`) or a float, within limits. A whole number is a float too; true and false are neither."""

    whole: bool
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        # Written so that NaN, which compares as false with everything, is refused by any limit.
        limits = (
            self.ge is None or value >= self.ge,
            self.gt is None or value > self.gt,
            self.le is None or value <= self.le,
            self.lt is None or value < self.lt,
        )
        return all(limits)

    def __str__(self) -> str:
        signs = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        limits = [f"{sign} {limit}" for sign, limit in signs if limit is not None]
        return " ".join(["a whole number" if self.whole else "a number", " and ".join(limits)]).strip()


@dataclass(frozen=True)
class OneOf:
    """One of some literal values."""

    values: tuple[Any, ...]

    def accepts(self, value: Any) -> bool:
        return any(value == own and type(value) is type(own) for own in self.values)

    def __str__(self) -> str:
        names = ", ".join(_shown(value) for value in self.values)
        return f"one of {names}" if len(self.values) > 1 else names


@dataclass(frozen=True)
class Items:
    """A list of any length from `least` on."""

    item: Kind
    least: int = 0

    def accepts(self, value: Any) -> bool:
        fits = isinstance(value, list | tuple) and len(value) >= self.least
        return fits and all(self.item.accepts(part) for part in value)

    def __str__(self) -> str:
        name = f"a list of {self.least} or more" if self.least else "a list"
        return name if isinstance(self.item, Anything) else f"{name}, each {self.item}"


@dataclass(frozen=True)
class Fixed:
    """A list of fixed length."""

    items: tuple[Kind, ...]

    def accepts(self, value: Any) -> bool:
        fits = isinstance(value, list | tuple) and len(value) == len(self.items)
        return fits and all(kind.accepts(part) for kind, part in zip(self.items, value, strict=True))

    def __str__(self) -> str:
        return f"a list of {len(self.items)}: {', '.join(map(str, self.items))}"


@dataclass(frozen=True)
class Entries:
    """A mapping from text."""

    value: Kind

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(self.value.accepts(part) for part in value.values())

    def __str__(self) -> str:
        return "a mapping" if isinstance(self.value, Anything) else f"a mapping whose values are each {self.value}"


@dataclass(frozen=True)
class Either:
    """Any of several kinds; made by `either`."""

    kinds: tuple[Kind, ...]

    def accepts(self, value: Any) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)

    def __str__(self) -> str:
        return " or ".join(map(str, self.kinds))


def either(kinds: Iterable[Kind]) -> Kind:
    """Their union: flat, without repetition, `null` last."""
    flat: list[Kind] = []
    for kind in kinds:
        flat += [part for part in (kind.kinds if isinstance(kind, Either) else (kind,)) if part not in flat]
    if any(isinstance(kind, Anything) for kind in flat):
        return Anything()
    flat.sort(key=lambda kind: isinstance(kind, Null))
    return Either(tuple(flat)) if len(flat) > 1 else flat[0]


def fault(kind: Kind, value: Any) -> tuple[str, Any, Kind]:
    """The innermost part of a value that is not accepted: what leads to it, it, and what it may be."""
    for one in kind.kinds if isinstance(kind, Either) else (kind,):
        if isinstance(one, Entries) and isinstance(value, Mapping):
            key = next(key for key, part in value.items() if not one.value.accepts(part))
            keys, part, wanted = fault(one.value, value[key])
            return f".{key}{keys}", part, wanted
        if isinstance(one, Items) and isinstance(value, list | tuple) and len(value) >= one.least:
            at = next(at for at, part in enumerate(value) if not one.item.accepts(part))
            keys, part, wanted = fault(one.item, value[at])
            return f"[{at}]{keys}", part, wanted
    return "", value, kind


def classes(kind: Kind) -> tuple[str, ...]:
    """The classes that the objects of a kind, or those in its lists and mappings, may be of."""
    match kind:
        case Made(names):
            return names
        case Either(kinds) | Fixed(kinds):
            return tuple(name for one in kinds for name in classes(one))
        case Items(inner) | Entries(inner):
            return classes(inner)
    return ()


def makes_entries(kind: Kind) -> bool:
    """Whether a mapping of this kind holds objects: nodes with a `_target_`, which whoever checks looks into."""
    kinds = kind.kinds if isinstance(kind, Either) else (kind,)
    return any(isinstance(one, Entries) and isinstance(one.value, Made) for one in kinds)


def choices(kind: Kind) -> list[str]:
    """The literal texts that a kind allows."""
    parts = kind.kinds if isinstance(kind, Either) else (kind,)
    return [value for part in parts if isinstance(part, OneOf) for value in part.values if isinstance(value, str)]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else {True: "true", False: "false", None: "null"}.get(value, str(value))
