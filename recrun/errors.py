"""The errors that are written for the person at the terminal.

Every message says what was wrong, where (file and line, or config key), what is allowed and what to do.
The command line prints the message alone, without a traceback.
"""


class RecrunError(Exception):
    """Base of the errors whose message alone is enough; the command line exits with 1."""

    exit_code = 1


class ConfigError(RecrunError):
    """Wrong usage or a wrong config, found before any time is spent; the command line exits with 2."""

    exit_code = 2


class DataError(RecrunError):
    """Input data that cannot be used as they are; the message names the file and, where there is one, the line."""


class CheckpointError(RecrunError):
    """A checkpoint that cannot be read, or does not fit this run."""
