"""Options and positions of a command line, read by hand: what is left are Hydra's overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recrun.errors import ConfigError, did_you_mean
from recrun.types import Split

TRAINING = (
    *("trainer", "stage", "objective", "weighting", "optimizer", "scheduler", "tracker"),
    *("seed", "epochs", "devices", "pre_model_path", "output_dir", "report", "name", "tags"),
    *("time_limit", "keep_state"),
)  # keys that change nothing once weights are stored


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


def needed(values: dict[str, str], name: str, verb: str, subject: str = "RUN …") -> str:
    """The value of an option that must be given."""
    if not values.get(name):
        raise ConfigError(f"{verb} needs {name}: recrun {verb} {subject} {name} VALUE")
    return values[name]


def split_named(values: dict[str, str]) -> Split:
    """The split that `--split` names; test without it."""
    name = values.get("--split", "test")
    if name not in ("valid", "test"):
        raise ConfigError(f"--split {name}: expected valid or test")
    return "valid" if name == "valid" else "test"


def refuse_training_keys(verb: str, overrides: Sequence[str]) -> None:
    """Raises ConfigError for a typed key that changes nothing where the weights are stored ones."""
    from recrun.config.composition import key_of

    for word in overrides:
        if key_of(word).partition(".")[0] in TRAINING:
            raise ConfigError(
                f"{word} changes nothing: {verb} uses the stored weights\n"
                f"keys for {verb}: dataset.…, device, precision, threads, eval_limit"
            )


def run_directory(verb: str, words: list[str]) -> Path:
    """The directory that a verb is about."""
    if not words:
        raise ConfigError(f"{verb} needs a run directory: recrun {verb} outputs/… (recrun list runs shows them)")
    directory = Path(words[0])
    holds = ["config.yaml"] + (["sweep.json"] if verb in ("resume", "clean") else [])
    if not any((directory / name).is_file() for name in holds):
        raise ConfigError(f"{directory} is not a run directory: it has no {' or '.join(holds)}")
    return directory


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
