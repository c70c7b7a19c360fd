"""A run directory as an object: what the commands read and do, as tables and modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.api.histories import history_table
from recrun.api.overrides import Overrides, words_of
from recrun.api.tables import embedding_frame, history_frame, metrics_frame, prediction_frame, unit_frame
from recrun.commands.options import refuse_training_keys
from recrun.config import stored
from recrun.config.validate import check
from recrun.errors import ConfigError, DataError
from recrun.experiments import directories
from recrun.runtime.run_files import read_json
from recrun.types import Side, Split

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from recrun.experiments.load import Loaded
    from recrun.interfaces import Dataset


class Run:
    """A run directory and what it holds. Made by `recrun.run` and `recrun.load`.

    Attributes:
        directory: Where it is; see docs/architecture.md for the files.
    """

    def __init__(self, directory: Path, tables: Sequence[Any]) -> None:
        self.directory = directory
        self._held = list(tables)  # for as long as this run is
        self._loaded_run: Loaded | None = None

    def __repr__(self) -> str:
        found = self._results()
        name = found.get("monitor")
        value = found.get("test", {}).get(name)
        return (
            f"<recrun.Run {self.directory}: {self.status}{f', test {name} {value:.4f}' if value is not None else ''}>"
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as nested plain values: `run.config["trainer"]["lr"]`.

        Raises:
            ConfigError: config.yaml is damaged.
        """
        return stored.load(self.directory)

    @property
    def status(self) -> str:
        """prepared, running, interrupted, failed or finished."""
        return directories.status(self.directory)

    @property
    def metrics(self) -> pd.DataFrame:
        """Metrics of the last stage's kept weights: a row per split (valid, test), a column per metric.

        `run.metrics.loc["test", "ndcg@100"]`. The values are those of results.json.
        """
        return metrics_frame({split: self._results().get(split) for split in ("valid", "test")}, "split")

    @property
    def stages(self) -> pd.DataFrame:
        """The same of every finished stage: a row per (stage, split)."""
        found = self._results().get("stages", {})
        rows = {(stage, split): values.get(split) for stage, values in found.items() for split in ("valid", "test")}
        return metrics_frame(rows, "stage", "split")

    @property
    def history(self) -> pd.DataFrame:
        """A row per evaluation: stage, epoch, step, split, metrics, mean losses since the last as `loss/<name>`."""
        from recrun.experiments.run_record import MetricsLog

        return history_frame(MetricsLog(self.directory).rows())

    def units(self, split: Split = "test", metric: str | None = None) -> pd.DataFrame:
        """One value per unit (user, session, impression, row): the index is the unit's id, each metric a column.

        Args:
            split: Whose units.
            metric: One metric alone; needed for those over groups of units of their own, such as group_auc of tables,
                which come with the column `weight`.

        Raises:
            ConfigError: There is no such metric.
            DataError: The run has no values for this split, or the file is damaged.
        """
        return unit_frame(self.directory / "units" / f"{split}.npz", metric)

    @property
    def model(self) -> nn.Module:
        """The model with the weights that the run kept, on the run's device.

        Raises:
            CheckpointError: No stage is finished.
            DataError: The data are not those of the training any more.
        """
        return self._loaded().model

    @property
    def dataset(self) -> Dataset:
        """The data set, as the model was trained on it; see recrun.interfaces.Dataset."""
        return self._loaded().dataset

    def evaluate(self, *overrides: Overrides) -> pd.DataFrame:
        """Evaluates the kept weights again, as `recrun evaluate` does: a row per split, a column per metric.

        Args:
            overrides: Changes, for example `"evaluator.ks=[5]"` or `{"dataset.path": other_table}`.

        Raises:
            ConfigError: An override is wrong, or changes what only training reads.
            DataError: There is nothing to evaluate.
        """
        from recrun.experiments import load

        config, loaded, _tables = self._with("evaluate", overrides)
        found = load.evaluate_loaded(self.directory, config, loaded)
        return metrics_frame({split: found.get(split) for split in ("valid", "test")}, "split")

    def predict(self, split: Split = "test", *overrides: Overrides, k: int | None = None) -> pd.DataFrame:
        """What `recrun predict` writes, as a table.

        Args:
            split: Whose units.
            overrides: Changes, for example `{"dataset.test_path": table}` for new data.
            k: Items of each unit, where a catalogue is ranked; the evaluator's largest cut-off by default.

        Returns:
            Catalogues: unit, item, rank (from 1), score, best first. News: impression (from 1), ranks (a list, of each
            candidate). Tables: row, and a column per task: the probability of a 1, or the value.

        Raises:
            ConfigError: An override is wrong.
            DataError: The split has nothing to predict for.
        """
        from recrun.experiments import predict

        config, loaded, _tables = self._with("predict", overrides)
        predict.refuse_k(config, k)
        return prediction_frame(predict.predictions(loaded, split, k), loaded.dataset)

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        k: int = 10,
        *,
        histories: Any = None,
        allow: Sequence[Any] | None = None,
        deny: Sequence[Any] = (),
        leave_out_seen: bool = True,
    ) -> pd.DataFrame:
        """The best items for users, known or new, given everything that they did.

        Args:
            users: Ids of users (or sessions) of the data, whose training, validation and test events are all shown to
                the model; None = the test units as `predict` shows them.
            k: Items of each.
            histories: Instead, of new users: a mapping of ids to items in order, or a table like the training data.
            allow: Ids of the only items that may be recommended; None = all.
            deny: Ids of items that may not be recommended.
            leave_out_seen: Whether a user's own items are left out.

        Returns:
            user, item, rank (from 1), score; best first. A user of whom fewer than `k` items are left has fewer rows.

        Raises:
            ConfigError: An id is unknown, or the model ranks no catalogue.
            CheckpointError: The model has a vector for each user it was trained on, and none for new ones.
        """
        import pandas as pd

        from recrun.experiments import recommend

        recommend.refuse_no_catalogue(self.config)
        if users is not None and histories is not None:
            raise ConfigError("recommend: give users or histories, not both")
        if type(k) is not int or k < 1:
            raise ConfigError(f"recommend: k={k}: expected a whole number, at least 1")
        overrides = (
            [] if histories is None else [{"dataset.test_path": history_table(histories, self.config["dataset"])}]
        )
        _, loaded, _tables = self._with("predict", overrides)
        columns = recommend.recommend(loaded, users, k, allow, deny, leave_out_seen)
        return pd.DataFrame(dict(zip(("user", "item", "rank", "score"), columns, strict=True)))

    def embed(self, side: Side = "item", split: Split = "test") -> pd.DataFrame:
        """Vectors of items, or of a split's users: the index is the id, the columns are the dimensions, float32.

        Raises:
            ConfigError: The model has none.
        """
        from recrun.experiments import predict

        predict.refuse_no_vectors(self.config, side)
        return embedding_frame(*predict.vectors(self._loaded(), side, split))

    def resume(self, epochs: int | None = None) -> Run:
        """Goes on exactly where the run stopped, or gives its last stage more epochs; returns itself.

        Args:
            epochs: Epochs of the last stage in all, more than it had; None = those of the config. A finished run can
                have more if it kept the state of its optimizer, `keep_state=last`.

        Raises:
            ConfigError: More epochs cannot be had, or config.yaml was edited.
            DataError: The data are not those that the run began with, or are not there.
        """
        if epochs is not None:
            from recrun.experiments import extend

            extend.extend(self.directory, [f"epochs={epochs}"])
            self.__dict__.pop("config", None)
        if self.status != "finished":
            check(stored.recompose(self.directory, []))
            directories.execute(self.directory)
            self._loaded_run = None
        return self

    def give(self, data: Any) -> Run:
        """Gives the tables in memory that the run was started with, and goes on holding them; returns itself.

        Args:
            data: The table, or a list of them.

        Raises:
            DataError: One is not what the run was started with.
        """
        from recrun.data.io.frames import hold, is_table
        from recrun.data.io.memory import PREFIX

        given = [hold(table) for table in ([data] if is_table(data) else data)]
        wanted = [text for text in texts_in(self.config["dataset"]) if text.startswith(PREFIX)]
        for table in given:
            if table.name not in wanted:
                raise DataError(
                    f"{self.directory} was not started with this table: it has the hash {table.name}, the run's "
                    f"dataset names {', '.join(wanted) or 'no table in memory'}"
                )
        return self.holding(*given)

    def holding(self, *needed: Any) -> Run:
        """Keeps objects alive as long as this run: tables in memory, the folder of an estimator; returns itself."""
        self._held += needed
        return self

    def _results(self) -> dict[str, Any]:
        try:
            return dict(read_json(self.directory / "results.json"))
        except FileNotFoundError:
            return {}

    def _loaded(self) -> Loaded:
        from recrun.experiments import load

        if self._loaded_run is None:
            stored.refuse_untrusted(self.config)
            self._loaded_run = load.load(self.directory, self.config)
        return self._loaded_run

    def _with(self, verb: str, overrides: Sequence[Overrides]) -> tuple[dict[str, Any], Loaded, list[Any]]:
        """The config with changes, what is loaded with it, and the tables that must be held meanwhile."""
        from recrun.experiments import load

        words, tables = words_of(overrides)
        if not words:
            return self.config, self._loaded(), tables
        refuse_training_keys(verb, words)
        composed = stored.recompose(self.directory, words)
        check(composed, training=False)
        return composed.config, load.load(self.directory, composed.config), tables


def texts_in(value: Any) -> list[str]:
    """All texts in a config."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in inner for text in texts_in(part)]
