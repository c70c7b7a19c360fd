"""Where the YAML files are, and what can be read from them without Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from recrun.errors import ConfigError

GROUPS = (
    "model",
    "dataset",
    "split",
    "loader",
    "evaluator",
    "trainer",
    "stage",
    "objective",
    "weighting",
    "optimizer",
    "scheduler",
    "tracker",
    "search",
    "pruner",
    "launcher",
    "experiment",
)


def conf_dir() -> Path:
    """The folder of our YAML files: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"recrun's conf folder is missing beside {package}: install recrun again")


def search_path(extra: Path | None = None) -> list[Path]:
    """The conf folders that exist, those that win first: --config-dir, ./conf, ours."""
    if extra is not None and not extra.is_dir():
        raise ConfigError(f"--config-dir {extra} is not a folder")
    wanted = [*([extra.resolve()] if extra else []), Path.cwd() / "conf", conf_dir()]
    return list(dict.fromkeys(folder for folder in wanted if folder.is_dir()))


def options(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """The options of a group and their files, sorted; names that begin with `_` are hidden."""
    found = {path.stem: path for folder in reversed(folders) for path in (folder / group).glob("*.yaml")}
    return {name: found[name] for name in sorted(found) if not name.startswith("_")}


def target_in(path: Path) -> str | None:
    """The class that an option's YAML file makes; of a stage its trainer or the objective that it sets.

    It makes it itself, or by a file of the same group that it is based on.
    """
    text = path.read_text(encoding="utf-8")
    name = "objective" if path.parent.name == "stage" else path.parent.name
    node = rf"^{name}:[^\n]*\n(?:[ ]+#[^\n]*\n)*[ ]+"  # of the group, in a file for the package _global_
    found = re.search(rf"(?:^|{node})_target_:\s*(\S+)", text, re.MULTILINE)
    if found:
        return found[1]
    files = [path.with_name(f"{name}.yaml") for name in bases_in(text)]
    return next((target for file in files if file.is_file() and (target := target_in(file))), None)


def bases_in(text: str) -> list[str]:
    """The files of its own group that a YAML file is based on."""
    inline = re.search(r"^defaults:\s*\[(.*?)\]", text, re.MULTILINE)
    names = inline[1].split(",") if inline else re.findall(r"^[ ]*-[ ]+(\w+)[ ]*$", text, re.MULTILINE)
    return [name for name in map(str.strip, names) if re.fullmatch(r"\w+", name) and name != "_self_"]


def targets_in(folders: Sequence[Path]) -> set[str]:
    """All classes that the YAML files of some conf folders name."""
    files = [path for folder in folders for group in GROUPS for path in (folder / group).glob("*.yaml")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    return {name for text in texts for name in re.findall(r"\b_target_:\s*([\w.]+)", text)}


def follows_in(path: Path) -> list[str]:
    """The `follows` of a stage's YAML file."""
    found = re.search(r"^follows:\s*\[(.*?)\]", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [name.strip() for name in found[1].split(",")] if found else []


def chosen_in(path: Path, group: str) -> str | None:
    """The option of a group that a YAML file chooses, itself or by a file of its own group that it is based on."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"(?:^\s*-|^defaults:\s*\[(?:.*,)?)\s*override /{group}:\s*([^\s,\]]+)", text, re.MULTILINE)
    if found:
        return found[1]
    files = [path.with_name(f"{name}.yaml") for name in bases_in(text)]
    return next((chosen for file in files if file.is_file() and (chosen := chosen_in(file, group))), None)
