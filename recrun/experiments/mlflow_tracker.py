"""Runs at MLflow: parameters, metrics of each evaluation, what was found, the report and the best weights."""

from __future__ import annotations

import fcntl
import importlib
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from recrun.errors import RecrunError
from recrun.experiments.run_record import RunRecord
from recrun.experiments.trackers import Row, scalars
from recrun.experiments.units_summary import units_summary

LONGEST = 500  # characters of a parameter's value
SQLITE = "sqlite:///"
AT_ONCE = 100  # parameters of a request
TAG = "recrun.directory"  # what a run at MLflow is found by, when its run directory is gone on with


class MLflow:
    """A run of an MLflow experiment, which a resumed run goes on with.

    Rows that a killed run had sent after its last checkpoint are sent again, with the same values at the same steps.

    Args:
        directory: The run's.
        config: The run's, whose keys are parameters.
        uri: Of a server, or of a database: sqlite:///mlflow.db. None = what MLFLOW_TRACKING_URI says.
        experiment: Where the run is listed.
        artifacts: Where the files of a new experiment go; None = where the server, or MLflow, wants them.

    Raises:
        RecrunError: The server or the database cannot be used.
    """

    package: ClassVar[str] = "mlflow"
    takes_files: ClassVar[bool] = True

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        uri: str | None = "sqlite:///mlflow.db",
        experiment: str = "recrun",
        artifacts: str | None = None,
    ) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.mlflow: Any = importlib.import_module("mlflow")
        self.directory, self.sent = directory, 0
        try:
            with one_at_a_time(uri):
                self.client = self.mlflow.MlflowClient(tracking_uri=uri)
                place = self.experiment(experiment, artifacts)
                self.id = self.earlier(place) or self.created(place, config)
            self.client.update_run(self.id, status="RUNNING")
        except Exception as error:  # MLflow's own, those of databases and of connections
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RecrunError(f"tracker=mlflow: {reason}\nset tracker.uri=…, or choose tracker=none") from None

    def experiment(self, name: str, artifacts: str | None) -> str:
        """The experiment's id; it is made if there is none. Another job of a sweep may make it at the same time."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, artifact_location=artifacts))
            except self.mlflow.exceptions.MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def earlier(self, experiment: str) -> str | None:
        """The run that an earlier attempt at this directory made; it is found by the time at which the run began."""
        wanted = f"tags.`{TAG}` = '{self.mark()}'"
        found = self.client.search_runs([experiment], filter_string=wanted, max_results=1)
        return str(found[0].info.run_id) if found else None

    def mark(self) -> str:
        """What tells a run directory from all others: where it is and when it began."""
        began = RunRecord(self.directory).values.get("start", "")
        return f"{self.directory.absolute()} {began}".replace("'", "")

    def created(self, experiment: str, config: Mapping[str, Any]) -> str:
        """A new run with its parameters; returns its id."""
        tags = {TAG: self.mark(), **{f"tag.{tag}": "true" for tag in config.get("tags") or ()}}
        name = config.get("name") or self.directory.name
        made = str(self.client.create_run(experiment, run_name=name, tags=tags).info.run_id)
        values = [self.mlflow.entities.Param(key, str(value)[:LONGEST]) for key, value in flat(config)]
        for at in range(0, len(values), AT_ONCE):
            self.client.log_batch(made, params=values[at : at + AT_ONCE])
        return made

    def append(self, row: Row) -> None:
        """Its values, by the steps of their stage."""
        self.send(scalars(row), row["step"])
        self.sent += 1

    def send(self, values: Mapping[str, float], step: int) -> None:
        """Metrics at a step."""
        now = int(time.time() * 1000)
        metric = self.mlflow.entities.Metric
        self.client.log_batch(
            self.id, metrics=[metric(metric_name(name), float(value), now, step) for name, value in values.items()]
        )

    def keep(self, rows: Sequence[Row]) -> None:
        """Sends those that this process has not sent."""
        for row in rows[self.sent :]:
            self.append(row)

    def finish(self, results: Mapping[str, Any]) -> None:
        """What the run found, as metrics without a stage; the summary of its units, and the weights of every stage."""
        for split in ("valid", "test"):
            self.send({f"{split}/{name}": value for name, value in results[split].items()}, 0)
        self.client.log_dict(self.id, units_summary(self.directory), "units_summary.json")
        for stage in results["stages"]:
            best = next(path for name in ("best", "last") if (path := self.directory / stage / name).is_dir())
            for path in sorted(best.glob("model.*")):
                self.client.log_artifact(self.id, str(path), f"{stage}/{best.name}")
        self.client.set_terminated(self.id, "FINISHED")

    def add_file(self, path: Path) -> None:
        """A file of the run, such as its report."""
        self.client.log_artifact(self.id, str(path))
        self.client.set_terminated(self.id, "FINISHED")

    def close(self) -> None:
        """A run that did not finish is one that was stopped, until it is gone on with."""
        if self.client.get_run(self.id).info.status == "RUNNING":
            self.client.set_terminated(self.id, "KILLED")


@contextmanager
def one_at_a_time(uri: str | None) -> Iterator[None]:
    """Holds a SQLite file while its tables are made: the first jobs of a sweep want that at the same time."""
    if uri is None or not uri.startswith(SQLITE):
        yield
        return
    with open(f"{uri.removeprefix(SQLITE)}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def metric_name(name: str) -> str:
    """A name that MLflow takes: letters, digits, _ - . space : and / alone, so `ndcg@10` is `ndcg_at_10`."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))


def flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a config with dotted keys."""
    for key, value in config.items():
        name = f"{path}.{key}".lstrip(".")
        if isinstance(value, Mapping) and value:
            yield from flat(value, name)
        else:
            yield re.sub(r"[^\w\-. :/]", "_", name), value
