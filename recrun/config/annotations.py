"""Which kind of value an annotation allows, read from source."""

from __future__ import annotations

import ast
from typing import Any

from recrun.config import python_source
from recrun.config.python_source import Module, qualified
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

LISTS = ("list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "frozenset", "MutableSequence")
MAPPINGS = ("dict", "Dict", "Mapping", "MutableMapping")
LEFT_UNREAD = ("torch", "numpy", "scipy", "pandas", "typing", "collections", "builtins", "annotated_types")


def read_kind(module: Module, node: ast.expr | None, depth: int = 0) -> Kind:
    """The kind of value that an annotation allows; what cannot be read allows anything."""
    if node is None or depth > 10:
        return Anything()
    node = unquoted(node)
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
    name = qualified(module, unquoted(node)) or ""
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


def unquoted(node: ast.expr) -> ast.expr:
    """An annotation that is written as text, parsed; any other as it is."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return node
    return node


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
