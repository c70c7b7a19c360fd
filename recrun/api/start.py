"""Runs from Python: the same composition, checks, loop and files as the command's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.api.overrides import Overrides, words_of
from recrun.api.run import Run
from recrun.commands.options import run_directory
from recrun.config import local_code, schema, stored
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.experiments import directories
from recrun.runtime.run_files import refuse_links


def run(*overrides: Overrides, data: Any = None) -> Run:
    """Trains and evaluates: what `recrun key=value …` does, in this process.

    Args:
        overrides: Words as on the command line, `"model=ease"`, and mappings, `{"model": "ease", "trainer.lr": 0.01}`,
            in any number; a later one wins. A mapping's value may be a table where the config has a file.
        data: A table of events (or rows, with a `dataset` of the kind table) instead of files: a pandas or polars
            DataFrame, a structured numpy array, an array [events, 2] of users and items, a scipy sparse matrix
            [users, items], or a mapping of names to arrays. Columns are recognised by the names that files have. A
            table and a file of it have the same fingerprints.

    Returns:
        The finished run.

    Raises:
        ConfigError: The config is wrong; nothing was written.
        DataError: The data cannot be used.
        RecrunError: The run failed, for the reason that the message gives.
        KeyboardInterrupt: It was asked to stop; it is saved, and `recrun.load(directory).resume()` goes on.
    """
    words, tables = words_of(overrides, data)
    local_code.install()
    schema.forget()
    composed = compose(words)
    check(composed)
    refuse_processes(composed.config, tables)
    directory = directories.prepare(composed)
    directories.execute(directory)
    return Run(directory, tables)


def load(path: str | Path, data: Any = None, *, trust: bool = False, plugins: Sequence[str] = ()) -> Run:
    """A run that was made before, finished or not, by the command or from Python.

    A run directory is data: what it names is checked before anything is made of it, and nothing in it is executed.

    Args:
        path: The run directory.
        data: The table, or the list of tables, that the run was started with, if they were in memory.
        trust: Whether classes may be made that the run names and that are not installed; see `recrun resume --trust`.
        plugins: Packages whose classes the run may name.

    Raises:
        ConfigError: It is no run directory, or names what it may not name.
        DataError: `data` is not what the run was started with.
    """
    directory = run_directory("load", [str(path)])
    refuse_links(directory)
    local_code.install()
    stored.trust(directory, plugins, everything=trust)
    found = Run(directory, [])
    found.config  # noqa: B018  # damaged ones are refused here
    if data is not None:
        found.give(data)
    return found


def refuse_processes(config: Mapping[str, Any], tables: Sequence[Any]) -> None:
    """Raises ConfigError for a run with tables in memory and processes that do not have them."""
    if tables and config["devices"] > 1:
        raise ConfigError("devices>1 starts processes, which do not have a table in memory: give the data as a file")
