"""Durations in a config: a number of seconds, or text with a unit."""

from __future__ import annotations

import math
import re

from recrun.errors import ConfigError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def seconds(key: str, value: float | str | None) -> float | None:
    """A duration in seconds; None for none.

    Args:
        key: What it is the value of, for the message.
        value: Seconds, or `30m`, `1.5h`, `2d`.

    Raises:
        ConfigError: It is neither, or not above 0.
    """
    if value is None:
        return None
    found = TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    number = float(found[1]) * UNITS[found[2]] if found else value
    if isinstance(number, str) or not 0 < number < math.inf:
        raise ConfigError(f"{key}={value}: expected a number of seconds above 0, or for example 90s, 30m, 1.5h, 2d")
    return float(number)
