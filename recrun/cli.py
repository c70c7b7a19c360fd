"""The command line. What only looks is answered without Hydra; nothing here waits for torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recrun import __version__
from recrun.commands import cleaning, estimating, exchange, new, reporting, show, stored, train
from recrun.config import local_code
from recrun.console import report
from recrun.errors import ConfigError, RecrunError, did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (sys.argv by default) and returns the exit code: 0, 1, 2 or 130."""
    words = list(sys.argv[1:] if argv is None else argv)
    local_code.install()
    try:
        return command(words)
    except RecrunError as error:
        report.error(str(error))
        return error.exit_code
    except BrokenPipeError:  # `recrun list | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit
        return 1
    except KeyboardInterrupt:
        report.note("interrupted")
        return 130
    except Exception as error:
        from recrun.experiments import directories

        directory = next((Path(word) for word in words[1:2] if (Path(word) / "config.yaml").is_file()), None)
        report.error(directories.log_traceback(error, directory))
        return 1


def command(words: list[str]) -> int:
    """Finds out what is wanted and does it."""
    if "-h" in words or "--help" in words:
        return show.show_help(words[0])
    if "--version" in words:
        report.text(f"recrun {__version__}")
        return 0
    verbs: dict[str, Callable[[list[str]], int]] = {
        "resume": train.resume,
        "evaluate": stored.evaluate,
        "predict": stored.predict,
        "embed": stored.embed,
        "split": exchange.split,
        "compare": show.compare,
        "report": reporting.write_report,
        "clean": cleaning.clean,
        "list": show.show_list,
        "describe": show.describe,
        "estimate": estimating.estimate,
        "explain": show.explain,
        "new": new.new,
    }
    if words and not words[0].startswith(("-", "~")) and "=" not in words[0]:
        if words[0] not in verbs:
            raise ConfigError(unknown_command(words[0], list(verbs)))
        return verbs[words[0]](words[1:])
    return train.train(words)


def unknown_command(word: str, verbs: Sequence[str]) -> str:
    """What to say of a first word that is no command; a model's or another option's name gets its group."""
    from recrun.config.search_path import GROUPS, options, search_path

    hint = did_you_mean(word, verbs)
    groups = [group for group in GROUPS if word in options(group, search_path())]
    hint = f"; did you mean {groups[0]}={word}?" if groups else hint
    return f"unknown command '{word}'{hint}\ncommands: {', '.join(verbs)}; without a command, recrun trains"
