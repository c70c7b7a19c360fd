"""The values per unit that runs left, matched by id; what belongs together (a session's events) becomes one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from recrun.errors import DataError
from recrun.runtime.run_files import DAMAGED

Floats: TypeAlias = npt.NDArray[np.float64]
Strings: TypeAlias = npt.NDArray[np.str_]

IDS, OWN_IDS, OWN_WEIGHTS = "ids", ":ids", ":weights"  # a metric of groups: group_auc, group_auc:ids, group_auc:weights


@dataclass(frozen=True)
class UnitValues:
    """What one run says of its units.

    Attributes:
        ids: Strings [U], each once.
        weights: What a unit counts in the metric, float64 [U], positive.
        values: {metric: float64 [U]}.
        grouped: Whether a metric has these units for itself: groups of rows.
    """

    ids: Strings
    weights: Floats
    values: Mapping[str, Floats]
    grouped: bool = False


@dataclass(frozen=True)
class MatchedUnits:
    """Metrics of several runs over the same units, in the same order.

    Attributes:
        unit: What a unit is, in the plural.
        metrics: Their names, M.
        values_MRU: float64, by metric, run and unit.
        weights_U: What a unit counts, float64 of mean 1.
    """

    unit: str
    metrics: tuple[str, ...]
    values_MRU: Floats
    weights_U: Floats


def metric_names(path: Path) -> list[str]:
    """The metrics of a units file, in its order.

    Raises:
        DataError: The file cannot be read.
    """
    with opened_npz(path) as file:
        names = [name for name in file.files if name != IDS and ":" not in name]
    if not all(name.isprintable() for name in names):
        raise DataError(
            f"{path} is damaged: a metric has the name {next(name for name in names if not name.isprintable())!a}"
        )
    return names


@contextmanager
def opened_npz(path: Path) -> Iterator[NpzFile]:
    """An .npz file whose arrays hold plain values; an error in it names the file."""
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, NpzFile):
                raise ValueError("it is no .npz file")
            with file:
                yield file
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is damaged or not what a run writes: {reason}") from None


def read_units(path: Path, metrics: Sequence[str]) -> list[UnitValues]:
    """Some metrics of a units file: those of its units together, those of groups of their own each alone.

    Raises:
        DataError: The file is damaged or not what a run writes.
    """
    with opened_npz(path) as file:
        arrays = {name: file[name] for name in file.files if name == IDS or name.split(":")[0] in metrics}
    grouped = [name for name in metrics if name + OWN_IDS in arrays]
    common = [name for name in metrics if name not in grouped]
    found = [unit_values(path, arrays, IDS, common)] if common else []
    return found + [unit_values(path, arrays, name + OWN_IDS, [name]) for name in grouped]


def unit_values(path: Path, arrays: Mapping[str, npt.NDArray[Any]], key: str, metrics: Sequence[str]) -> UnitValues:
    """Checks ids, weights and values of one kind of unit."""
    missing = [name for name in (key, *metrics) if name not in arrays]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}")
    ids = arrays[key]
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise DataError(f"{path}: {key} must be strings, one per unit, not {ids.dtype} of shape {ids.shape}")
    if len(ids) < 2:
        raise DataError(f"{path} has {len(ids)} units: a comparison needs at least 2")
    repeated = len(ids) - len(set(ids.tolist()))  # faster than sorting strings
    if repeated:
        raise DataError(f"{path}: {repeated} of {len(ids)} ids in {key} occur more than once")
    own = key.removesuffix(OWN_IDS) + OWN_WEIGHTS
    weights = numbers(path, own, arrays[own], len(ids)) if own in arrays else np.ones(len(ids))
    if weights.min() <= 0:
        raise DataError(f"{path}: {own} must be positive")
    values = {name: numbers(path, name, arrays[name], len(ids)) for name in metrics}
    return UnitValues(ids, weights, values, grouped=key != IDS)


def numbers(path: Path, name: str, values: npt.NDArray[Any], size: int) -> Floats:
    """An array of finite numbers, one per unit, as float64."""
    if values.shape != (size,) or values.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} must be {size} numbers, not {values.dtype} of shape {values.shape}")
    as_floats = values.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(as_floats)))
    if bad:
        raise DataError(f"{path}: {name} is NaN or infinite at {bad} of {size} units")
    return as_floats


def matched(files: Mapping[str, UnitValues], unit: str, by_session: bool) -> MatchedUnits:
    """The units of several runs in the order of the first one's.

    Args:
        files: By the run's name.
        unit: What a unit is, in the plural.
        by_session: Whether ids are `<session>:<position>`, and a session is the unit.

    Raises:
        DataError: Runs have different units, or weigh them differently.
    """
    (first, reference), *_ = files.items()
    metrics = tuple(reference.values)
    orders = {name: order_of(reference.ids, file.ids, first, name) for name, file in files.items()}
    for name, file in files.items():
        if not np.array_equal(reference.weights, file.weights[orders[name]]):
            raise DataError(f"{first} and {name} cannot be compared: {metrics[0]} weighs the {unit} differently")
    values_MRU = np.array([[file.values[m][orders[name]] for name, file in files.items()] for m in metrics])
    if by_session:
        return sessions_of(reference.ids, metrics, values_MRU)
    return MatchedUnits(unit, metrics, values_MRU, reference.weights / reference.weights.mean())


def order_of(reference: Strings, ids: Strings, first: str, other: str) -> npt.NDArray[np.intp] | slice:
    """The index that brings `ids` into the order of `reference`.

    Raises:
        DataError: One has ids that the other lacks.
    """
    if np.array_equal(reference, ids):
        return slice(None)
    lacking, extra = np.setdiff1d(reference, ids), np.setdiff1d(ids, reference)
    if len(lacking) or len(extra):
        example = str([*lacking, *extra][0])
        raise DataError(
            f"{first} and {other} cannot be compared: of the first one's {len(reference):,} units the second lacks "
            f"{len(lacking):,}, and it has {len(extra):,} others (for example {example!r})"
        )
    order = np.empty(len(ids), np.intp)
    order[np.argsort(reference)] = np.argsort(ids)
    return order


def sessions_of(ids: Strings, metrics: tuple[str, ...], values_MRU: Floats) -> MatchedUnits:
    """Events become sessions: a session's value is the mean over its events, and it counts as often as it has events.

    Raises:
        DataError: An id is no `<session>:<position>`.
    """
    names = [name.rpartition(":")[0] for name in ids.tolist()]
    if "" in names:
        raise DataError(f"id {str(ids[names.index('')])!r} is no <session>:<position>, as next-item evaluation writes")
    known: dict[str, int] = {}
    session_U = np.array([known.setdefault(name, len(known)) for name in names])
    events_S = np.bincount(session_U).astype(np.float64)
    if len(events_S) < 2:
        raise DataError("there is one session: a comparison needs at least 2")
    flat = values_MRU.reshape(-1, len(ids))
    means = np.array([np.bincount(session_U, row) for row in flat]) / events_S
    return MatchedUnits("sessions", metrics, means.reshape(*values_MRU.shape[:2], -1), events_S / events_S.mean())
