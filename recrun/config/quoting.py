"""Values of overrides in quotation marks, for those that the grammar of overrides would read as something else."""

from __future__ import annotations

import re
import shlex

# What the grammar reads as the text that it is: no number, none of its words, none of its signs.
PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_/][\w./:%@+?-]*", re.ASCII | re.IGNORECASE)


def quoted(value: str) -> str:
    """A text as the grammar of overrides reads it whole, whatever is in it."""
    if PLAIN.fullmatch(value):
        return value
    ends = len(value) - len(value.rstrip("\\"))  # backslashes before a quotation mark count twice
    body = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", value[: len(value) - ends] if ends else value)
    return f"'{body}{value[len(value) - ends :] * 2}'"


def hint(word: str) -> str:
    """How a word that cannot be read may be written, as the end of an error; empty where its value is plain."""
    key, equals, value = word.partition("=")
    if not equals or PLAIN.fullmatch(value):
        return ""
    typed = f"{key}={quoted(value)}"
    typed = f'"{typed}"' if not set(typed) & set('"$`!\\') else shlex.quote(typed)
    return f"; a text with other signs than ASCII letters and digits needs quotes: {typed}"
