"""Commands that train: a run, a sweep, and what goes on with them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from recrun.commands.options import opened
from recrun.console import report, tables
from recrun.errors import ConfigError, did_you_mean

INSPECT = ("--cfg", "-c", "--resolve", "--package", "-p", "--info", "-i", "--shell-completion", "-sc", "--hydra-help")
SWEEP_FLAGS = ("--multirun", "--dry-run", "--fail-fast")
FLAGS = ("--help", "--version", *SWEEP_FLAGS, "--config-dir", *(flag for flag in INSPECT if flag.startswith("--")))


def train(words: list[str]) -> int:
    """No verb: a run, a sweep, or a look at the config."""
    flags, overrides, extra = split_words(words)
    from recrun.config.search_path import search_path

    folders = search_path(extra)
    if any(flag in INSPECT for flag in flags):
        return inspect(flags, overrides, folders)
    if flags:
        if "--multirun" not in flags:
            raise ConfigError(f"{flags[0]} is for the jobs of a sweep: recrun -m {flags[0]} …")
        from recrun.experiments import sweep

        return sweep.start(overrides, folders, dry_run="--dry-run" in flags, fail_fast="--fail-fast" in flags)
    from recrun.config.compose import compose
    from recrun.config.composition import key_of
    from recrun.config.hints import override_notes
    from recrun.config.validate import check
    from recrun.experiments import directories

    for word in overrides:
        if key_of(word).partition(".")[0] in ("launcher", "search", "pruner"):
            raise ConfigError(f"{word} is for the jobs of a sweep: recrun -m …")
    composed = compose(overrides, folders)
    check(composed)
    for note in override_notes(composed):
        report.note(note)
    return carry_out(directories.prepare(composed), checked=True)


def split_words(words: list[str]) -> tuple[list[str], list[str], Path | None]:
    """Flags with their values, overrides, and the folder of --config-dir."""
    flags: list[str] = []
    overrides: list[str] = []
    extra: Path | None = None
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            extra = Path(value if has_value else next(rest, "") or "(none given)")
        elif name in ("-m", *SWEEP_FLAGS):
            flags.append("--multirun" if name == "-m" else name)
        elif name in INSPECT:
            takes_value = name not in ("--resolve", "--hydra-help") and not has_value
            following = next(rest, None) if takes_value else None
            flags += [word] if following is None else [word, following]
        elif word.startswith("-"):
            raise ConfigError(f"unknown option {word}{did_you_mean(name, FLAGS)} (recrun --help lists them)")
        else:
            overrides.append(word)
    return flags, overrides, extra


def more_epochs(directory: Path) -> str:
    """How a finished run gets more epochs."""
    if any(directory.glob("*/last/state.pt")):
        return f"for more epochs: recrun resume {directory} epochs=N"
    return f"for more epochs, a new run with pre_model_path={directory} (with keep_state=last a run can be extended)"


def carry_out(directory: Path, checked: bool = False) -> int:
    """Runs a prepared directory and says how it ended; `checked` as in `recrun.experiments.directories.attempt`."""
    from recrun.experiments import directories

    outcome = directories.attempt(directory, checked)
    if outcome.out_of_time:
        report.note(f"stopped, {outcome.error}; go on with: recrun resume {directory}")
    elif outcome.code == directories.INTERRUPTED:
        report.note(f"interrupted{': ' if outcome.error else ''}{outcome.error}; go on with: recrun resume {directory}")
    elif outcome.pruned:
        report.note(outcome.pruned)
    elif outcome.results is None:
        report.error(outcome.error)
    else:
        tables.results_table(outcome.results, directory)
    return outcome.code


def inspect(flags: list[str], overrides: list[str], folders: Sequence[Path]) -> int:
    """Hands Hydra what only looks at the config."""
    import hydra

    from recrun.config.compose import prepare_hydra
    from recrun.config.search_path import conf_dir

    prepare_hydra(folders)
    # A dotted key may be one that no YAML file mentions: Hydra takes it only with ++.
    dotted = [word if not is_dotted(word) else f"++{word.lstrip('+')}" for word in overrides]
    before, root = sys.argv, logging.getLogger()
    handlers, level = list(root.handlers), root.level  # Hydra sets up logging as its own
    sys.argv = ["recrun", *flags, *dotted]
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(lambda config: None)()
    except SystemExit as error:
        return 2 if error.code else 0
    finally:
        sys.argv = before
        root.handlers[:] = handlers
        root.setLevel(level)
    return 0


def is_dotted(word: str) -> bool:
    """Whether an override sets a value below the top of our config."""
    key = word.partition("=")[0]
    return "." in key and "/" not in key and not key.lstrip("+").startswith(("hydra.", "~"))


def resume(words: list[str]) -> int:
    """`resume RUN [epochs=N]`: a run or a sweep that was interrupted or failed, or a run that gets more epochs."""
    directory, words = opened("resume", words)
    fail_fast = "--fail-fast" in words
    words = [word for word in words if word != "--fail-fast"]
    if words:
        from recrun.experiments import extend

        extend.extend(directory, words)
    if (directory / "sweep.json").is_file():
        from recrun.experiments import sweep

        return sweep.carry_out(directory, fail_fast=fail_fast)
    from recrun.experiments import directories

    if directories.status(directory) == "finished":
        report.text(f"{directory} is finished: nothing to resume; {more_epochs(directory)}")
        return 0
    return carry_out(directory)
