"""Tables: rows of ids and numbers with labels; for models that predict clicks, or several things at once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from recrun.data.io.download import Download
from recrun.data.tables.cache import Prepared, prepared
from recrun.data.tables.column_store import ColumnStore, concat
from recrun.data.tables.encoding import Encoding, ScaleKind
from recrun.data.tables.files import TableFiles, Where
from recrun.data.tables.schema import TableSchema, TaskKind, read_schema
from recrun.data.tables.shuffle import windows
from recrun.data.tables.source import TableSource
from recrun.data.tables.spec import Recipe, read_fitting
from recrun.data.tables.split import TableSplit, TableSplitName
from recrun.data.types import TEST, VALID, Ids
from recrun.errors import ConfigError
from recrun.features import Features, Field
from recrun.interfaces import Evaluator
from recrun.types import Batch, Count, Index, Probability, Side, Split

log = logging.getLogger("recrun")

MB = 2**20
BLOCK_ROWS = 4096  # neighbours on the disk that are read together
WINDOW_ROWS = 1 << 20  # rows that are permuted together


class Table:
    """Rows with features and labels, served as they are.

    A batch: `sparse` int32 [B, F], ids as rows of one table that all columns share; `dense` float32 [B, D]; each
    sequence ragged, `name` int32 [N] and `name_offsets` int64 [B + 1]; `label` float32 [B, T]. Evaluation batches
    also have `group` int64 [B] if the data name one.

    Ids are texts; an empty cell is a text like others. Those of the training split have rows of the table, most
    frequent first; what training does not know is row `first` of its field. Numbers are scaled by the training split.

    Splits:
        random: By `numpy.random.default_rng(split_seed).permutation`: first train, then valid, then test.
        temporal: The last `test_fraction` of the rows, by `time_column` or as they come; before, the `valid_fraction`.
        column: `split_column` says train, valid or test.
        provided: `path` is a folder with a file for train and, if there are, for valid and test.
    Where the last two have no validation rows, `valid_fraction` of the training rows are drawn for it.

    Args:
        evaluator: Evaluates models on these data.
        tasks: What to predict: {click: classification, rating: regression}, or how a label of 0 and 1 comes from a
            column: {like: {column: rating, at_least: 4}, rich: {column: income, equals: "50000+"}}.
        path: A file or a folder (see recrun.data.tables.files); relative to `root`, else to the working directory.
        root: The data folder.
        download: Where the file can be had if it is absent.
        source: Gives the rows instead of `path`.
        columns: Names of the columns of a text file without a header line.
        separator: Of a text file; None = as the ending or the first line has it.
        join: Files with a row for each value of a column, {user_id: users.csv}: their columns are put beside the rows.
        part_files: File names of the parts for split=provided; None = train, valid, test with a known ending.
        sparse: Columns with one id a row.
        dense: Columns of numbers.
        sequences: Columns with several ids a row, {genres: {separator: "|", max_length: 50}}; the last are kept.
        share: Columns that number their ids as another one does, {history: item_id}.
        histories: Sequences made of the training rows before each row, {liked: {of: item_id, by: user_id, where: like,
            max_length: 50}}: the items, in order of `time_column` or of the rows, of the same user, with label 1 of
            the task `where` and 0 of the task `unless`. A file of `test_path` has them as columns, divided by "|".
        group: The column that group_auc groups by.
        min_count: Occurrences in the training split that an id needs to be known.
        buckets: Columns whose ids are hashed, and into how many rows.
        scale: Of all numbers, or by column, the others standard. standard: mean 0, deviation 1; log: the same of
            sign(x) log(1 + |x|); minmax: 0 to 1; none: as they are.
        dense_missing: What an empty number is: the training mean; the mean, and an input `name_missing`; or an error.
        split: How rows become train, valid and test, see above.
        split_column: The column that split=column reads.
        time_column: The column that orders rows, for split=temporal and histories.
        valid_fraction, test_fraction: Shares of the rows.
        split_seed: Of the draw; apart from the run's seed.
        test_path: A file whose rows replace the test split; to predict, it needs no labels. Then
            `test_fraction` does nothing: the rows of `path` are for training and validation.
        vocabulary: The `vocabulary` folder of a run: ids and scales are taken from it, not learned. With `test_path`
            nothing else is read.
        unseen: Whether the rows are others than those of that run: then all are for testing, as those of `test_path`,
            which does nothing, unless split=column or provided says what each is for.
        memory_mb: Larger tables stay on the disk; an epoch then permutes blocks of rows, see `windows`.
        cache: Folder of prepared data; None = none.

    Raises:
        ConfigError: Settings contradict each other.
        DataError: The data cannot be used; names the file and, where there is one, the line.
        CheckpointError: `vocabulary` is not one of these columns.
    """

    kind: ClassVar[str] = "table"
    train_unit: ClassVar[str] = "rows"
    input_key: ClassVar[str] = "test_path"
    learned: ClassVar[tuple[str, ...]] = (
        "min_count",
        "buckets",
        "scale",
        "dense_missing",
    )  # that a run's weights rely on

    def __init__(
        self,
        evaluator: Evaluator,
        tasks: Mapping[str, TaskKind | Mapping[str, Any] | None],
        path: str | None = None,
        root: str | None = None,
        download: Download | None = None,
        source: TableSource | None = None,
        columns: Sequence[str] | None = None,
        separator: str | None = None,
        join: Mapping[str, str] | None = None,
        part_files: Mapping[str, str] | None = None,
        sparse: Sequence[str] = (),
        dense: Sequence[str] = (),
        sequences: Mapping[str, Mapping[str, Any] | None] | None = None,
        share: Mapping[str, str] | None = None,
        histories: Mapping[str, Mapping[str, Any]] | None = None,
        group: str | None = None,
        min_count: Count = 1,
        buckets: Mapping[str, Count] | None = None,
        scale: ScaleKind | Mapping[str, ScaleKind] = "standard",
        dense_missing: Literal["mean", "indicator", "error"] = "mean",
        split: TableSplitName = "random",
        split_column: str | None = None,
        time_column: str | None = None,
        valid_fraction: Probability = 0.1,
        test_fraction: Probability = 0.1,
        split_seed: Index = 0,
        test_path: str | None = None,
        vocabulary: str | None = None,
        unseen: bool = False,
        memory_mb: Index = 4096,
        cache: str | None = None,
    ) -> None:
        """Reads, divides, numbers and scales, or takes what an earlier run prepared."""
        schema = read_schema(
            sparse, dense, sequences or {}, tasks, share or {}, histories or {}, group, time_column, split_column
        )
        fitting = read_fitting(schema, min_count, buckets or {}, scale, dense_missing)
        test_path = None if unseen else test_path
        how = TableSplit(split, valid_fraction, 0.0 if test_path else test_fraction, split_seed)
        how.refuse_contradictions(split_column, None if histories else time_column)
        recipe = Recipe(schema, fitting, how)
        if unseen and vocabulary is None:
            raise ConfigError("dataset.unseen=true is for rows to evaluate with what a run learned: dataset.vocabulary")
        if vocabulary is not None:
            recipe = recipe.knowing(Path(vocabulary))
        refuse_other_source(path, source, split)
        files = Where(path or "", root, None if columns is None else tuple(columns), separator, join, download)
        found = []
        if not (vocabulary and test_path):
            source = source or TableFiles(files, split == "provided", part_files, learning=vocabulary is None)
            whole = unseen and not how.is_stated
            recipe = recipe.to_evaluate(source.header(), source.location(-1)) if whole else recipe
            found.append(prepared(source, recipe, cache))
            recipe = replace(recipe, known=found[0].encoding)
            if whole:
                log.warning("all %d rows of %s are the test split", len(found[0].parts["test"]), source.location(-1))
        if test_path is not None:
            test = TableFiles(replace(files, path=test_path, download=None), learning=False)
            found.append(prepared(test, recipe.to_evaluate(test.header(), test.location(-1)), cache))
        self.evaluator, self.monitor = evaluator, evaluator.monitor or schema.first_metric()
        self._serve(schema, found, memory_mb, dense_missing == "indicator")

    def _serve(self, schema: TableSchema, found: Sequence[Prepared], memory_mb: int, indicator: bool) -> None:
        """The splits of one table, or the test split of a second one; into memory if they fit."""
        self._encoding = found[0].encoding
        self._parts = {**found[0].parts, "test": found[-1].parts["test"]}
        self._unit_ids = {"valid": partial(found[0].rows_of, VALID), "test": partial(found[-1].rows_of, TEST)}
        self._counts = {**found[0].counts, **found[-1].counts_of("test")}
        for message in odd_counts(self._counts):
            log.warning(message)
        prints = [one.fingerprint for one in found]
        fingerprint = prints[0] if len(found) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()
        self.fingerprints: Mapping[str, str] = {"dataset_fingerprint": fingerprint}
        self.resident = sum(part.nbytes for part in self._parts.values()) <= memory_mb * MB
        if self.resident:
            self._parts = {name: part.copy() for name, part in self._parts.items()}
        tasks = tuple(label.task for label in schema.labels)
        self.sizes: Mapping[str, Any] = {"features": features_of(schema, self._encoding, indicator), "tasks": tasks}

    def describe(self) -> dict[str, float]:
        """Rows of each split, rows of the table of ids, shares of unknown ids and of positive labels."""
        return {"n_ids": self.sizes["features"].n_ids, **self._counts}

    def train_size(self) -> int:
        """Rows of the training split."""
        return len(self._parts["train"])

    def train_batches(
        self, batch_size: int, rng: np.random.Generator, start: int = 0, stride: int = 1
    ) -> Iterator[Batch]:
        """All rows once: permuted where they are in memory, else as `recrun.data.tables.shuffle.windows` says."""
        rows = self._parts["train"]
        sizes = (len(rows), len(rows)) if self.resident else (WINDOW_ROWS, BLOCK_ROWS)
        for window in windows(len(rows), batch_size, *sizes, rng, start, stride):
            held = rows if self.resident else concat([rows.slice(begin, end) for begin, end in window.blocks.tolist()])
            rows.release()
            for positions in window.batches:
                yield batch_of(held.take(positions), without="group")

    def eval_size(self, split: Split) -> int:
        """Rows of a split; 0 if they have no labels."""
        rows = self._parts[split]
        return len(rows) if rows.flat["label"].shape[1] else 0

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The rows of a split in their order, `batch_size` at a time."""
        rows = self._parts[split]
        for begin in range(0, len(rows), batch_size):
            yield batch_of(rows.slice(begin, min(begin + batch_size, len(rows))).copy())
            rows.release()

    def units(self, split: Split) -> Ids:
        """Numbers of a split's rows among all that were read, from 1, in the order of `eval_batches`."""
        return self._unit_ids[split]()

    def vocabulary(self) -> dict[str, Ids]:
        """The rows of the table of ids, "column" or "column, tab, value", and how numbers are scaled."""
        return {"ids": self._encoding.ids, "dense": self._encoding.dense()}

    def entities(self, side: Side, split: Split) -> Iterator[tuple[Ids, Batch]]:
        """None: a row is neither a user nor an item."""
        return iter(())


def refuse_other_source(path: str | None, source: TableSource | None, split: str) -> None:
    """Raises ConfigError unless it is clear where the rows come from."""
    if source is None and not path:
        raise ConfigError("dataset.path is missing: the file or folder with the rows, dataset.path=clicks.csv")
    if source is not None and path:
        raise ConfigError("dataset.path does nothing with dataset.source; give one of the two")
    if source is not None and split == "provided":
        raise ConfigError("dataset.split=provided needs files that are split already, not dataset.source")


def odd_counts(counts: Mapping[str, float]) -> Iterator[str]:
    """Counts that are hardly meant: labels that are all alike, columns in which no id is known."""
    for name, share in counts.items():
        what, _, column = name.partition("/")
        part, _, kind = what.partition("_")
        if what == "train_positive" and share in (0, 1) and counts["train_rows"]:
            yield f"task {column}: all labels of the training split are {share:.0f}"
        if kind == "unknown" and share == 1:
            yield f"column {column}: no id of the {part} split is known (its training rows, dataset.min_count, decide)"


def features_of(schema: TableSchema, encoding: Encoding, indicator: bool) -> Features:
    """What a model needs to know of the columns."""

    def field(name: str) -> Field:
        vocabulary = encoding.of(schema.owner(name))
        return Field(name, vocabulary.first, vocabulary.size)

    missing = tuple(f"{name}_missing" for name in schema.dense if indicator)
    fields, sequences = (tuple(map(field, names)) for names in (schema.sparse, schema.sequence_names))
    return Features(fields, (*schema.dense, *missing), sequences)


def batch_of(rows: ColumnStore, without: str = "") -> Batch:
    """Tensors of rows; without labels where there are none."""
    import torch  # here, so that reading and describing data does not wait for it

    label = rows.flat["label"]
    arrays = {name: array for name, array in rows.flat.items() if name not in ("label", without)}
    for name, (offsets, entries) in rows.lists.items():
        arrays |= {name: entries, f"{name}_offsets": offsets}
    arrays |= {"label": label} if label.shape[1] else {}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
