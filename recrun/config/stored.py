"""The config of a run directory: read as data, with limits, and with further overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recrun.config import targets, yaml_text
from recrun.config.compose import OPTION, composer
from recrun.config.composition import Composition, one_line, register_resolvers
from recrun.config.search_path import search_path
from recrun.config.targets import Permission, grant, granted
from recrun.errors import ConfigError, RecrunError
from recrun.runtime import cache_folder
from recrun.runtime.run_files import read_json, read_text, refuse_bomb

if TYPE_CHECKING:
    from omegaconf import DictConfig

LARGEST = 4 << 20  # bytes of a config


def is_word(name: Any) -> bool:
    """Whether a name can name a folder: letters, digits, `_`, `.` and `-`, at most 100, no `.` at the front."""
    return isinstance(name, str) and OPTION.fullmatch(name) is not None


def read(directory: Path) -> DictConfig:
    """config.yaml of a run directory, interpolations unresolved.

    Raises:
        ConfigError: There is none, or it is no config.
    """
    path = directory / "config.yaml"
    try:
        node = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"{directory} is not a run directory: it has no config.yaml") from None
    for name in ("model", "dataset", "trainer", "stage"):
        if not isinstance(node._get_node(name), Mapping):
            raise ConfigError(f"{path}: {name} is no mapping; this is not a config that recrun has written")
    if "lists" in node.model:
        raise ConfigError(f"{directory} holds what recommendation lists scored, and no weights: use compare and report")
    for name in node.stage:
        if not is_word(name):
            raise ConfigError(f"{path}: stage {name!r:.100}: expected letters, digits, _ . - alone")
    return node


def read_yaml(path: Path) -> DictConfig:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: It does not exist.
        ConfigError: It cannot be read, is no YAML, or grows beyond all bounds.
    """
    from omegaconf import DictConfig, OmegaConf

    try:
        text = read_text(path, LARGEST)
        refuse_bomb(text, path)
        values = yaml_text.parse(text)
        node = OmegaConf.create({} if values is None else values)
    except (FileNotFoundError, ConfigError):
        raise
    except RecrunError as error:
        raise ConfigError(str(error)) from None
    except Exception as error:  # YAML and OmegaConf have many
        raise ConfigError(f"{path} is damaged: {one_line(error)}") from None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path} is damaged: expected a mapping")
    return node


def resolved(node: DictConfig, path: Path) -> dict[str, Any]:
    """A stored config as plain values; ConfigError if an interpolation points nowhere."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    try:
        values: Any = OmegaConf.to_container(node, resolve=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from None
    return dict(values)


def raw(directory: Path) -> dict[str, Any]:
    """The config of a run directory as it is written, interpolations as text."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(read(directory))
    return dict(values)


def load(directory: Path) -> dict[str, Any]:
    """The resolved config of a run directory, with a cache of this user's; see `read`."""
    node = read(directory)
    keep_own_cache(node)
    return resolved(node, directory / "config.yaml")


def keep_own_cache(node: DictConfig) -> None:
    """Puts this user's own folder at `dataset.cache`, which is written to, unless they have named that one before."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    try:
        folder = OmegaConf.select(node, "dataset.cache")
    except (OmegaConfBaseException, RecursionError):
        folder = ""
    if folder is not None and not cache_folder.claimed(folder):
        node.dataset.cache = cache_folder.default()


def refuse_untrusted(config: Mapping[str, Any]) -> None:
    """Refuses a stored config that names code or downloads that the user of this process has not allowed."""
    allowed = granted()
    targets.check(config, allowed)
    if not allowed.local:
        refuse_foreign_downloads(config, search_path())


def refuse_foreign_downloads(config: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Refuses a download that no data set of the conf folders has: it would put a stranger's file anywhere.

    Args:
        config: A config that was read from a run directory.
        folders: The conf folders of the user.

    Raises:
        ConfigError: Names the key, and what to do.
    """
    wanted = [*downloads(config.get("dataset"))]
    known = [*known_in(folders)] if wanted else []
    for node in wanted:
        if node not in known:
            raise ConfigError(
                f"dataset.download: {node.get('url', 'this address')} is not in a data set of your conf folders; get "
                "the file yourself and add dataset.download=null, or add --trust if the run is from someone you trust"
            )


def downloads(value: Any) -> Iterator[Mapping[str, Any]]:
    """The nodes at keys called `download`, at any depth."""
    for key, part in value.items() if isinstance(value, Mapping) else ():
        if key == "download" and isinstance(part, Mapping):
            yield part
        else:
            yield from downloads(part)


def known_in(folders: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    """The downloads that the YAML files of data sets name."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in (path for folder in folders for path in (folder / "dataset").glob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "download:" in text:
            try:
                yield from downloads(yaml.load(text, Loader=loader))
            except (yaml.YAMLError, RecursionError):  # of a file that is not the one in question
                continue


def recompose(directory: Path, overrides: Sequence[str]) -> Composition:
    """The config of a run with further overrides: values are set, typed group choices come from the conf folders."""
    node = read(directory)
    keep_own_cache(node)
    if not overrides:
        from omegaconf import OmegaConf

        register_resolvers()
        hydra = OmegaConf.create({"runtime": {"choices": labels(directory)}})
        return Composition(node, hydra, [], search_path(), run=directory)
    with composer(search_path()) as compose:
        return compose.onto(node, overrides, directory, labels(directory))


def labels(directory: Path) -> dict[str, str]:
    """The options of model and data set that a run was started with, for messages alone; none if they can't be read."""
    try:
        choices: Any = read_yaml(directory / ".hydra" / "hydra.yaml")
        for key in ("hydra", "runtime", "choices"):
            choices = choices.get(key, {})
        return {name: choices[name] for name in ("model", "dataset") if is_word(choices.get(name))}
    except Exception:  # whatever is wrong with it, the run does not need it
        return {}


def began_in(directory: Path) -> str:
    """Where a run was started, as the end of an error about code that is not found; empty if that is unknown."""
    try:
        folder = read_json(directory / "run.json").get("working_directory")
    except (OSError, RecrunError):
        return ""
    return f"; the run was started in {folder}: go there, or put that folder on PYTHONPATH" if folder else ""


def trust(directory: Path, packages: Sequence[str], everything: bool) -> None:
    """Allows code for the configs of run directories: packages that were typed, or all that the run names itself."""
    grant(Permission(frozenset(packages)))
    if everything:
        for config in configs(directory):
            plugins = config.get("plugins") or []
            grant(Permission(frozenset(map(str, plugins)), local=True))


def configs(directory: Path) -> Iterator[dict[str, Any]]:
    """The config of a run, or of all the runs of a sweep, as far as they can be read."""
    for folder in [directory, *(path for path in directory.iterdir() if path.is_dir())]:
        if (folder / "config.yaml").is_file():
            yield load(folder)
