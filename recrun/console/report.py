"""The only place that prints; tables are in recrun.console.tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any


def printable(text: str) -> str:
    """A text whose control characters are escaped: ids and names from files must not command the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or char.isprintable() else ascii(char)[1:-1] for char in text)


def error(message: str) -> None:
    """One or two lines for the person, on stderr."""
    mark = "\033[1;31merror:\033[0m" if sys.stderr.isatty() else "error:"
    print(f"{mark} {printable(message)}".replace("\n", "\n       "), file=sys.stderr, flush=True)


def note(message: str) -> None:
    """A line that is no result, on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


def text(message: str) -> None:
    """Plain text on stdout."""
    print(printable(message), flush=True)


def listing(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, in two columns; the lines of a description stay under each other."""
    rows = [(printable(name), printable(text)) for name, text in rows]
    width = max((len(name) for name, _ in rows), default=0)
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    lines = [f"{bold}{printable(title)}{plain}"]
    for name, text in rows:
        first, *more = text.splitlines() or [""]
        lines += [f"  {name:<{width}}  {first}".rstrip(), *(f"  {'':<{width}}  {line}" for line in more)]
    print("\n".join(lines if rows else [*lines, "  none"]), flush=True)


def evaluation(results: Mapping[str, Any]) -> None:
    """What `recrun evaluate` found: a line per metric, a column per split."""
    parts = [part for part in ("valid", "test") if results.get(part)]
    names = list(dict.fromkeys(name for part in parts for name in results[part]))
    rows = [(name, "  ".join(f"{results[part].get(name, float('nan')):>8.4f}" for part in parts)) for name in names]
    listing(f"stage {results['stage']}, epoch {results['epoch']}: {', '.join(parts)}", rows)
