"""Numbers that are written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from recrun.data.types import Float

PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def is_plain_integer(text: str) -> bool:
    """Whether an integer is written as Python writes it: "007", "+7" and "-0" are not."""
    return bool(PLAIN_INTEGER.fullmatch(text))


def is_finite(text: str) -> bool:
    """Whether a text is a number that is neither infinite nor NaN."""
    try:
        return text.isascii() and "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def numbers_of_texts(texts: Iterable[str]) -> Float:
    """Texts as numbers, float64; "" is NaN.

    Raises:
        ValueError: One is no finite number.
    """
    texts = list(texts)
    wrong = next((text for text in texts if text and not is_finite(text)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a finite number")
    return np.array([float(text) if text else math.nan for text in texts], np.float64)
