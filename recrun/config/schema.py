"""The constructor's signature is the schema: keys, types, choices and ranges, read from source without importing it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from recrun.config import python_source
from recrun.config.python_source import Definition, Module, qualified
from recrun.config.value_types import (
    Anything,
    Entries,
    Fixed,
    Items,
    Kind,
    Made,
    Null,
    Number,
    OneOf,
    Text,
    Truth,
    classes,
    either,
)

REQUIRED = object()  # the default of a parameter that has none


@dataclass(frozen=True)
class Field:
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
    """What can be known of a class or function without running it.

    Attributes:
        target: Its dotted name, as given.
        fields: Constructor parameters by name.
        is_open: It takes **kwargs, or its source cannot be read: unknown keys are no error.
        doc: First line of its docstring.
        attributes: Class attributes that are plain literals, bases included.
        members: Methods, class-level names and `self.x` assignments, bases included.
    """

    target: str
    fields: dict[str, Field]
    is_open: bool
    doc: str
    attributes: dict[str, Any]
    members: frozenset[str]


def signature(target: str) -> Schema:
    """The schema of a class or function given by its dotted name.

    Raises:
        ConfigError: There is no such module or name.
    """
    return _signature(target, tuple(sys.path))


@lru_cache(maxsize=256)
def _signature(target: str, _path: tuple[str, ...]) -> Schema:
    definition = python_source.find(target)
    if definition is None:
        return Schema(target, {}, True, "", {}, frozenset())
    line = list(python_source.lineage(owner(definition)))
    fields, is_open = _constructor(definition)
    return Schema(
        target=target,
        fields={field.name: field for field in fields},
        is_open=is_open,
        doc=(ast.get_docstring(definition.node) or "").split("\n")[0],
        attributes={name: value for part in reversed(line) for name, value in _attributes(part)},
        members=frozenset(name for part in line for name in _members(part)),
    )


def forget() -> None:
    """Reads every module again from now on: in a long session, the source of a user's class may have changed."""
    _signature.cache_clear()
    python_source.forget()


def owner(definition: Definition) -> Definition:
    """The class itself, or the class that a function says it returns: `kind` and the like are looked up there."""
    if isinstance(definition.node, ast.ClassDef) or definition.node.returns is None:
        return definition
    name = qualified(definition.module, _unquoted(definition.node.returns))
    inside = name is not None and name.split(".")[0] == definition.module.name.split(".")[0]
    return (python_source.find(name) if name and inside else None) or definition


def _constructor(definition: Definition) -> tuple[list[Field], bool]:
    if not isinstance(definition.node, ast.ClassDef):
        return _parameters(definition.module, definition.node, skip=0)
    for part in python_source.lineage(definition):
        own = {node.name: node for node in part.node.body if isinstance(node, ast.FunctionDef)}
        if "__init__" in own:
            return _parameters(part.module, own["__init__"], skip=1)
        if _is_dataclass(part):
            return _dataclass_fields(definition), False
    return [], False


def _parameters(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, skip: int) -> tuple[list[Field], bool]:
    given = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(given) - len(node.args.defaults))
    pairs = list(zip(given, [*defaults, *node.args.defaults], strict=True))[skip:]
    pairs += list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    fields = [
        Field(arg.arg, read_kind(module, arg.annotation), _default(value), _is_from_data(module, arg.annotation))
        for arg, value in pairs
    ]
    return fields, node.args.kwarg is not None


def _is_from_data(module: Module, node: ast.expr | None) -> bool:
    node = None if node is None else _unquoted(node)
    return isinstance(node, ast.Subscript) and qualified(module, node.value) == "recrun.types.FromData"


def _is_dataclass(definition: Definition) -> bool:
    names = [qualified(definition.module, _called(node)) for node in definition.node.decorator_list]
    return "dataclasses.dataclass" in names


def _dataclass_fields(definition: Definition) -> list[Field]:
    fields: dict[str, Field] = {}
    for part in reversed(list(python_source.lineage(definition))):
        for node in part.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                base = qualified(part.module, node.annotation)
                if base not in ("typing.ClassVar", "dataclasses.KW_ONLY"):
                    kind = read_kind(part.module, node.annotation)
                    fields[node.target.id] = Field(node.target.id, kind, _default(node.value))
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


def read_kind(module: Module, node: ast.expr | None, depth: int = 0) -> Kind:
    """The kind of value that an annotation allows; what cannot be read allows anything."""
    if node is None or depth > 10:
        return Anything()
    node = _unquoted(node)
    match node:
        case ast.Constant(value=None):
            return Null()
        case ast.BinOp(op=ast.BitOr()):
            return either([read_kind(module, side, depth + 1) for side in (node.left, node.right)])
        case ast.Subscript():
            return _generic(module, node, depth)
        case ast.Name() | ast.Attribute():
            return _named(module, node, depth)
    return Anything()


def _named(module: Module, node: ast.expr, depth: int) -> Kind:
    name = qualified(module, node) or ""
    last = name.rpartition(".")[2]
    if name in ("builtins.int", "builtins.float"):
        return Number(whole=last == "int")
    plain: dict[str, Kind] = {"bool": Truth(), "str": Text(), "Path": Text(), "PathLike": Text()}
    if name.startswith(("builtins.", "pathlib.", "os.")) and last in plain:
        return plain[last]
    if last in LISTS:
        return Items(Anything())
    if last in MAPPINGS:
        return Entries(Anything())
    if last == "Callable":
        return Made()
    return _alias(name, depth)


def _alias(name: str, depth: int) -> Kind:
    """Follows `Count = Annotated[int, Ge(1)]`; into recrun and other code of the user, not into installed packages."""
    holder, _, last = name.rpartition(".")
    module = python_source.find_module(holder) if holder and holder.split(".")[0] not in LEFT_UNREAD else None
    if module is None or module.path is None:
        return Anything()
    if holder.split(".")[0] != "recrun" and module.path.match("*-packages/**/*"):
        return Anything()
    binding = module.bindings.get(last)
    if isinstance(binding, str):
        return _alias(binding, depth + 1) if depth < 10 else Anything()
    if isinstance(binding, ast.ClassDef):
        return Made((f"{module.name}.{last}",))
    return read_kind(module, binding, depth + 1) if isinstance(binding, ast.expr) else Anything()


def _generic(module: Module, node: ast.Subscript, depth: int) -> Kind:
    name = (qualified(module, node.value) or "").rpartition(".")[2]
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return OneOf(tuple(ast.literal_eval(part) for part in parts))
    if name == "Annotated":
        return _bounded(read_kind(module, parts[0], depth + 1), module, parts[1:])
    if name in ("tuple", "Tuple") and not (len(parts) == 2 and _is_ellipsis(parts[1])):
        return Fixed(tuple(read_kind(module, part, depth + 1) for part in parts))
    if name in LISTS:
        return Items(read_kind(module, parts[0], depth + 1))
    if name in MAPPINGS:
        return Entries(read_kind(module, parts[-1], depth + 1))
    if name == "Optional":
        return either([read_kind(module, parts[0], depth + 1), Null()])
    if name == "Union":
        return either([read_kind(module, part, depth + 1) for part in parts])
    if name in ("Final", "ClassVar", "InitVar", "FromData"):
        return read_kind(module, parts[0], depth + 1)
    return Made(_returned(module, parts[-1], depth)) if name == "Callable" else Anything()


def _returned(module: Module, node: ast.expr, depth: int) -> tuple[str, ...]:
    """The classes that a `Callable[..., X]` may return; those of torch by their name alone."""
    name = qualified(module, _unquoted(node)) or ""
    return (name,) if name.startswith("torch.") else classes(read_kind(module, node, depth + 1))


def _bounded(kind: Kind, module: Module, notes: list[ast.expr]) -> Kind:
    limits: dict[str, Any] = {}
    for note in notes:
        if not isinstance(note, ast.Call):
            continue
        name = (qualified(module, note.func) or "").rpartition(".")[2].lower()
        try:
            values = [ast.literal_eval(value) for value in note.args]
            named = {word.arg: ast.literal_eval(word.value) for word in note.keywords if word.arg}
        except ValueError:
            continue
        if name in ("ge", "gt", "le", "lt", "minlen") and (values or named):
            limits[name] = [*values, *named.values()][0]
        elif name == "interval":
            limits |= named
    least = limits.pop("minlen", 0)
    if isinstance(kind, Items):
        return Items(kind.item, least)
    return Number(kind.whole, **limits) if isinstance(kind, Number) else kind


LISTS = ("list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "frozenset", "MutableSequence")
MAPPINGS = ("dict", "Dict", "Mapping", "MutableMapping")
LEFT_UNREAD = ("torch", "numpy", "scipy", "pandas", "typing", "collections", "builtins", "annotated_types")


def _unquoted(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return node
    return node


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return REQUIRED
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
