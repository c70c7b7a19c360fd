"""From the words of a command line to one config."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.config import quoting, renamed, user_source
from recrun.config.composition import Composition, explained, keep_own_values, key_of, refuse_hydra, register_resolvers
from recrun.config.hints import elsewhere
from recrun.config.search_path import GROUPS, conf_dir, options, search_path
from recrun.errors import ConfigError, did_you_mean
from recrun.runtime.run_files import refuse_bomb

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

OPTION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")  # becomes the name of a folder
BRINGS = {"dataset": ("split", "evaluator", "filters")}  # sections that an option of a group decides besides its own

FileCache = dict[tuple[str, ...], "DictConfig"]  # what Hydra made of each choice of files

_folders: list[Path] = []  # searched before ours by the composition under way; read by Hydra's plugin


def compose(overrides: Sequence[str], folders: Sequence[Path] = ()) -> Composition:
    """The config of one run.

    Args:
        overrides: As on the command line: `model=ract`, `trainer.lr=0.01`, `stage.finetune.lr=1e-6`.
        folders: The conf folders, those that win first; by default ./conf and ours.

    Raises:
        ConfigError: A word that cannot be read, an unknown group, option or key.
    """
    with composer(folders) as compose_one:
        return compose_one(overrides)


@contextmanager
def composer(folders: Sequence[Path] = (), files: FileCache | None = None) -> Iterator[Composer]:
    """Sets Hydra up once for any number of compositions.

    Args:
        folders: The conf folders, those that win first.
        files: What an earlier composer with the same folders has read; taken over and added to.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    folders = list(folders) or search_path()
    for folder in folders:
        if folder != conf_dir():
            refuse_bombs(folder)
    prepare_hydra(folders)
    existing = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), job_name="recrun", version_base="1.3"):
            yield Composer(folders, {} if files is None else files)
    finally:
        GlobalHydra.instance().hydra = existing  # of a program that uses Hydra itself


def refuse_bombs(folder: Path) -> None:
    """Refuses YAML files of a conf folder that would never be read to their end."""
    for path in (path for group in GROUPS for path in (folder / group).glob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if "&" in text and "*" in text:
            with explained():
                refuse_bomb(text, path)


def prepare_hydra(folders: Sequence[Path]) -> None:
    """Registers the folders that come before ours with Hydra."""
    _folders[:] = [folder for folder in folders if folder != conf_dir()]
    _register_search_path()
    register_resolvers()


@cache
def _register_search_path() -> None:
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class UserFolders(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in reversed(_folders):
                search_path.prepend("recrun-user", f"{user_source.SCHEME}://{folder}")

    user_source.register()
    Plugins.instance().register(UserFolders)


@dataclass(frozen=True)
class Composer:
    """Composes configs from overrides. Hydra chooses among files; values are set afterwards.

    Setting values ourselves lets `trainer.patience=3` reach a key that no YAML file mentions, with or without
    Hydra's `+`: constructor signatures decide what is a key (see recrun.config.validate).
    """

    folders: list[Path]
    files: FileCache = field(default_factory=dict)

    def __call__(self, overrides: Sequence[str]) -> Composition:
        """Composes one config; see `compose`."""
        import hydra
        from omegaconf import open_dict

        chosen, values = self._sort(self.parse(overrides))
        kept: list[str] = []
        with explained():
            if tuple(chosen) not in self.files:
                self.files[tuple(chosen)] = hydra.compose("config", chosen, return_hydra_config=True)
            whole = copy.deepcopy(self.files[tuple(chosen)])
            with open_dict(whole):
                own = whole.pop("hydra")
                keep_own_values(whole, own.runtime.choices, chosen, self.folders)
                own.overrides.task = list(overrides)
                for value in values:
                    kept += kept_by(whole, value)
                    self._set(whole, value)
        return Composition(whole, own, list(overrides), self.folders, kept)

    def onto(self, stored: DictConfig, overrides: Sequence[str], run: Path, labels: Mapping[str, str]) -> Composition:
        """A stored config with overrides: groups that were typed are composed anew, all else is what the run has.

        Args:
            stored: The config of a run.
            overrides: As on the command line.
            run: Its directory.
            labels: Options of groups that the run was started with, for messages.
        """
        from omegaconf import OmegaConf, open_dict

        parsed = self.parse(overrides)
        deleted = [override for override in parsed if override.is_delete()]
        chosen, values = self._sort([override for override in parsed if not override.is_delete()])
        groups = list(map(key_of, chosen))
        composed = self([*chosen])
        node = copy.deepcopy(stored)
        kept: list[str] = []
        with explained(), open_dict(node):
            for section in (part for group in groups for part in (group, *BRINGS.get(group, ()))):
                if section in composed.node:
                    node[section] = copy.deepcopy(composed.node._get_node(section))
            for override in deleted:
                above, _, key = override.key_or_group.rpartition(".")
                holder = OmegaConf.select(node, above) if above else None
                if holder is None or key not in holder:
                    raise ConfigError(f"{override.input_line}: there is no key {override.key_or_group}")
                del holder[key]
            for value in values:
                kept += kept_by(node, value)
                self._set(node, value)
            composed.hydra.runtime.choices = {
                **dict.fromkeys(composed.hydra.runtime.choices),
                **labels,
                **{group: composed.option(group) for group in groups},
            }
        return Composition(node, composed.hydra, list(overrides), self.folders, kept, run)

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Reads overrides by Hydra's grammar."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.override_parser.overrides_parser import OverridesParser

        for word in overrides:
            if not word.strip("+~").partition("=")[0] or ("=" not in word and not word.startswith("~")):
                raise ConfigError(f"'{word}' is no override: write key=value")
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        with explained():
            return parser.parse_overrides(list(overrides))

    def jobs(self, overrides: Sequence[str]) -> list[list[str]]:
        """The overrides of each job of a sweep: the product of all that hold several values."""
        from hydra.core.override_parser.types import Glob

        lists: dict[str, list[str]] = {}
        for override in self.parse(overrides):
            key = override.get_key_element()
            if override.is_interval_sweep():
                raise ConfigError(
                    f"{override.input_line}: an interval cannot be listed; use range() or choice(), or search=tpe"
                )
            if not override.is_sweep_override():
                lists[key] = [str(override.input_line)]
                continue
            with explained():
                values = list(override.sweep_string_iterator())
            if isinstance(override.value(), Glob):  # finds hidden options as well
                values = [value for value in values if not value.startswith("_")]
            if not values:
                raise ConfigError(f"{override.input_line}: this sweeps over nothing")
            lists[key] = [f"{key}={value}" for value in values]
        return [list(job) for job in itertools.product(*lists.values())]

    def _sort(self, overrides: Sequence[Override]) -> tuple[list[str], list[Override]]:
        """Overrides that Hydra needs for choosing files, as text, and those that set values."""
        chosen, values = [], []
        for override in overrides:
            line, key = str(override.input_line), override.key_or_group
            if override.is_hydra_override():
                refuse_hydra(line, key)
            elif override.is_sweep_override():
                raise ConfigError(
                    f"{line}: several values need -m (a list is written {key}=[a,b])" + quoting.hint(line)
                )
            elif override.is_delete():
                chosen.append(line)
            elif self._is_group(key) and not isinstance(override.value(), dict):
                if key == "experiment" and override.value() is None:
                    chosen = [word for word in chosen if not word.startswith("experiment=")]
                    continue
                self._refuse_unknown(key, override.value())
                chosen.append(line.lstrip("+") if key in GROUPS and not override.package else line)
            elif "/" in key or override.package:
                raise ConfigError(f"{line}: there is no group '{key}'{did_you_mean(key, GROUPS)}")
            else:
                values.append(override)
        return chosen, values

    def _is_group(self, key: str) -> bool:
        return any((folder / key).is_dir() for folder in self.folders)

    def _refuse_unknown(self, group: str, value: Any) -> None:
        if isinstance(value, list) and group != "stage":
            raise ConfigError(f"{group} takes one option; only stage takes several (to try several: -m {group}=a,b)")
        for name in value if isinstance(value, list) else [value]:
            if name is not None and not OPTION.fullmatch(str(name)):
                raise ConfigError(f"{group}={str(name)[:100]}: an option's name is of letters, digits, _ . - alone")
            if not any((folder / group / f"{name}.yaml").is_file() for folder in self.folders):
                renamed.refuse_option(group, str(name))
                known = list(options(group, self.folders))
                hint = did_you_mean(str(name), known)
                raise ConfigError(f"unknown {group} '{name}'{hint} (there are: {', '.join(known) or 'none'})")

    def _set(self, config: DictConfig, override: Override) -> None:
        from omegaconf import OmegaConf

        key = override.key_or_group
        parts = key.split(".")
        if parts[0] not in config:
            hint = renamed.hint(key) or did_you_mean(parts[0], [*map(str, config), *GROUPS])
            raise ConfigError(f"unknown key {key}{hint or elsewhere(parts[-1], config)}")
        if parts[0] == "stage" and len(parts) > 1 and parts[1] not in config.stage:
            names = list(map(str, config.stage))
            hint = did_you_mean(parts[1], names)
            raise ConfigError(f"unknown key {key}: this run's stages are {', '.join(names)}{hint}")
        OmegaConf.update(config, key, override.value(), merge=True, force_add=True)


def kept_by(config: DictConfig, override: Override) -> Iterator[str]:
    """A note where a typed mapping adds to the one that is there: a person may have meant to replace it."""
    from omegaconf import DictConfig, OmegaConf

    key, typed = override.key_or_group, override.value()
    if not isinstance(typed, dict) or override.is_add():
        return
    existing = OmegaConf.select(config, key)
    if isinstance(existing, DictConfig) and "_target_" not in existing:
        left = [str(name) for name in existing if name not in typed]
        if left:
            without = " ".join(f"~{key}.{name}" for name in left)
            yield f"{key}={{…}} adds to {', '.join(left)}, which stay; to leave them out: {without}"
