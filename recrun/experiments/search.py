"""The start of a search: its space is read and every value of it checked, before its directory is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recrun.config.compose import composer
from recrun.config.composition import Composition
from recrun.config.hints import override_notes
from recrun.config.search_space import Space, read_space
from recrun.config.space_files import with_space
from recrun.config.validate import check
from recrun.console import report
from recrun.errors import ConfigError
from recrun.experiments import directories, preflight, sweep_plan
from recrun.experiments.samplers import Search


def checked(words: Sequence[str], folders: Sequence[Path], objectives: Sequence[str] = ()) -> tuple[Space, Composition]:
    """The space of a search, and the config of one trial; every value that the space names was checked.

    Args:
        words: Typed words, the space among them.
        folders: The conf folders.
        objectives: Metrics that the evaluator must compute.

    Raises:
        ConfigError: The space, or a trial in it, cannot work.
    """
    with composer(folders) as compose:
        space = read_space(words, compose)
        found = []
        for values in space.corners():
            overrides = space.overrides(values)
            try:
                found.append(compose(overrides))
                check(found[-1])
                preflight.check(found[-1].config)
            except ConfigError as error:
                whole = "; whole numbers: int(interval(…))" if "expected a whole number" in str(error) else ""
                raise ConfigError(f"{error}{whole}\nin a trial with {space.label(values)}") from None
    preflight.objectives(found[0].config, objectives)
    return space, found[0]


def with_file(words: Sequence[str], space: str | None, folders: Sequence[Path]) -> list[str]:
    """Typed words with those of the file of a space, if there is one."""
    if space is None:
        return [*words]
    with composer(folders) as compose:
        single = [str(word.input_line) for word in compose.parse(words) if not word.is_sweep_override()]
        return with_space(words, space, folders, compose(single).config)


def show(search: Mapping[str, Any], words: Sequence[str], folders: Sequence[Path]) -> None:
    """What a search would do."""
    space, first = checked(words, folders, search.get("objectives", ()))
    rows = [(key, next(word for word in words if word.startswith(f"{key}="))) for key in space.dimensions]
    report.listing("space", rows)
    parent = Path(first.config["output_dir"]) / "multirun" / "<time>"
    last = search.get("trials", Search.trials) + search.get("refit_seeds", Search.refit_seeds) - 1
    report.text(f"{last + 1} jobs, {parent / '0'} to {parent / str(last)}; all valid; nothing was written")


def begin(settings: Mapping[str, Any], words: Sequence[str], folders: Sequence[Path]) -> Path:
    """Checks a search and makes its directory.

    Args:
        settings: The sections `search` and `launcher`.
        words: All other words that were typed.
        folders: The conf folders.
    """
    _, first = checked(words, folders, settings["search"].get("objectives", ()))
    for note in override_notes(first):
        report.note(note)
    directory = directories.new_directory(Path(first.config["output_dir"]) / "multirun")
    sweep_plan.write(sweep_plan.typed((), settings, words), directory)
    return directory
