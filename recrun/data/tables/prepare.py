"""A table's rows from their source to columns on disk, in two passes with bounded memory: learning, then writing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recrun.data.tables.column_store import ColumnStore, Writer, read_columns, stacked
from recrun.data.tables.encoding import Encoding, Moments, Scale, Vocabulary, curved, most_frequent
from recrun.data.tables.history import Past
from recrun.data.tables.ingest import gather_rows
from recrun.data.tables.schema import TableSchema
from recrun.data.tables.source import TableSource
from recrun.data.tables.spec import Fitting, Recipe
from recrun.data.tables.split import PARTS
from recrun.data.types import TRAIN, Float, Ids, Int8, Int32, Int64
from recrun.errors import DataError

ROWS_AT_ONCE = 1 << 18
NOTHING = np.empty(0, object)
PART, ABOUT = "part.npy", "about.json"


def prepare(source: TableSource, recipe: Recipe, folder: Path) -> None:
    """Reads, divides, numbers and scales; then a new folder holds columns for each split, and what is known of them."""
    raw, schema = folder / "raw", recipe.schema
    coders = gather_rows(source, schema, recipe.fitting.missing == "error", raw)
    rows = read_columns(raw)
    part = recipe.split(rows)
    values = {owner: coder.values() for owner, coder in coders.items()}
    encoding = recipe.known or fit(rows, part, schema, values, recipe.fitting)
    ids = {owner: encoding.of(owner).encode(values.get(owner, NOTHING)) for owner in schema.owners}
    tasks = [label.task.name for label in schema.labels]
    pasts = [Past(history, rows, part, schema.sparse, tasks) for history in schema.histories]
    counts = write(rows, part, pasts, Encoder(schema, encoding, ids, recipe.fitting.missing == "indicator"), folder)
    shutil.rmtree(raw)
    encoding.save(folder)
    np.save(folder / PART, part)
    about = {"counts": counts, "fingerprint": fingerprint(encoding, [read_columns(folder / name) for name in PARTS])}
    (folder / ABOUT).write_text(json.dumps(about))


def fingerprint(encoding: Encoding, parts: Iterable[ColumnStore]) -> str:
    """sha256 over ids, scales and the rows of all splits."""
    digest = hashlib.sha256(encoding.digest().encode())
    for part in parts:
        for _, some in pieces(part):
            for array in (*some.flat.values(), *(array for pair in some.lists.values() for array in pair)):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def fit(rows: ColumnStore, part: Int8, schema: TableSchema, values: Mapping[str, Ids], fitting: Fitting) -> Encoding:
    """Vocabularies and scales of the training split."""
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
    schema: TableSchema, values: Mapping[str, Ids], counts: Mapping[str, Int64], fitting: Fitting
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


def codes_of(rows: ColumnStore, schema: TableSchema) -> Iterator[tuple[str, Int32]]:
    """The codes of each column of ids that the rows have."""
    for index, name in enumerate(schema.sparse):
        yield name, rows.flat["sparse"][:, index]
    for name, (_, codes) in rows.lists.items():
        yield name, codes


@dataclass(frozen=True)
class Encoder:
    """Codes to rows of the table of ids, numbers to inputs.

    Attributes:
        schema: The columns.
        encoding: What is known of them.
        ids: Rows of the table by code, of each vocabulary.
        indicator: Whether there are inputs that say which numbers were missing.
    """

    schema: TableSchema
    encoding: Encoding
    ids: Mapping[str, Int32]
    indicator: bool

    def __call__(self, rows: ColumnStore) -> ColumnStore:
        """What is served: "sparse" int32 [R, F], "dense" and "label" float32, "group", sequences int32."""
        found = {name: self.ids[self.schema.owner(name)][codes] for name, codes in codes_of(rows, self.schema)}
        flat = {
            "sparse": stacked([found[name] for name in self.schema.sparse], len(rows), np.int32),
            "dense": scaled(rows.flat["dense"], self.encoding.scales, self.indicator),
            "label": rows.flat["label"],
        }
        if "group" in rows.flat:
            flat["group"] = rows.flat["group"]
        return ColumnStore(flat, {name: (offsets, found[name]) for name, (offsets, _) in rows.lists.items()})


def write(rows: ColumnStore, part: Int8, pasts: Sequence[Past], encoder: Encoder, folder: Path) -> dict[str, float]:
    """The second pass: the rows of each split as they are served; counts and shares for `Table.describe`."""
    tallies = {name: Tally() for name in PARTS}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(Writer(folder / name)) for name in PARTS}
        for begin, some in pieces(rows):
            made = {past.history.name: past.between(begin, begin + len(some)) for past in pasts}
            some = replace(some, lists={**some.lists, **made})
            for name, code in PARTS.items():
                chosen = encoder(some.take(np.flatnonzero(part[begin : begin + len(some)] == code)))
                writers[name].append(chosen)
                tallies[name].add(chosen, encoder)
    return {key: count for name, tally in tallies.items() for key, count in tally.counts(name)}


class Tally:
    """Counts of one split, for `Table.describe`."""

    def __init__(self) -> None:
        self.rows = 0
        self.cells: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.positive: dict[str, int] = {}

    def add(self, rows: ColumnStore, encoder: Encoder) -> None:
        """Counts rows in."""
        schema = encoder.schema
        self.rows += len(rows)
        for name, ids in codes_of(rows, schema):
            first = encoder.encoding.of(schema.owner(name)).first
            self.cells[name] = self.cells.get(name, 0) + len(ids)
            self.unknown[name] = self.unknown.get(name, 0) + int(np.count_nonzero(ids == first))
        for index, label in enumerate(schema.labels):
            if label.task.kind == "classification":
                ones = int(np.count_nonzero(rows.flat["label"][:, index]))
                self.positive[label.task.name] = self.positive.get(label.task.name, 0) + ones

    def counts(self, part: str) -> Iterator[tuple[str, float]]:
        """Rows, the shares of unknown ids where there are any, the shares of positive labels."""
        yield f"{part}_rows", self.rows
        for name, count in self.unknown.items():
            if count:
                yield f"{part}_unknown/{name}", round(count / self.cells[name], 6)
        for name, count in self.positive.items():
            yield f"{part}_positive/{name}", round(count / max(self.rows, 1), 6)


def scaled(numbers: Float, scales: tuple[Scale, ...], indicator: bool) -> np.ndarray:
    """Inputs float32 [R, D], and after them, if asked for, which were missing."""
    columns = [scale.apply(numbers[:, index]) for index, scale in enumerate(scales)]
    if indicator:
        columns += [np.isnan(numbers[:, index]) for index in range(len(scales))]
    with np.errstate(over="ignore"):
        inputs = stacked(columns, len(numbers), np.float32)
    bad = ~np.isfinite(inputs).all(0)
    if bad.any():
        name = scales[int(np.flatnonzero(bad)[0])].name
        raise DataError(f"column {name} has numbers too large for float32; dataset.scale={{{name}: log}} shrinks them")
    return inputs


def pieces(rows: ColumnStore) -> Iterator[tuple[int, ColumnStore]]:
    """Some rows at a time, and the number of the first."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield begin, rows.slice(begin, min(begin + ROWS_AT_ONCE, len(rows)))
        rows.release()
