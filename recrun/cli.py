"""The command line. Commands that only read avoid Hydra; nothing here imports torch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recrun import __version__
from recrun.config import local_code
from recrun.console import report, tables, usage
from recrun.errors import ConfigError, RecrunError, did_you_mean
from recrun.types import Split

INSPECT = ("--cfg", "-c", "--resolve", "--package", "-p", "--info", "-i", "--shell-completion", "-sc", "--hydra-help")
TRAINING = (
    *("trainer", "stage", "objective", "weighting", "optimizer", "scheduler", "tracker"),
    *("seed", "epochs", "devices", "pre_model_path", "output_dir"),
)  # keys that change nothing once weights are stored
FLAGS = ("--help", "--version", "--multirun", "--config-dir", *(flag for flag in INSPECT if flag.startswith("--")))


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
        return show_help(words[0])
    if "--version" in words:
        report.text(f"recrun {__version__}")
        return 0
    verbs: dict[str, Callable[[list[str]], int]] = {
        "resume": resume,
        "evaluate": evaluate,
        "predict": predict,
        "embed": embed,
        "compare": compare,
        "list": show_list,
        "describe": describe,
        "explain": explain,
    }
    if words and not words[0].startswith(("-", "~")) and "=" not in words[0]:
        if words[0] not in verbs:
            raise ConfigError(unknown_command(words[0], list(verbs)))
        return verbs[words[0]](words[1:])
    return train(words)


def unknown_command(word: str, verbs: Sequence[str]) -> str:
    """What to say of a first word that is no command; a model's or another option's name gets its group."""
    from recrun.config.search_path import GROUPS, options, search_path

    hint = did_you_mean(word, verbs)
    groups = [group for group in GROUPS if word in options(group, search_path())]
    hint = f"; did you mean {groups[0]}={word}?" if groups else hint
    return f"unknown command '{word}'{hint}\ncommands: {', '.join(verbs)}; without a command, recrun trains"


def train(words: list[str]) -> int:
    """No verb: a run, a sweep, or a look at the config."""
    flags, overrides, extra = split_words(words)
    from recrun.config.search_path import search_path

    folders = search_path(extra)
    if any(flag in INSPECT for flag in flags):
        return inspect(flags, overrides, folders)
    if flags:
        from recrun.experiments import sweep

        return sweep.start(overrides, folders)
    from recrun.config.compose import compose
    from recrun.config.hints import override_notes
    from recrun.config.validate import check
    from recrun.experiments import directories

    composed = compose(overrides, folders)
    check(composed)
    for note in override_notes(composed):
        report.note(note)
    return carry_out(directories.prepare(composed))


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
        elif name in ("-m", "--multirun"):
            flags.append("--multirun")
        elif name in INSPECT:
            takes_value = name not in ("--resolve", "--hydra-help") and not has_value
            following = next(rest, None) if takes_value else None
            flags += [word] if following is None else [word, following]
        elif word.startswith("-"):
            raise ConfigError(f"unknown option {word}{did_you_mean(name, FLAGS)} (recrun --help lists them)")
        else:
            overrides.append(word)
    return flags, overrides, extra


def carry_out(directory: Path) -> int:
    """Runs a prepared directory and says how it ended."""
    from recrun.experiments import directories

    outcome = directories.attempt(directory)
    if outcome.code == directories.INTERRUPTED:
        report.note(f"interrupted{': ' if outcome.error else ''}{outcome.error}; go on with: recrun resume {directory}")
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
    if words:
        from recrun.experiments import extend

        extend.extend(directory, words)
    if (directory / "sweep.json").is_file():
        from recrun.experiments import sweep

        return sweep.carry_out(directory)
    from recrun.experiments import directories

    if directories.status(directory) == "finished":
        report.text(f"{directory} is finished: nothing to resume; for more epochs: recrun resume {directory} epochs=N")
        return 0
    return carry_out(directory)


def evaluate(words: list[str]) -> int:
    """`evaluate RUN [overrides]`: the stored weights, evaluated again."""
    directory, words = opened("evaluate", words)
    from recrun.config.stored import recompose
    from recrun.config.validate import check

    refuse_training_keys("evaluate", words)
    composed = recompose(directory, words)
    check(composed, training=False)
    from recrun.experiments import load

    report.evaluation(load.evaluate(directory, composed.config))
    return 0


def predict(words: list[str]) -> int:
    """`predict RUN --output FILE [--k K] [--split SPLIT] [--input PATH] [overrides]`: what the weights predict."""
    directory, words = opened("predict", words)
    values, overrides = named_values("predict", words, ("--output", "--split", "--input", "--session", "--k"))
    if "--session" in values:
        return predict_next(directory, values, overrides)
    output, split = Path(needed(values, "--output", "predict")), split_named(values)
    from recrun.config.stored import recompose
    from recrun.config.validate import check

    refuse_training_keys("predict", overrides)
    if "--input" in values:
        overrides.append(f"{input_key(recompose(directory, overrides).config)}={Path(values['--input']).absolute()}")
    composed = recompose(directory, overrides)
    check(composed, training=False)
    from recrun.experiments import predict

    k = whole_number(values, "--k") if "--k" in values else None
    report.note(f"{predict.predict(directory, composed.config, split, output, k):,} lines in {output}")
    return 0


def predict_next(directory: Path, values: dict[str, str], overrides: list[str]) -> int:
    """`predict RUN --session ITEM,ITEM,... [--k K]`: the best next items of one session, on stdout."""
    unused = [name for name in values if name not in ("--session", "--k")] + overrides
    if unused:
        raise ConfigError(f"--session goes with --k alone, not with {', '.join(unused)}")
    k = whole_number({"--k": "20", **values}, "--k")
    session = [item for item in values["--session"].split(",") if item]
    from recrun.experiments import predict, run

    best, unknown = predict.next_items(directory, run.load_config(directory), session, k)
    if unknown:
        report.note(f"{unknown} of {len(session)} items are unknown and were ignored")
    for item, score in best:
        report.text(f"{item}\t{score:.7g}")
    return 0


def refuse_training_keys(verb: str, overrides: Sequence[str]) -> None:
    """Raises ConfigError for a typed key that changes nothing where the weights are stored ones."""
    from recrun.config.compose import key_of

    for word in overrides:
        if key_of(word).partition(".")[0] in TRAINING:
            raise ConfigError(
                f"{word} changes nothing: {verb} uses the stored weights\n"
                f"keys for {verb}: dataset.…, device, precision, threads, eval_limit"
            )


def embed(words: list[str]) -> int:
    """`embed RUN --side SIDE --output FILE [--split SPLIT] [overrides]`: ids and vectors of users or items."""
    directory, words = opened("embed", words)
    values, overrides = named_values("embed", words, ("--side", "--output", "--split"))
    output, side = Path(needed(values, "--output", "embed")), needed(values, "--side", "embed")
    if side not in ("user", "item"):
        raise ConfigError(f"--side {side}: expected user or item")
    split = split_named(values)
    from recrun.config.stored import recompose
    from recrun.config.validate import check

    refuse_training_keys("embed", overrides)
    composed = recompose(directory, overrides)
    check(composed, training=False)
    from recrun.experiments import predict

    count = predict.embed(directory, composed.config, "user" if side == "user" else "item", split, output)
    report.note(f"{count:,} vectors in {output}")
    return 0


def compare(words: list[str]) -> int:
    """`compare RUN|SWEEP … [options]`: settings over seeds, with tests and intervals."""
    from recrun.experiments.compare import command

    return command.run(words)


def named_values(verb: str, words: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options with a value, as `--output FILE` or `--output=FILE`, and the overrides."""
    values: dict[str, str] = {}
    overrides: list[str] = []
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if not word.startswith("--"):
            overrides.append(word)
        elif name in names:
            values[name] = value if has_value else next(rest, "")
        else:
            raise ConfigError(
                f"{verb}: unknown option {name}{did_you_mean(name, names)} (there are: {', '.join(names)})"
            )
    return values, overrides


def whole_number(values: dict[str, str], name: str) -> int:
    """The value of an option that counts something."""
    value = values[name]
    if not value.isdecimal() or int(value) == 0:
        raise ConfigError(f"{name} {value}: expected a whole number, at least 1")
    return int(value)


def needed(values: dict[str, str], name: str, verb: str) -> str:
    """The value of an option that must be given."""
    if not values.get(name):
        raise ConfigError(f"{verb} needs {name}: recrun {verb} RUN … {name} VALUE")
    return values[name]


def split_named(values: dict[str, str]) -> Split:
    """The split that `--split` names; test without it."""
    name = values.get("--split", "test")
    if name not in ("valid", "test"):
        raise ConfigError(f"--split {name}: expected valid or test")
    return "valid" if name == "valid" else "test"


def input_key(config: dict[str, Any]) -> str:
    """The key that `--input` sets: the data set's class says it."""
    from recrun.config.schema import signature

    key = signature(config["dataset"]["_target_"]).attributes.get("input_key")
    if key is None:
        raise ConfigError("--input: this data set has no part of its own for new data; set dataset.path=… instead")
    return f"dataset.{key}"


def opened(verb: str, words: list[str]) -> tuple[Path, list[str]]:
    """The run directory that a verb is about, and the other words: `--trust` and `plugins=[…]` are heeded here.

    A run directory is data: it may have come from anybody. Whatever code it names must be allowed anew.
    """
    directory = run_directory(verb, words[:1])
    from recrun.config import stored
    from recrun.runtime.run_files import refuse_links

    refuse_links(directory)
    packages: list[str] = []
    rest = []
    for word in words[1:]:
        name, _, value = word.lstrip("+").partition("=")
        if name == "plugins":
            packages += [package.strip(" \"'") for package in value.strip("[]").split(",")]
        elif word != "--trust":
            rest.append(word)
    stored.trust(directory, packages, everything="--trust" in words)
    return directory, rest


def run_directory(verb: str, words: list[str]) -> Path:
    """The directory that a verb is about."""
    if not words:
        raise ConfigError(f"{verb} needs a run directory: recrun {verb} outputs/… (recrun list runs shows them)")
    directory = Path(words[0])
    holds = ["config.yaml"] + (["sweep.json"] if verb == "resume" else [])
    if not any((directory / name).is_file() for name in holds):
        raise ConfigError(f"{directory} is not a run directory: it has no {' or '.join(holds)}")
    return directory


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
