"""The constructor's signature is the schema: keys, types, choices and ranges, read from source without importing it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from recrun.config import python_source
from recrun.config.annotations import read_kind, unquoted
from recrun.config.python_source import Definition, Module, qualified
from recrun.config.value_types import Kind

REQUIRED = object()  # the default of a parameter that has none


@dataclass(frozen=True)
class Parameter:
    """One constructor parameter."""

    name: str
    kind: Kind
    default: Any  # a literal, REQUIRED, or the source text of an expression
    from_data: bool = False  # whether the data give it, `FromData[...]`

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class Schema:
    """What can be known of a class or function without running it; each part is read when it is first asked for.

    Attributes:
        target: Its dotted name, as given.
        definition: Where it is defined; None if its source cannot be read.
    """

    target: str
    definition: Definition | None

    @property
    def fields(self) -> dict[str, Parameter]:
        """Constructor parameters by name."""
        return self._constructor[0]

    @property
    def is_open(self) -> bool:
        """Whether it takes **kwargs, or its source cannot be read: unknown keys are no error."""
        return self._constructor[1]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Class attributes that are plain literals, bases included."""
        return {name: value for part in reversed(self._lineage) for name, value in _attributes(part)}

    @cached_property
    def members(self) -> frozenset[str]:
        """Methods, class-level names and `self.x` assignments, bases included."""
        return frozenset(name for part in self._lineage for name in _members(part))

    @cached_property
    def _constructor(self) -> tuple[dict[str, Parameter], bool]:
        if self.definition is None:
            return {}, True
        fields, is_open = _constructor(self.definition)
        return {field.name: field for field in fields}, is_open

    @cached_property
    def _lineage(self) -> list[Definition]:
        return [] if self.definition is None else list(python_source.lineage(owner(self.definition)))


def signature(target: str) -> Schema:
    """The schema of a class or function given by its dotted name.

    Raises:
        ConfigError: There is no such module or name.
    """
    return _signature(target, tuple(sys.path))


@lru_cache(maxsize=256)
def _signature(target: str, _path: tuple[str, ...]) -> Schema:
    return Schema(target, python_source.find(target))


def forget() -> None:
    """Reads every module again from now on: in a long session, the source of a user's class may have changed."""
    _signature.cache_clear()
    python_source.forget()


def owner(definition: Definition) -> Definition:
    """The class itself, or the class that a function says it returns: `kind` and the like are looked up there."""
    if isinstance(definition.node, ast.ClassDef) or definition.node.returns is None:
        return definition
    name = qualified(definition.module, unquoted(definition.node.returns))
    inside = name is not None and name.split(".")[0] == definition.module.name.split(".")[0]
    return (python_source.find(name) if name and inside else None) or definition


def _constructor(definition: Definition) -> tuple[list[Parameter], bool]:
    if not isinstance(definition.node, ast.ClassDef):
        return _parameters(definition.module, definition.node, skip=0)
    for part in python_source.lineage(definition):
        own = {node.name: node for node in part.node.body if isinstance(node, ast.FunctionDef)}
        if "__init__" in own:
            return _parameters(part.module, own["__init__"], skip=1)
        if _is_dataclass(part):
            return _dataclass_fields(definition), False
    return [], False


def _parameters(
    module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, skip: int
) -> tuple[list[Parameter], bool]:
    given = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(given) - len(node.args.defaults))
    pairs = list(zip(given, [*defaults, *node.args.defaults], strict=True))[skip:]
    pairs += list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    fields = [
        Parameter(arg.arg, read_kind(module, arg.annotation), _default(value), _is_from_data(module, arg.annotation))
        for arg, value in pairs
    ]
    return fields, node.args.kwarg is not None


def _is_from_data(module: Module, node: ast.expr | None) -> bool:
    node = None if node is None else unquoted(node)
    return isinstance(node, ast.Subscript) and qualified(module, node.value) == "recrun.types.FromData"


def _is_dataclass(definition: Definition) -> bool:
    names = [qualified(definition.module, _called(node)) for node in definition.node.decorator_list]
    return "dataclasses.dataclass" in names


def _dataclass_fields(definition: Definition) -> list[Parameter]:
    fields: dict[str, Parameter] = {}
    for part in reversed(list(python_source.lineage(definition))):
        for node in part.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                base = qualified(part.module, node.annotation)
                if base not in ("typing.ClassVar", "dataclasses.KW_ONLY"):
                    kind = read_kind(part.module, node.annotation)
                    fields[node.target.id] = Parameter(node.target.id, kind, _default(node.value))
    return list(fields.values())


def _attributes(definition: Definition) -> Iterator[tuple[str, Any]]:
    for node in definition.node.body if isinstance(definition.node, ast.ClassDef) else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            yield name, ast.literal_eval(value)
        except ValueError:
            continue


def _members(definition: Definition) -> Iterator[str]:
    if not isinstance(definition.node, ast.ClassDef):
        return
    for node in ast.walk(definition.node):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if node in definition.node.body:
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) if _at_class_level(definition.node, node):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=call), args=[ast.Constant(), *_]):
                if call in ("register_buffer", "register_parameter", "add_module"):
                    yield str(ast.literal_eval(node.args[0]))


def _at_class_level(owner: ast.ClassDef, name: ast.Name) -> bool:
    return any(name in (getattr(node, "target", None), *getattr(node, "targets", ())) for node in owner.body)


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
