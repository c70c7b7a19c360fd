"""Times as seconds since 1970: dates in ISO 8601, and numbers whose unit is stated or recognised by their size."""

from __future__ import annotations

import numpy as np

from recrun.data.io.chunks import Times
from recrun.data.io.columns import TimeUnit
from recrun.data.io.numerals import numbers_of_texts
from recrun.data.types import Float, Ids
from recrun.errors import DataError

SECONDS: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
LARGEST: dict[TimeUnit, float] = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": 1e20}  # a thousandfold: years 1973 to 5138
DIGITS = {14: 1, 12: 100, 10: 10_000, 8: 1_000_000}  # YYYYMMDDHHMMSS and what it lacks


def seconds_of_dates(texts: Ids) -> Float:
    """Seconds since 1970 of dates in ISO 8601; without a zone they are UTC.

    Raises:
        ValueError: One is something else.
    """
    import pandas as pd

    dates = pd.DatetimeIndex(pd.to_datetime(texts, format="ISO8601", utc=True))
    if dates.hasnans:
        raise ValueError("not a date")
    return np.asarray(dates.as_unit("us").asi8 / 1e6)


def times_of_texts(texts: Ids) -> Times:
    """Times that are text: all of them numbers, or all of them dates.

    Raises:
        ValueError: Neither.
    """
    try:
        return Times(numbers_of_texts(texts), dates=False)
    except ValueError:
        return Times(seconds_of_dates(texts), dates=True)


def seconds(numbers: Float, unit: TimeUnit | None, what: str) -> Float:
    """Seconds since 1970 of numbers.

    Args:
        numbers: Finite, [R].
        unit: Theirs; None = recognised: dates that are written as digits (YYYYMMDD, with hours, minutes and seconds
            if all have them), else by the size of the numbers.
        what: Whose times they are, for messages.

    Raises:
        DataError: The unit is not recognised; names the key that states it.
    """
    if unit is not None:
        return numbers * SECONDS[unit]
    if not len(numbers):
        return numbers
    digits = _compact_dates(numbers)
    if digits is not None:
        return digits
    first, last = float(numbers.min()), float(numbers.max())
    low, high = max(first, -last, 0.0), max(-first, last)
    found = next((unit for unit, limit in LARGEST.items() if high < limit), None)
    if found is None or (found != "s" and low < LARGEST[found] / 1e3):
        raise DataError(
            f"{what}: times between {first:.0f} and {last:.0f} are neither seconds, milliseconds, "
            "microseconds nor nanoseconds since 1970; dataset.time_unit=s, ms, us or ns states the unit"
        )
    return numbers if found == "s" else numbers * SECONDS[found]


def _compact_dates(numbers: Float) -> Float | None:
    """Seconds of numbers such as 20150131 or 20150131235959; None unless all of them are dates of one length."""
    length = len(str(int(numbers[0])))
    step = DIGITS.get(length, 0)
    if numbers.min() * step < 1900_0101_000000 or numbers.max() * step > 2100_0000_000000:
        return None
    if not (numbers == np.floor(numbers)).all():
        return None
    rest = (numbers * step).astype(np.int64)
    parts = []
    for _ in range(5):
        rest, part = np.divmod(rest, 100)
        parts.append(part)
    second, minute, hour, day, month = parts
    months = (rest - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = months.astype("datetime64[D]") + (np.maximum(day, 1) - 1)
    valid = (second < 60) & (minute < 60) & (hour < 24) & (month >= 1) & (month <= 12) & (day >= 1)
    valid &= days.astype("datetime64[M]") == months
    if not valid.all():
        return None
    return np.asarray(days.astype("datetime64[s]").astype(np.float64) + 3600.0 * hour + 60.0 * minute + second)
