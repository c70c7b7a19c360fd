"""One job's config: what composition gives and what is put right in it, and the keys that every config has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recrun.config import quoting
from recrun.config.schema import signature
from recrun.config.search_path import chosen_in, conf_dir, options, targets_in
from recrun.config.targets import Permission, granted
from recrun.errors import ConfigError
from recrun.types import Count, Index, Precision

if TYPE_CHECKING:
    from omegaconf import DictConfig

SECTIONS = ("model", "dataset", "split", "loader", "evaluator", "trainer", "stage")  # where the groups land
SET_BY_OTHERS = ("split", "loader", "evaluator")  # groups that a data set's, model's or experiment's file sets keys of
SETTERS = ("experiment", "model", "dataset")  # those files, in the order in which they win


@dataclass
class Settings:
    """The keys at the top of every config: what belongs to the run alone. Read as a schema, never made."""

    seed: Index
    device: str
    precision: Precision
    devices: Count
    threads: Count | None
    step_limit: Count | None
    eval_limit: Count | None
    epochs: Count | None
    pre_model_path: str | None
    output_dir: str
    plugins: Sequence[str]
    report: bool = False  # runs of earlier versions do not have these
    name: str | None = None
    tags: Sequence[str] = ()
    time_limit: float | str | None = None
    keep_state: Literal["last", "none"] = "last"


@dataclass(frozen=True)
class Composition:
    """One job's config, composed and not yet checked.

    Attributes:
        node: The config as YAML and command line give it, interpolations unresolved.
        hydra: Hydra's own config, for `.hydra/`.
        overrides: The words of the command line.
        folders: The conf folders, those that win first.
        kept: Notes on what typed mappings did not replace.
        run: The run directory whose stored config this is, with overrides; None for a config of its own.
    """

    node: DictConfig
    hydra: DictConfig
    overrides: list[str]
    folders: list[Path] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    run: Path | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values.

        Raises:
            ConfigError: An interpolation points nowhere, or a mandatory value (`???`) was not given.
        """
        from omegaconf import OmegaConf
        from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

        try:
            values = OmegaConf.to_container(self.node, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise ConfigError(f"{error.full_key} must be given: add {error.full_key}=…") from None
        except OmegaConfBaseException as error:
            raise ConfigError(f"{error.full_key or 'config'}: {one_line(error)}") from None
        return dict(values)  # type: ignore[arg-type]  # omegaconf types it as any container

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The config as plain values with its interpolations as text."""
        from omegaconf import OmegaConf

        return dict(OmegaConf.to_container(self.node))  # type: ignore[arg-type]  # as above

    @cached_property
    def permission(self) -> Permission:
        """Whose code the config may name: what was composed on one's own command line may name one's own files, and
        what one's conf folders or `plugins` name; a run directory is a stranger's."""
        if self.run is not None:
            return granted()
        own = [folder for folder in self.folders if folder != conf_dir()]
        return Permission(frozenset({*self.config["plugins"], *targets_in(own)}), local=True)

    def option(self, group: str) -> str | None:
        """The chosen option of a group; None for a group given as a list (stage) or left out."""
        choice = self.hydra.runtime.choices.get(group)
        return choice if isinstance(choice, str) else None

    def path(self, group: str) -> Path | None:
        """The YAML file of a group's chosen option."""
        return options(group, self.folders).get(self.option(group) or "")

    def file(self, group: str, option: str | None = None) -> str:
        """The YAML file of a group's option (the chosen one by default), as a person would write it."""
        if self.run is not None and group not in map(key_of, self.overrides):
            return str(self.run / "config.yaml")
        name = f"{group}/{option or self.option(group)}.yaml"
        ours = conf_dir()
        for folder in self.folders:
            if (folder / name).is_file():
                return f"conf/{name}" if folder in (ours, Path.cwd() / "conf") else str(folder / name)
        return "conf/config.yaml"


def key_of(word: str) -> str:
    """The key that a word of a command line sets, adds or leaves out."""
    return word.lstrip("+~").partition("=")[0]


def register_resolvers() -> None:
    """Registers the resolver `first` with OmegaConf."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("first"):
        OmegaConf.register_new_resolver("first", first)


def first(*values: Any) -> Any:
    """The first value that is not null; in YAML `${first:${a},b}`."""
    return next((value for value in values if value is not None), None)


def keep_own_values(
    config: DictConfig, choices: Mapping[str, Any], chosen: Sequence[str], folders: Sequence[Path]
) -> None:
    """Drops keys that a file sets for the option that it chose, where another one replaced it.

    `dataset=rsc15` chooses split=provided and sets `split.valid_days`; with split=random typed behind it that key
    says nothing. Keys that the option has too (split.catalogue) stay. What is typed is never dropped: it is set later.

    Args:
        config: What Hydra made of the choices of options; changed in place.
        choices: The chosen option of each group.
        chosen: The words that choose options.
        folders: The conf folders.
    """
    for group in SET_BY_OTHERS:
        node = config.get(group)
        if node is None or "_target_" not in node or not replaced(group, choices, chosen, folders):
            continue
        known = signature(str(node["_target_"]))
        for key in [] if known.is_open else [*node]:
            if key not in known.fields and not str(key).startswith("_"):
                del node[key]


def replaced(group: str, choices: Mapping[str, Any], chosen: Sequence[str], folders: Sequence[Path]) -> bool:
    """Whether an option of a group was typed, or chosen by one file over another one's choice."""
    if any(word.lstrip("+").partition("=")[0] == group for word in chosen):
        return True
    paths = (options(name, folders).get(str(choices.get(name))) for name in SETTERS)
    wanted = {found for path in paths if path is not None and (found := chosen_in(path, group)) is not None}
    return len(wanted) > 1


@contextmanager
def explained() -> Iterator[None]:
    """Turns whatever Hydra, OmegaConf or YAML raise while they compose into one line for a person."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        word = getattr(error, "override", None)
        if word:
            raise ConfigError(f"cannot read '{word}'{quoting.hint(word) or f': {one_line(error)}'}") from None
        raise ConfigError(one_line(error)) from None


def one_line(error: BaseException) -> str:
    """An error of Hydra or OmegaConf without advice and repetition, on one line."""
    found: list[str] = []
    for part in (error, error.__cause__ or error.__context__):
        lines = [" ".join(line.split()) for line in str(part or "").splitlines()]
        dull = ("See http", "To append", "full_key:", "object_type=", "Config search path")
        found += [line for line in lines if line and not line.startswith(dull) and line not in found]
    return ": ".join(found[:3]) or type(error).__name__


def refuse_hydra(line: str, key: str) -> None:
    """Raises ConfigError for an override of Hydra's own config: recrun would not act on it."""
    instead = {
        "launcher": "say launcher=serial or launcher=local, which are recrun's own",
        "sweeper": "recrun lists the jobs of a sweep itself; for a search say search=tpe",
        "run": "say output_dir=… for where run directories go",
        "sweep": "say output_dir=… for where sweep directories go",
        "searchpath": "say --config-dir DIR for a folder to search first",
    }
    part = key.replace("/", ".").split(".")[1]
    raise ConfigError(f"{line} has no effect here: {instead.get(part, 'leave it out')}")
