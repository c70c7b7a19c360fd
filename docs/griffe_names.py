"""For mkdocstrings: `a, b: what both mean` in a docstring is an entry for each of the names."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ENTRY = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)


class SharedSentences(Extension):
    """Writes the sentence once for each name, before the docstring is parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ENTRY.sub(separate, obj.docstring.value)


def separate(found: re.Match[str]) -> str:
    """An entry of several names as one for each."""
    indent, names, meaning = found.groups()
    return "\n".join(f"{indent}{name}: {meaning}" for name in names.split(", "))
