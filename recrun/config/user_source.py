"""How Hydra reads a user's conf folder: its options, which say where their keys belong; never a main config."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recrun.config.search_path import GROUPS
from recrun.errors import ConfigError

SCHEME = "recrun-user"
MAIN = ("config", "config.yaml")  # ours is ours, whatever other program a conf folder is of

# Where the keys of an option belong that does not say so itself: without the line they would be in no use.
PACKAGES = {
    "experiment": "_global_",
    "objective": "trainer.objective",
    "optimizer": "trainer.optimizer",
    "weighting": "trainer.weighting",
    "scheduler": "trainer",
    "pruner": "search.pruner",
}


def refuse_no_package(file: Path, group: str, header: Mapping[str, str | None], keys: Any) -> None:
    """Raises ConfigError, naming the missing line, for an option whose keys would not arrive where they are meant."""
    if header.get("package") or group not in GROUPS:
        return
    package = PACKAGES.get(group, f"stage.{file.stem}" if group == "stage" else None)
    if package is None and isinstance(keys, Mapping) and group in keys:
        package = "_global_"
    if package is not None:
        raise ConfigError(f"{file}:1: the first line must be\n# @package {package}")


@cache
def register() -> None:
    """Makes Hydra know the scheme."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigResult

    class UserSource(FileConfigSource):
        """A folder of options."""

        @staticmethod
        def scheme() -> str:
            """Before `://`."""
            return SCHEME

        def is_config(self, config_path: str) -> bool:
            """Whether there is such a file, other than a main config."""
            return config_path not in MAIN and bool(super().is_config(config_path))

        def load_config(self, config_path: str) -> ConfigResult:
            """An option's file."""
            found = super().load_config(config_path)
            group, _, name = config_path.removesuffix(".yaml").rpartition("/")
            refuse_no_package(Path(self.path) / group / f"{name}.yaml", group, found.header, found.config)
            return found

    Plugins.instance().register(UserSource)
