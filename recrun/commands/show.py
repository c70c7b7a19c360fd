"""Commands that show something and change nothing."""

from __future__ import annotations

from recrun import __version__
from recrun.console import report, usage
from recrun.errors import ConfigError


def compare(words: list[str]) -> int:
    """`compare RUN|SWEEP … [options]`: settings over seeds, with tests and intervals."""
    from recrun.experiments.compare import command

    return command.run(words)


def show_list(words: list[str]) -> int:
    """`list [WHAT]`: what there is, with a line each; `list runs` with options: filtered, sorted, as CSV."""
    if words[:1] == ["runs"] and any(word.startswith("--") for word in words):
        from recrun.experiments import run_table

        return run_table.run(words[1:])
    from recrun.config import listing

    return listing.show(words)


def describe(words: list[str]) -> int:
    """`describe [overrides]`: what a data set and its split hold, without training."""
    from recrun.config.compose import compose
    from recrun.config.validate import check

    composed = compose(words)
    check(composed, training=False)
    from recrun.experiments.describe import describe as sections

    for title, lines in sections(composed.config):
        report.listing(title, lines)
    return 0


def explain(words: list[str]) -> int:
    """`explain KEY [overrides]`: a key's meaning, type, default, and where its value comes from."""
    if not words:
        raise ConfigError("explain needs a key: recrun explain trainer.lr")
    from recrun.config import explain
    from recrun.config.compose import compose

    report.listing(*explain.explain(words[0], compose(words[1:])))
    return 0


def show_help(first: str) -> int:
    """Usage: of a verb, or of the program with the options of each group."""
    from recrun.config import listing

    if first in usage.VERBS:
        report.text(usage.VERBS[first])
    else:
        report.text(usage.USAGE.format(version=__version__, groups=listing.groups_in_short()))
    return 0
