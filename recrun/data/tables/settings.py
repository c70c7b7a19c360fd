"""Every key of the group `dataset` for tables, by what it is about: rows, columns, what is learned, the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recrun.data.io.download import Download
from recrun.data.tables.encoding import ScaleKind
from recrun.data.tables.files import TableFiles, Where
from recrun.data.tables.schema import TableSchema, TaskKind, read_schema
from recrun.data.tables.source import TableSource
from recrun.data.tables.spec import Fitting, Recipe, read_fitting
from recrun.data.tables.split import TableSplit, TableSplitName
from recrun.errors import ConfigError
from recrun.types import Count, Index, Probability


@dataclass(kw_only=True)
class RowSettings:
    """Where rows come from.

    Attributes:
        path: A file or a folder (see recrun.data.tables.files); relative to `root`, else to the working directory.
        root: The data folder.
        download: Where the file can be had if it is absent.
        source: Gives the rows instead of `path`.
        columns: Names of the columns of a text file without a header line.
        separator: Of a text file; None = as the ending or the first line has it.
        join: Files with a row for each value of a column, {user_id: users.csv}: their columns are put beside the rows.
        part_files: File names of the splits for split=provided; None = train, valid, test with a known ending.
        test_path: A file whose rows replace the test split; to predict, it needs no labels. Then
            `test_fraction` does nothing: the rows of `path` are for training and validation.
        run_vocabulary: The `vocabulary` folder of a run: ids and scales are taken from it, not learned. With
            `test_path` nothing else is read.
        unseen: Whether the rows are others than those of that run: then all are for testing, as those of `test_path`,
            which does nothing, unless split=column or provided says what each is for.
    """

    path: str | None = None
    root: str | None = None
    download: Download | None = None
    source: TableSource | None = None
    columns: Sequence[str] | None = None
    separator: str | None = None
    join: Mapping[str, str] | None = None
    part_files: Mapping[str, str] | None = None
    test_path: str | None = None
    run_vocabulary: str | None = None
    unseen: bool = False

    def rows(self, provided: bool) -> TableSource:
        """The source that was given, or files.

        Args:
            provided: Whether the files say how the rows are split.
        """
        if self.source is not None:
            return self.source
        return TableFiles(self._where(), provided, self.part_files, learning=self.run_vocabulary is None)

    def refuse_unclear_source(self, provided: bool) -> None:
        """Raises ConfigError unless it is clear where the rows come from."""
        if self.source is None and not self.path:
            raise ConfigError("dataset.path is missing: the file or folder with the rows, dataset.path=clicks.csv")
        if self.source is not None and self.path:
            raise ConfigError("dataset.path does nothing with dataset.source; give one of the two")
        if self.source is not None and provided:
            raise ConfigError("dataset.split=provided needs files that are split already, not dataset.source")

    def other_rows(self, path: str) -> TableFiles:
        """Rows to evaluate or to predict, in files that look like those of `path`."""
        return TableFiles(self._where(path, download=None), learning=False)

    def _where(self, path: str | None = None, **changes: Any) -> Where:
        keys = {"root": self.root, "separator": self.separator, "join": self.join, "download": self.download}
        columns = None if self.columns is None else tuple(self.columns)
        return Where(path or self.path or "", columns=columns, **{**keys, **changes})


@dataclass(kw_only=True)
class ColumnSettings:
    """What the columns are.

    Attributes:
        tasks: What to predict: {click: classification, rating: regression}, or how a label of 0 and 1 comes from a
            column: {like: {column: rating, at_least: 4}, rich: {column: income, equals: "50000+"}}.
        sparse: Columns with one id a row.
        dense: Columns of numbers.
        sequences: Columns with several ids a row, {genres: {separator: "|", max_length: 50}}; the last are kept.
        share: Columns that number their ids as another one does, {history: item_id}.
        histories: Sequences made of the training rows before each row, {liked: {of: item_id, by: user_id, where: like,
            max_length: 50}}: the items, in order of `time_column` or of the rows, of the same user, with label 1 of
            the task `where` and 0 of the task `unless`. A file of `test_path` has them as columns, divided by "|".
        group: The column that group_auc groups by.
        split_column: The column that split=column reads.
        time_column: The column that orders rows, for split=temporal and histories.
    """

    tasks: Mapping[str, TaskKind | Mapping[str, Any] | None]
    sparse: Sequence[str] = ()
    dense: Sequence[str] = ()
    sequences: Mapping[str, Mapping[str, Any] | None] | None = None
    share: Mapping[str, str] | None = None
    histories: Mapping[str, Mapping[str, Any]] | None = None
    group: str | None = None
    split_column: str | None = None
    time_column: str | None = None

    def schema(self) -> TableSchema:
        """The columns, checked against each other."""
        mappings = (self.sequences or {}, self.tasks, self.share or {}, self.histories or {})
        return read_schema(self.sparse, self.dense, *mappings, self.group, self.time_column, self.split_column)


@dataclass(kw_only=True)
class LearnedSettings:
    """What is learned from the training split.

    Attributes:
        min_count: Occurrences in the training split that an id needs to be known.
        buckets: Columns whose ids are hashed, and into how many rows.
        scale: Of all numbers, or by column, the others standard. standard: mean 0, deviation 1; log: the same of
            sign(x) log(1 + |x|); minmax: 0 to 1; none: as they are.
        dense_missing: What an empty number is: the training mean; the mean, and an input `name_missing`; or an error.
    """

    min_count: Count = 1
    buckets: Mapping[str, Count] | None = None
    scale: ScaleKind | Mapping[str, ScaleKind] = "standard"
    dense_missing: Literal["mean", "indicator", "error"] = "mean"

    def fitting(self, schema: TableSchema) -> Fitting:
        """What is learned of some columns."""
        return read_fitting(schema, self.min_count, self.buckets or {}, self.scale, self.dense_missing)


@dataclass(kw_only=True)
class SplitSettings:
    """How rows become train, valid and test.

    Attributes:
        split: random: by `numpy.random.default_rng(split_seed).permutation`: first train, then valid, then test.
            temporal: the last `test_fraction` of the rows, by `time_column` or as they come; before, the
            `valid_fraction`. column: `split_column` says train, valid or test. provided: `path` is a folder with a file
            for train and, if there are, for valid and test. Where the last two have no validation rows,
            `valid_fraction` of the training rows are drawn for it.
        valid_fraction, test_fraction: Shares of the rows.
        split_seed: Of the draw; apart from the run's seed.
    """

    split: TableSplitName = "random"
    valid_fraction: Probability = 0.1
    test_fraction: Probability = 0.1
    split_seed: Index = 0


@dataclass(kw_only=True)
class TableSettings(RowSettings, ColumnSettings, LearnedSettings, SplitSettings):
    """All keys of a table.

    Attributes:
        memory_mb: Larger tables stay on the disk; an epoch then permutes blocks of rows, see `windows`.
        cache: Folder of prepared data; None = none.
    """

    memory_mb: Index = 4096
    cache: str | None = None

    def recipe(self) -> Recipe:
        """What is made of the rows.

        Raises:
            ConfigError: Settings contradict each other.
            CheckpointError: `run_vocabulary` is not one of these columns.
        """
        schema = self.schema()
        replaced = self.test_path is not None and not self.unseen
        test_fraction = 0.0 if replaced else self.test_fraction
        how = TableSplit(self.split, self.valid_fraction, test_fraction, self.split_seed)
        how.refuse_contradictions(self.split_column, None if self.histories else self.time_column)
        recipe = Recipe(schema, self.fitting(schema), how)
        if self.unseen and self.run_vocabulary is None:
            raise ConfigError(
                "dataset.unseen=true is for rows to evaluate with what a run learned: dataset.run_vocabulary"
            )
        if self.run_vocabulary is not None:
            recipe = recipe.knowing(Path(self.run_vocabulary))
        self.refuse_unclear_source(provided=self.split == "provided")
        return recipe
