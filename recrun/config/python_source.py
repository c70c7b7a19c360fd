"""Reads Python source without importing it: where a module is, what its names mean, what a class is made of."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TypeAlias

from recrun.errors import ConfigError, did_you_mean

# What a name at the top of a module is bound to: something defined there, or the dotted name it was imported from.
Binding: TypeAlias = "ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr | str"

# Bases that bring no configurable parameter and no member of interest; reading their source would only cost time.
ROOTS = ("builtins.object", "typing.Protocol", "typing.Generic", "abc.ABC", "torch.nn.Module")


@dataclass(frozen=True)
class Definition:
    """A class or function and the module that defines it."""

    module: Module
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def name(self) -> str:
        """The full dotted name."""
        return f"{self.module.name}.{self.node.name}"


class Module:
    """A module's source, parsed on first use. `path` is None for a compiled or namespace module."""

    def __init__(self, name: str, spec: ModuleSpec) -> None:
        self.name = name
        self.folders = spec.submodule_search_locations
        readable = spec.origin is not None and spec.origin.endswith(".py")
        self.path = Path(spec.origin) if readable and spec.origin is not None else None

    @cached_property
    def body(self) -> list[ast.stmt]:
        """The top-level statements; empty where there is no source."""
        return _parse(self.path, self.path.stat().st_mtime_ns).body if self.path else []

    @cached_property
    def bindings(self) -> dict[str, Binding]:
        """Names at the top of the module; a later binding replaces an earlier one, as in Python."""
        return dict(pair for statement in _statements(self.body) for pair in self._bind(statement))

    @cached_property
    def stars(self) -> list[str]:
        """Modules whose every name is imported here."""
        found = [node for node in _statements(self.body) if isinstance(node, ast.ImportFrom)]
        return [self._origin(node) for node in found if node.names[0].name == "*"]

    @property
    def is_open(self) -> bool:
        """Whether it may hold names that its source does not show."""
        return (self.path is None and self.folders is None) or "__getattr__" in self.bindings

    @property
    def is_installed(self) -> bool:
        """Whether it is part of Python or of an installed package, rather than a user's own file."""
        places = [self.path] if self.path else [Path(folder) for folder in self.folders or ()]
        standard = Path(sysconfig.get_path("stdlib"))
        return not places or any(
            standard in place.parents or not {"site-packages", "dist-packages"}.isdisjoint(place.parts)
            for place in places
        )

    def _bind(self, node: ast.stmt) -> Iterator[tuple[str, Binding]]:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node
            case ast.Import():
                for name in node.names:
                    yield (name.asname, name.name) if name.asname else (name.name.split(".")[0],) * 2
            case ast.ImportFrom():
                for name in node.names:
                    yield name.asname or name.name, f"{self._origin(node)}.{name.name}"
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case _ if type(node).__name__ == "TypeAlias":  # `type X = ...`, from Python 3.12 on
                yield getattr(node, "name").id, getattr(node, "value")  # noqa: B009

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.folders is not None else self.name.split(".")[:-1]
        parents = package[: len(package) - node.level + 1]
        return ".".join([*parents, *([node.module] if node.module else [])])


def find_module(name: str) -> Module | None:
    """A module by its dotted name, without importing it or its parents; None where there is none."""
    return _find_module(name, (*sys.path, os.getcwd()))


@lru_cache(maxsize=1024)
def _find_module(name: str, _path: tuple[str, ...]) -> Module | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        return None
    for index, part in enumerate(rest):
        if spec is None or spec.submodule_search_locations is None:
            return None
        folders = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(".".join([top, *rest[:index], part]), folders)
    return Module(name, spec) if spec else None


def forget() -> None:
    """Finds and reads every module again from now on."""
    _find_module.cache_clear()


def find(target: str, depth: int = 0) -> Definition | None:
    """The class or function that a dotted name means; imports and aliases are followed.

    Returns:
        None where it may exist but has no source to read (compiled modules, names made at run time).

    Raises:
        ConfigError: There is no such module or name; the message says which part is missing.
    """
    parts = target.split(".")
    module, used = find_module(parts[0]), 1
    while module and used < len(parts) - 1 and (inner := find_module(".".join(parts[: used + 1]))):
        module, used = inner, used + 1
    if module is None:
        raise ConfigError(f"there is no module '{parts[0]}'")
    if used == len(parts) or (parts[-1] not in module.bindings and find_module(target)):
        raise ConfigError(f"'{target}' is a module, not a class or function")
    return _member(module, parts[used:], depth) if depth < 20 else None


def _member(module: Module, names: list[str], depth: int) -> Definition | None:
    binding = module.bindings.get(names[0])
    if isinstance(binding, str):
        return find(".".join([binding, *names[1:]]), depth + 1)
    if isinstance(binding, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return Definition(module, binding) if len(names) == 1 else None
    if binding is not None:
        alias = qualified(module, binding)
        return find(alias, depth + 1) if alias and alias != f"{module.name}.{names[0]}" else None
    for star in module.stars:
        try:
            return find(".".join([star, *names]), depth + 1)
        except ConfigError:
            continue
    if module.is_open:
        return None
    if len(names) > 1:
        hint = did_you_mean(names[0], [path.stem for folder in module.folders or () for path in Path(folder).iterdir()])
        raise ConfigError(f"there is no module '{module.name}.{names[0]}'{hint}")
    hint = did_you_mean(names[0], [name for name in module.bindings if not name.startswith("_")])
    raise ConfigError(f"{module.name} has no '{names[0]}'{hint}")


def qualified(module: Module, node: ast.expr) -> str | None:
    """The dotted name that an expression such as `nn.Module` or `Count` means; None where it is no name."""
    if isinstance(node, ast.Subscript):
        return qualified(module, node.value)
    if isinstance(node, ast.Attribute):
        owner = qualified(module, node.value)
        return f"{owner}.{node.attr}" if owner else None
    if not isinstance(node, ast.Name):
        return None
    binding = module.bindings.get(node.id)
    if isinstance(binding, str):
        return binding
    if binding is None and hasattr(builtins, node.id):
        return f"builtins.{node.id}"
    return f"{module.name}.{node.id}"


def lineage(definition: Definition) -> Iterator[Definition]:
    """The class and its bases whose source can be read, nearest first."""
    yield definition
    if not isinstance(definition.node, ast.ClassDef):
        return
    for base in definition.node.bases:
        name = qualified(definition.module, base)
        if name is None or name in ROOTS:
            continue
        try:
            parent = find(name)
        except ConfigError:
            continue
        if parent is not None:
            yield from lineage(parent)


def bases(definition: Definition) -> Iterator[str]:
    """The dotted names of all bases of a class, those whose source is not read included."""
    for part in lineage(definition):
        yield part.name
        if isinstance(part.node, ast.ClassDef):
            yield from (name for base in part.node.bases if (name := qualified(part.module, base)))


@lru_cache(maxsize=256)
def _parse(path: Path, _changed: int) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}") from None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
