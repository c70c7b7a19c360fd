"""Text in a line of a file: tabs and ends of lines are written as two signs."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Text that neither a tab nor the end of a line is in."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    if "\\" not in text:
        return text
    signs = {"t": "\t", "n": "\n", "r": "\r"}
    pieces = text.split("\\\\")
    for sign, meaning in signs.items():
        pieces = [piece.replace(f"\\{sign}", meaning) for piece in pieces]
    return "\\".join(pieces)
