"""Sweeps and searches from Python: what `recrun -m …` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.api.overrides import Overrides, several, words_of
from recrun.api.run import Run
from recrun.config import local_code, schema, stored
from recrun.config.composition import key_of
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories
from recrun.runtime.run_files import read_json, refuse_links

if TYPE_CHECKING:
    import pandas as pd


def sweep(
    *overrides: Overrides, over: Mapping[str, Any] | None = None, data: Any = None, fail_fast: bool = False
) -> Sweep:
    """Runs every combination of several values: what `recrun -m model=ease,popularity seed=0,1` does.

    All jobs are checked before the first one starts. They run in this process unless a `launcher` is chosen.

    Args:
        overrides: As of `recrun.run`, the same for all jobs; words may hold several values, `"seed=0,1"`.
        over: The values to try of each key, `{"model": ["ease", "ract"], "seed": range(3)}`.
        data: As of `recrun.run`.
        fail_fast: Whether the first failure stops all.

    Raises:
        ConfigError: A job cannot work; nothing was written.
        RecrunError: Jobs failed; `recrun.Sweep(directory)` has those that did not, and resumes.
        KeyboardInterrupt: It was asked to stop; `recrun.Sweep(directory).resume()` goes on.
    """
    return carried_out(overrides, several(over or {}), data, fail_fast)


def search(
    *overrides: Overrides,
    space: Mapping[str, Any] | None = None,
    sampler: str = "tpe",
    trials: int | None = None,
    data: Any = None,
    fail_fast: bool = False,
) -> Sweep:
    """Looks for good hyperparameters: what `recrun -m search=tpe 'trainer.lr=tag(log,interval(1e-4,1e-2))'` does.

    Args:
        overrides: As of `recrun.run`, the same for all trials; words may hold ranges.
        space: What is searched of each key: a list of choices, or a text in the grammar of the command line,
            `{"trainer.lr": "tag(log,interval(1e-4,1e-2))", "model.latent_dimension": [64, 200]}`.
        sampler: An option of the group `search`: tpe, random, gp, cmaes, qmc.
        trials: How many; the sampler's own number by default.
        data: As of `recrun.run`.
        fail_fast: Whether the first failure stops all.

    Returns:
        A sweep whose jobs are the trials; `best` says which validation chose.

    Raises:
        ConfigError: The space, or a trial in it, cannot work; nothing was written.
        RecrunError: Trials failed; `recrun.Sweep(directory)` has those that did not, and resumes.
        KeyboardInterrupt: It was asked to stop; `recrun.Sweep(directory).resume()` goes on.
    """
    words = [f"search={sampler}", *([] if trials is None else [f"search.trials={trials}"])]
    return carried_out(overrides, [*words, *several(space or {}, searched=True)], data, fail_fast)


def carried_out(overrides: Sequence[Overrides], more: Sequence[str], data: Any, fail_fast: bool) -> Sweep:
    """A sweep or a search, from its words to its end."""
    words, tables = words_of([*overrides, *more], data)
    local_code.install()
    schema.forget()
    from recrun.experiments import sweep as sweeps

    refuse_launcher(words, tables)
    planned = sweeps.prepare(words)
    assert planned is not None  # it is where nothing is to be written
    directory, folders = planned
    found = Sweep(directory, tables)
    ended(directory, sweeps.carry_out(directory, fail_fast=fail_fast, folders=folders))
    return found


def refuse_launcher(words: Sequence[str], tables: Sequence[Any]) -> None:
    """Raises ConfigError for jobs in processes that do not have a table in memory."""
    chosen = [word for word in words if key_of(word) == "launcher" and word != "launcher=serial"]
    if tables and chosen:
        raise ConfigError(f"{chosen[0]} starts processes, which do not have a table in memory: give the data as a file")


class Sweep:
    """The directory of a sweep or a search.

    Args:
        directory: Where it is.
        tables: Held as long as this object; see `recrun.run`.

    Raises:
        ConfigError: It is no sweep.
    """

    def __init__(self, directory: str | Path, tables: Sequence[Any] = ()) -> None:
        self.directory = Path(directory)
        if not (self.directory / "sweep.json").is_file():
            raise ConfigError(f"{self.directory} is not the directory of a sweep: it has no sweep.json")
        refuse_links(self.directory)
        self._tables = list(tables)

    def __repr__(self) -> str:
        return f"<recrun.Sweep {self.directory}: {len(self.runs)} jobs>"

    @property
    def runs(self) -> list[Run]:
        """The run of each job that was prepared, by number."""
        from recrun.experiments import sweep_plan

        jobs = sweep_plan.read(self.directory).jobs
        folders = [self.directory / job.directory for job in jobs]
        return [Run(folder, self._tables) for folder in folders if (folder / "config.yaml").is_file()]

    @property
    def table(self) -> pd.DataFrame:
        """A row per job: job, changes (the overrides that differ), status, and metrics as "test ndcg@10"."""
        import pandas as pd

        rows = []
        for job in self._results()["jobs"]:
            metrics = {f"{split} {name}": value for split in ("valid", "test") for name, value in job[split].items()}
            rows.append({**{key: job[key] for key in ("job", "changes", "status")}, **metrics})
        return pd.DataFrame(rows)

    @property
    def over_seeds(self) -> pd.DataFrame:
        """A row per setting, metric and split: mean, standard deviation (n - 1), ends of the 95 % interval, seeds."""
        import pandas as pd

        rows = [
            {
                "changes": setting["changes"],
                "split": split,
                "metric": name,
                "mean": mean,
                "sd": setting[split]["sd"][name],
                "low": setting[split]["interval"][name][0],
                "high": setting[split]["interval"][name][1],
                "seeds": len(setting["jobs"]),
            }
            for setting in self._results()["over_seeds"]
            for split in ("valid", "test")
            for name, mean in setting[split]["mean"].items()
        ]
        return pd.DataFrame(rows)

    @property
    def best(self) -> dict[str, Any] | None:
        """What validation chose: changes, jobs, monitor, and its value on valid and test; None if nothing did."""
        found: dict[str, Any] | None = self._results()["best"]
        return found

    def resume(self, *, trust: bool = False, plugins: Sequence[str] = (), fail_fast: bool = False) -> Sweep:
        """Runs the jobs that are not finished; returns itself.

        Args:
            trust, plugins: See `recrun.load`.
            fail_fast: Whether the first failure stops all.

        Raises:
            RecrunError: Jobs failed again.
            KeyboardInterrupt: It was asked to stop.
        """
        from recrun.experiments import sweep as sweeps

        local_code.install()
        stored.trust(self.directory, plugins, everything=trust)
        ended(self.directory, sweeps.carry_out(self.directory, fail_fast=fail_fast))
        return self

    def _results(self) -> dict[str, Any]:
        try:
            return dict(read_json(self.directory / "results.json"))
        except FileNotFoundError:
            raise ConfigError(f"{self.directory} has no results yet: recrun.Sweep(…).resume() goes on") from None


def ended(directory: Path, code: int) -> None:
    """Raises for a sweep that did not end well; what went wrong with each job was said on stderr."""
    if code == directories.INTERRUPTED:
        raise KeyboardInterrupt(f"interrupted; go on with recrun.Sweep({str(directory)!r}).resume()")
    if code:
        raise RecrunError(f"not all jobs finished; recrun.Sweep({str(directory)!r}).resume() tries them again")
