"""The sentences of keys: read from the docstrings of the classes that declare them, without importing these."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from recrun.config import python_source
from recrun.config.python_source import Definition

ENTRY = re.compile(r"^\*{0,2}\w+(?:, \*{0,2}\w+)*:(?=\s|$)")
SECTIONS = ("Args:", "Attributes:")


def sentences(target: str) -> dict[str, str]:
    """What each constructor parameter of a class or function means, by name; those without a sentence are absent."""
    definition = python_source.find(target)
    if definition is None:
        return {}
    found: dict[str, str] = {}
    for text in docstrings(definition):
        for name, sentence in entries(text):
            found.setdefault(name, sentence)
    return found


def docstrings(definition: Definition) -> Iterator[str]:
    """Of a class, its constructor and its bases; of a function, its own."""
    for part in python_source.lineage(definition):
        nodes = [part.node, *(node for node in part.node.body if getattr(node, "name", "") == "__init__")]
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def entries(docstring: str) -> Iterator[tuple[str, str]]:
    """Names and sentences of the sections that list parameters, one for each of `a, b: what both mean`."""
    names: list[str] = []
    words: list[str] = []
    inside = False
    for line in [*docstring.splitlines(), "End:"]:
        head = line.strip()
        if line == head and line:  # a heading, or prose
            yield from ((name, " ".join(words)) for name in names)
            names, words, inside = [], [], head in SECTIONS
        elif inside and re.match(r"^ {4}\S", line) and ENTRY.match(head):
            yield from ((name, " ".join(words)) for name in names)
            stem, _, rest = head.partition(":")
            names, words = [name.strip("* ") for name in stem.split(",")], [rest.strip()]
        elif inside and head:
            words.append(head)


def first_line(target: str) -> str:
    """What a class or function is, in a line."""
    definition = python_source.find(target)
    return (ast.get_docstring(definition.node) or "").split("\n")[0] if definition else ""
