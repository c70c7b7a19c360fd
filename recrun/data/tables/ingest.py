"""The first pass over a table: cells as codes and numbers, as they come, checked and written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recrun.data.io.chunks import Chunk, Lists, Texts
from recrun.data.io.coder import Coder
from recrun.data.tables.column_store import ColumnStore, Writer, stacked
from recrun.data.tables.schema import TableSchema
from recrun.data.tables.source import TableSource
from recrun.data.tables.split import PARTS
from recrun.data.types import Float, Ids, Int32, Mask
from recrun.errors import DataError

WHOLE = 2.0**24  # up to here float32 has all whole numbers


def gather_rows(source: TableSource, schema: TableSchema, all_numbers: bool, folder: Path) -> dict[str, Coder]:
    """Writes the rows of a source to a new folder, texts as codes; gives the coders, by the column that owns each.

    Raises:
        DataError: There are no rows, or a cell cannot be used.
    """
    coders: dict[str, Coder] = {}
    texts: dict[str, dict[str, None]] = {label.column: {} for label in schema.labels if label.equals is not None}
    done = 0
    with Writer(folder) as writer:
        for chunk in source.chunks(schema.wanted()):
            for row, fault in faults(chunk, schema, all_numbers):
                raise DataError(f"{source.location(done + row)}: {fault}")
            writer.append(coded(chunk, schema, coders))
            for column, seen in texts.items():
                seen.update(dict.fromkeys(chunk.texts[column].values))
            done += chunk.size
    if not done:
        raise DataError(f"{source.location(0)}: there are no rows")
    schema.refuse_absent(texts)
    return coders


def faults(chunk: Chunk, schema: TableSchema, all_numbers: bool) -> Iterator[tuple[int, str]]:
    """The first row, if there is one, that each check refuses, and why."""
    for label in schema.labels:
        values = label.of(chunk)
        bad = ~float32_holds(values)
        if label.task.kind == "classification":
            bad |= (values != 0) & (values != 1)
        for row in np.flatnonzero(bad)[:1].tolist():
            yield row, label.fault(float(values[row]))
    for name in schema.dense if all_numbers else ():
        for row in np.flatnonzero(np.isnan(chunk.numbers[name]))[:1].tolist():
            yield row, f"column {name} is empty; dataset.dense_missing=mean or indicator allows that"
    if schema.time is not None:
        texts = chunk.texts[schema.time]
        for row in np.flatnonzero(np.isnan(times_as_numbers(texts.values))[texts.codes])[:1].tolist():
            found = texts.values[texts.codes[row]]
            yield row, f"the time is {found!r}, neither a number nor a date in ISO 8601 (column {schema.time})"
    if schema.part is not None:
        texts = chunk.texts[schema.part]
        for row in np.flatnonzero(~np.isin(texts.values, list(PARTS))[texts.codes])[:1].tolist():
            yield row, f"column {schema.part} is {texts.values[texts.codes[row]]!r}; it must say {', '.join(PARTS)}"


def float32_holds(values: Float) -> Mask:
    """Whether numbers are stored as float32 without a change that is larger than rounding below 2^24; not NaN."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return np.asarray(np.isfinite(single) & ((np.abs(values) <= WHOLE) | (single == values)))


def coded(chunk: Chunk, schema: TableSchema, coders: dict[str, Coder]) -> ColumnStore:
    """A chunk's cells with texts as codes."""

    def code(owner: str, values: Ids, codes: Int32) -> Int32:
        return coders.setdefault(owner, Coder())(values, codes)

    def column(name: str) -> Int32:
        return code(schema.owner(name), chunk.texts[name].values, chunk.texts[name].codes)

    flat: dict[str, np.ndarray] = {
        "sparse": stacked([column(name) for name in schema.sparse], chunk.size, np.int32),
        "dense": stacked([chunk.numbers[name] for name in schema.dense], chunk.size, np.float64),
        "label": stacked([label.of(chunk) for label in schema.labels], chunk.size, np.float32),
    }
    if schema.group is not None:
        flat["group"] = column(schema.group).astype(np.int64)
    if schema.time is not None:
        texts = chunk.texts[schema.time]
        flat["time"] = times_as_numbers(texts.values)[texts.codes]
    if schema.part is not None:
        texts = chunk.texts[schema.part]
        flat["part"] = np.array([PARTS[text] for text in texts.values], np.int8)[texts.codes]
    elif chunk.part is not None:
        flat["part"] = np.full(chunk.size, chunk.part, np.int8)
    lists = {}
    for sequence in schema.sequences:
        cells = last_of(chunk.lists[sequence.name], sequence.max_length)
        lists[sequence.name] = (cells.offsets, code(schema.owner(sequence.name), cells.texts.values, cells.texts.codes))
    return ColumnStore(flat, lists)


def times_as_numbers(texts: Ids) -> Float:
    """Times as numbers: numbers as they are, dates in ISO 8601 as seconds since 1970, others as NaN."""
    import pandas as pd

    cells = pd.Series(texts, dtype=object)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, copy=True, na_value=np.nan)
    dates = pd.DatetimeIndex(pd.to_datetime(cells[np.isnan(numbers)], format="ISO8601", utc=True, errors="coerce"))
    known = ~np.asarray(dates.isna())
    numbers[np.flatnonzero(np.isnan(numbers))[known]] = dates[known].as_unit("us").asi8 / 1e6
    return np.where(np.isfinite(numbers), numbers, np.nan)


def last_of(cells: Lists, length: int) -> Lists:
    """Lists cut to their last entries."""
    lengths = np.diff(cells.offsets)
    if not len(lengths) or lengths.max() <= length:
        return cells
    entry = np.arange(len(cells.texts)) - np.repeat(cells.offsets[1:], lengths)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, length))])
    return Lists(offsets, Texts(cells.texts.codes[entry >= -length], cells.texts.values))
