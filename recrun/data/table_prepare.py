"""A table's rows from their source to columns on disk, in two passes with bounded memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from recrun.data.rows import TEST, TRAIN, VALID, Float, Ids, Int8, Int32, Int64
from recrun.data.table_cells import Chunk, Lists, TableSource
from recrun.data.table_encoding import Encoding, Moments, Scale, Vocabulary, curved, most_frequent
from recrun.data.table_recipe import Fitting, Recipe
from recrun.data.table_schema import Schema
from recrun.data.table_store import Columns, Writer, read
from recrun.errors import DataError

ROWS_AT_ONCE = 1 << 18
NOTHING = np.empty(0, object)
PARTS = {"train": TRAIN, "valid": VALID, "test": TEST}
PART, ABOUT = "part.npy", "about.json"


class Coder:
    """Numbers texts in the order in which they come."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def __call__(self, values: Ids, codes: Int32) -> Int32:
        """Codes over all texts so far of cells `values[codes]`."""
        number = np.fromiter(map(self.codes.get, values, repeat(-1)), np.int32, len(values))
        for place in np.flatnonzero(number < 0).tolist():
            number[place] = self.codes.setdefault(values[place], len(self.codes))
        return number[codes]

    def values(self) -> Ids:
        """Texts by code."""
        found = np.empty(len(self.codes), object)
        found[:] = list(self.codes)
        return found


def prepare(source: TableSource, recipe: Recipe, folder: Path) -> None:
    """Reads, divides, numbers and scales; then a new folder holds columns for each part, and what is known of them."""
    raw, schema = folder / "raw", recipe.schema
    coders = gather(source, schema, recipe.fitting.missing == "error", raw)
    rows = read(raw)
    part = recipe.split(rows)
    values = {owner: coder.values() for owner, coder in coders.items()}
    encoding = recipe.known or fit(rows, part, schema, values, recipe.fitting)
    ids = {owner: encoding.of(owner).encode(values.get(owner, NOTHING)) for owner in schema.owners}
    counts = write(rows, part, Encoder(schema, encoding, ids, recipe.fitting.missing == "indicator"), folder)
    shutil.rmtree(raw)
    encoding.save(folder)
    np.save(folder / PART, part)
    about = {"counts": counts, "fingerprint": fingerprint(encoding, [read(folder / name) for name in PARTS])}
    (folder / ABOUT).write_text(json.dumps(about))


def fingerprint(encoding: Encoding, parts: Iterable[Columns]) -> str:
    """sha256 over ids, scales and the rows of all parts."""
    digest = hashlib.sha256(encoding.digest().encode())
    for part in parts:
        for _, some in pieces(part):
            for array in (*some.flat.values(), *(array for pair in some.lists.values() for array in pair)):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def gather(source: TableSource, schema: Schema, all_numbers: bool, folder: Path) -> dict[str, Coder]:
    """The first pass: cells as codes and numbers, as they come; the coders by the column that owns each.

    Raises:
        DataError: There are no rows, or a cell cannot be used.
    """
    coders: dict[str, Coder] = {}
    texts: dict[str, dict[str, None]] = {label.column: {} for label in schema.labels if label.equals is not None}
    done = 0
    with Writer(folder) as writer:
        for chunk in source.chunks(schema.wanted()):
            for row, fault in faults(chunk, schema, all_numbers):
                raise DataError(f"{source.place(done + row)}: {fault}")
            writer.append(coded(chunk, schema, coders))
            for column, seen in texts.items():
                seen.update(dict.fromkeys(chunk.texts[column].values))
            done += chunk.size
    if not done:
        raise DataError(f"{source.place(0)}: there are no rows")
    schema.refuse_absent(texts)
    return coders


def faults(chunk: Chunk, schema: Schema, all_numbers: bool) -> Iterator[tuple[int, str]]:
    """The first row, if there is one, that each check refuses, and why."""
    for label in schema.labels:
        values = label.of(chunk)
        bad = np.isnan(values)
        if label.task.kind == "classification":
            bad |= (values != 0) & (values != 1)
        for row in np.flatnonzero(bad)[:1].tolist():
            yield row, f"{label.fault(float(values[row]))}"
    for name in schema.dense if all_numbers else ():
        for row in np.flatnonzero(np.isnan(chunk.numbers[name]))[:1].tolist():
            yield row, f"column {name} is empty; dataset.dense_missing=mean or indicator allows that"
    if schema.time is not None:
        texts = chunk.texts[schema.time]
        for row in np.flatnonzero(np.isnan(times_of(texts.values))[texts.codes])[:1].tolist():
            found = texts.values[texts.codes[row]]
            yield row, f"the time is {found!r}, neither a number nor a date in ISO 8601 (column {schema.time})"
    if schema.part is not None:
        texts = chunk.texts[schema.part]
        for row in np.flatnonzero(~np.isin(texts.values, list(PARTS))[texts.codes])[:1].tolist():
            yield row, f"column {schema.part} is {texts.values[texts.codes[row]]!r}; it must say {', '.join(PARTS)}"


def coded(chunk: Chunk, schema: Schema, coders: dict[str, Coder]) -> Columns:
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
        flat["time"] = times_of(texts.values)[texts.codes]
    if schema.part is not None:
        texts = chunk.texts[schema.part]
        flat["part"] = np.array([PARTS[text] for text in texts.values], np.int8)[texts.codes]
    elif chunk.part is not None:
        flat["part"] = np.full(chunk.size, chunk.part, np.int8)
    lists = {}
    for sequence in schema.sequences:
        cells = last_of(chunk.lists[sequence.name], sequence.max_length)
        lists[sequence.name] = (cells.offsets, code(schema.owner(sequence.name), cells.texts.values, cells.texts.codes))
    return Columns(flat, lists)


def times_of(texts: Ids) -> Float:
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
    return Lists(offsets, type(cells.texts)(cells.texts.codes[entry >= -length], cells.texts.values))


def stacked(columns: list[Any], size: int, dtype: Any) -> np.ndarray:
    """Columns side by side, [R, W]."""
    out = np.empty((size, len(columns)), dtype)
    for place, values in enumerate(columns):
        out[:, place] = values
    return out


def fit(rows: Columns, part: Int8, schema: Schema, values: Mapping[str, Ids], fitting: Fitting) -> Encoding:
    """Vocabularies and scales of the training part."""
    counts = {name: np.zeros(len(texts), np.int64) for name, texts in values.items()}
    moments = {kind: Moments.none(len(schema.dense)) for kind in set(fitting.scale.values())}
    for begin, some in pieces(rows):
        chosen = np.flatnonzero(part[begin : begin + len(some)] == TRAIN)
        some = some.take(chosen)
        for name, codes in codes_of(some, schema):
            counts[schema.owner(name)] += np.bincount(codes, minlength=len(counts[schema.owner(name)]))
        for kind, sums in moments.items():
            dense = some.flat["dense"]
            sums.add(curved(dense) if kind == "log" else dense)
    scales = [moments[fitting.scale[name]].scale(at, name, fitting.scale[name]) for at, name in enumerate(schema.dense)]
    return Encoding(tuple(vocabularies(schema, values, counts, fitting)), tuple(scales))


def vocabularies(
    schema: Schema, values: Mapping[str, Ids], counts: Mapping[str, Int64], fitting: Fitting
) -> Iterator[Vocabulary]:
    """One for each column that has its own ids, one after another."""
    first = 0
    for owner in schema.owners:
        if owner in fitting.buckets:
            vocabulary = Vocabulary(owner, first, buckets=fitting.buckets[owner])
        else:
            vocabulary = Vocabulary(owner, first, most_frequent(values[owner], counts[owner], fitting.min_count))
        yield vocabulary
        first += vocabulary.size


def codes_of(rows: Columns, schema: Schema) -> Iterator[tuple[str, Int32]]:
    """The codes of each column of ids."""
    for place, name in enumerate(schema.sparse):
        yield name, rows.flat["sparse"][:, place]
    for sequence in schema.sequences:
        yield sequence.name, rows.lists[sequence.name][1]


@dataclass(frozen=True)
class Encoder:
    """Codes to rows of the table of ids, numbers to inputs.

    Attributes:
        schema: The columns.
        encoding: What is known of them.
        ids: Rows of the table by code, of each vocabulary.
        indicator: Whether there are inputs that say which numbers were missing.
    """

    schema: Schema
    encoding: Encoding
    ids: Mapping[str, Int32]
    indicator: bool

    def __call__(self, rows: Columns) -> Columns:
        """What is served: "sparse" int32 [R, F], "dense" and "label" float32, "group", sequences int32."""
        found = {name: self.ids[self.schema.owner(name)][codes] for name, codes in codes_of(rows, self.schema)}
        flat = {
            "sparse": stacked([found[name] for name in self.schema.sparse], len(rows), np.int32),
            "dense": scaled(rows.flat["dense"], self.encoding.scales, self.indicator),
            "label": rows.flat["label"],
        }
        if "group" in rows.flat:
            flat["group"] = rows.flat["group"]
        lists = {item.name: (rows.lists[item.name][0], found[item.name]) for item in self.schema.sequences}
        return Columns(flat, lists)


def write(rows: Columns, part: Int8, encoder: Encoder, folder: Path) -> dict[str, float]:
    """The second pass: the rows of each part as they are served; counts and shares for `Table.describe`."""
    tallies = {name: Tally() for name in PARTS}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(Writer(folder / name)) for name in PARTS}
        for begin, some in pieces(rows):
            for name, code in PARTS.items():
                chosen = encoder(some.take(np.flatnonzero(part[begin : begin + len(some)] == code)))
                writers[name].append(chosen)
                tallies[name].add(chosen, encoder)
    return {key: count for name, tally in tallies.items() for key, count in tally.told(name)}


class Tally:
    """Counts of one part, for `Table.describe`."""

    def __init__(self) -> None:
        self.rows = 0
        self.cells: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.positive: dict[str, int] = {}

    def add(self, rows: Columns, encoder: Encoder) -> None:
        """Counts rows in."""
        schema = encoder.schema
        self.rows += len(rows)
        for name, ids in codes_of(rows, schema):
            first = encoder.encoding.of(schema.owner(name)).first
            self.cells[name] = self.cells.get(name, 0) + len(ids)
            self.unknown[name] = self.unknown.get(name, 0) + int(np.count_nonzero(ids == first))
        for place, label in enumerate(schema.labels):
            if label.task.kind == "classification":
                ones = int(np.count_nonzero(rows.flat["label"][:, place]))
                self.positive[label.task.name] = self.positive.get(label.task.name, 0) + ones

    def told(self, part: str) -> Iterator[tuple[str, float]]:
        """Rows, the shares of unknown ids where there are any, the shares of positive labels."""
        yield f"{part}_rows", self.rows
        for name, count in self.unknown.items():
            if count:
                yield f"{part}_unknown/{name}", round(count / self.cells[name], 6)
        for name, count in self.positive.items():
            yield f"{part}_positive/{name}", round(count / max(self.rows, 1), 6)


def scaled(numbers: Float, scales: tuple[Scale, ...], indicator: bool) -> np.ndarray:
    """Inputs float32 [R, D], and after them, if asked for, which were missing."""
    columns = [scale.apply(numbers[:, place]) for place, scale in enumerate(scales)]
    if indicator:
        columns += [np.isnan(numbers[:, place]) for place in range(len(scales))]
    with np.errstate(over="ignore"):
        inputs = stacked(columns, len(numbers), np.float32)
    bad = ~np.isfinite(inputs).all(0)
    if bad.any():
        name = scales[int(np.flatnonzero(bad)[0])].name
        raise DataError(f"column {name} has numbers too large for float32; dataset.scale={{{name}: log}} shrinks them")
    return inputs


def pieces(rows: Columns) -> Iterator[tuple[int, Columns]]:
    """Some rows at a time, and the number of the first."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield begin, rows.slice(begin, min(begin + ROWS_AT_ONCE, len(rows)))
        rows.release()
