"""The errors that are written for the person at the terminal.

Every message says what was wrong, where (file and line, or config key), what is allowed and what to do.
The command line prints the message alone, without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class RecrunError(Exception):
    """Base of the errors whose message alone is enough; the command line exits with 1."""

    exit_code = 1


class ConfigError(RecrunError):
    """Wrong usage or a wrong config, found before any time is spent; the command line exits with 2."""

    exit_code = 2


class DataError(RecrunError):
    """Input data that cannot be used as they are; the message names the file and, where there is one, the line."""


class MissingFile(DataError, FileNotFoundError):
    """A file of a run directory that is not there."""


class CheckpointError(RecrunError):
    """A checkpoint that cannot be read, or does not fit this run."""


class InUse(RecrunError):
    """Another process holds a run or a sweep."""


class Interrupted(Exception):
    """The run was asked to stop (SIGINT or SIGTERM); its state is saved and it can be resumed."""


class OutOfTime(Interrupted):
    """The run has used up its `time_limit`; its state is saved and it can be resumed."""


class Pruned(RecrunError):
    """A search stopped a trial that was worse than others; its metrics are kept. Not a failure."""

    exit_code = 0


class Diverged(RecrunError):
    """The loss became NaN or infinite."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Names the nearest of `words`, whatever their case, as the end of an error; empty if none is near."""
    import difflib

    by_lower = {other.lower(): other for other in words}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""
