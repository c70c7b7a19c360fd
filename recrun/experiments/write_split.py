"""`recrun split`: a split written as files, read back, and described beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recrun import __version__
from recrun.data.events.log import chosen_unit
from recrun.data.events.settings import EventSettings
from recrun.data.events.split_files import Form, SplitFiles, differences, separator_of
from recrun.data.events.split_log import EventSplit, SplitLog, divide
from recrun.data.events.splits import Provided
from recrun.errors import ConfigError, RecrunError
from recrun.experiments.instantiate import instantiate, made

SETTINGS = "recrun.data.events.settings.EventSettings"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        rows: By file.
        words: What reads it back, but for the path.
        differences: What is not the same when it is read back, in words; empty if all is.
    """

    rows: Mapping[str, int]
    words: tuple[str, ...]
    differences: tuple[str, ...]


def write_split(config: Mapping[str, Any], folder: Path, form: Form = "tsv") -> Written:
    """Writes the split of a config's data, and reads it back to see that it is the same.

    Args:
        config: A checked config; of it `dataset` and `split` count.
        folder: Where; a folder that does not exist, or is empty.
        form: TSV, or RecBole's `.inter`.

    Raises:
        ConfigError: The data are no event log, or there is something at the folder.
        DataError: The data cannot be used, or an id cannot be written.
    """
    if not config.get("split"):
        raise ConfigError("recrun split is for event logs: tables and news are split by keys of their own (dataset.…)")
    split: EventSplit = instantiate(config["split"])
    files = split_files(event_settings(config["dataset"]), split)
    begin(folder)
    rows = files.write(folder, form)
    words = ("dataset=interactions", "split=provided", *(f"{key}={yaml(value)}" for key, value in files.keys().items()))
    lost = files.without_events()
    try:
        differing = differences(files.made, read_back(folder, files.keys()))
    except RecrunError as error:
        differing = [f"it cannot be read back: {error}"]
    written = Written(rows, words, tuple(explained(differing, lost)))
    (folder / "dataset.yaml").write_text(option(folder, files.keys()), encoding="utf-8")
    (folder / "README.txt").write_text(readme(files, written, form), encoding="utf-8")
    return written


def event_settings(node: Mapping[str, Any]) -> EventSettings:
    """The keys of `dataset` alone, without evaluator and loader.

    Raises:
        ConfigError: New units stand for the test split.
    """
    if node.get("test_path"):
        raise ConfigError("dataset.test_path replaces the test split by units without targets: leave it out")
    return EventSettings(**{key: made(value) for key, value in node.items() if key != "_target_"})


def split_files(settings: EventSettings, split: EventSplit) -> SplitFiles:
    """Reads, filters and splits."""
    raw = settings.event_source(provided=split.needs == "split files").events()
    log = settings.filters.apply(raw, settings.unit, settings.chosen_order())
    return SplitFiles(log, divide(log, split), chosen_unit(raw, settings.unit))


def read_back(folder: Path, keys: Mapping[str, Any]) -> SplitLog:
    """The split that files hold, read as `SplitFiles.keys` say."""
    mine = {key.partition(".")[2]: value for key, value in keys.items()}
    of_split = ("in_order", "hold_out_units", "catalogue", "test_input", "targets")
    settings = EventSettings(
        path=str(folder.absolute()),
        **{name: mine[name] for name in mine if name not in of_split and "." not in name},
    )
    settings = replace(settings, filters=replace(settings.filters, repeats=mine["filters.repeats"]))
    return split_files(settings, Provided(**{name: mine[name] for name in of_split})).made


def begin(folder: Path) -> None:
    """Makes the folder. Raises ConfigError if something is there: nothing is overwritten."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(
                f"--output {folder}: there are files in it, and nothing is overwritten; name a new folder"
            )
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be made ({error.strerror}); name a new folder") from None


def explained(differing: list[str], lost: tuple[int, int]) -> list[str]:
    """Differences, the one of the catalogue with its reason."""
    _, items = lost
    reason = f"catalogue: {items} of its items have no event that the split keeps, and so are in no file"
    return [reason if what == "catalogue" and items else what for what in differing]


def yaml(value: Any) -> str:
    """A plain value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def option(folder: Path, keys: Mapping[str, Any]) -> str:
    """dataset.yaml: an option of the group `dataset`."""
    lines = [
        "# @package _global_",
        "# A split that `recrun split` wrote. As conf/dataset/NAME.yaml it is dataset=NAME",
        "defaults:",
        "  - _events",
        "  - override /split: provided",
        "  - _self_",
        "",
    ]
    for section in ("dataset", "split"):
        lines.append(f"{section}:")
        if section == "dataset":
            lines.append(f"  path: {json.dumps(str(folder.absolute()), ensure_ascii=False)}   # where it was written")
        for key, value in keys.items():
            group, _, name = key.partition(".")
            if group == section and "." not in name:
                lines.append(f"  {name}: {yaml(value)}")
        if section == "dataset":
            lines += ["  filters:", f"    repeats: {keys['dataset.filters.repeats']}   # filtered already"]
    return "\n".join(lines) + "\n"


def readme(files: SplitFiles, written: Written, form: Form) -> str:
    """README.txt: what the files are, what a unit's evaluation is, and what reads them back."""
    units, items = files.without_events()
    made = files.made
    mark = {" ": "a blank", "|": "|", ",": "a comma", ";": "a semicolon"}[separator_of(made.items)]
    order = "timestamp: seconds since 1970" if files.log.time is not None else "the data have no times"
    rank = "order: a number by which the events of a unit are sorted" if files.log.rank is not None else "no order"
    recbole = (
        "RecBole: data_path = the folder above this one, dataset = this folder's name, benchmark_filename = "
        "[train, valid, test]\n"
        if form == "inter"
        else ""
    )
    same = (
        "; ".join(written.differences) or "nothing (training events, units, inputs, seen items, targets and catalogue)"
    )
    listed = "\n".join(f"  {name:<24} {rows:>12,} rows" for name, rows in written.rows.items())
    shown = "train_valid: validation events too" if made.test_input == "train_valid" else "train"
    return f"""A split of an event log, written by recrun {__version__}

{listed}

Columns: {files.unit_column}: the unit that is evaluated; item_id; {order}; {rank}
fold_in, if it is there: events of held-out units that are input at evaluation, and are not for training.
units/: a row for each unit that is evaluated: its input in order, the items it has seen (which rankings leave out) and
its targets, which are distinct; items are separated by {mark}. Input at test time: {shown}.
Every item of the catalogue is ranked: {len(made.items):,} items{f", {items:,} of them in no file" if items else ""}.
Units without an event in any file: {units:,}.
{recbole}
Read by recrun:

  recrun dataset.path=THIS_FOLDER {" ".join(written.words)}

or with dataset.yaml as conf/dataset/NAME.yaml in your working directory: recrun dataset=NAME
What differs when it is read back: {same}
dataset_fingerprint  {made.log_fingerprint}
split_fingerprint    {made.fingerprint()}
"""
