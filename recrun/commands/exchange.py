"""Commands that exchange splits and recommendation lists with other programs."""

from __future__ import annotations

import shlex
from pathlib import Path

from recrun.commands.options import TRAINING, named_values, needed, split_named
from recrun.console import report
from recrun.errors import ConfigError


def split(words: list[str]) -> int:
    """`split [overrides] --output DIR [--format tsv|inter]`: the split of a data set, as files."""
    values, overrides = named_values("split", words, ("--output", "--format"))
    output, form = needed(values, "--output", "split", "[key=value …]"), values.get("--format", "tsv")
    if form not in ("tsv", "inter"):
        raise ConfigError(f"--format {form}: expected tsv, or inter for RecBole's files")
    from recrun.config.compose import compose
    from recrun.config.validate import check

    composed = compose(overrides)
    check(composed, training=False)
    from recrun.experiments.write_split import write_split

    written = write_split(composed.config, Path(output), "inter" if form == "inter" else "tsv")
    report.listing(output, [(name, f"{rows:,} rows") for name, rows in written.rows.items()])
    report.text(f"to read it: recrun {shlex.quote(f'dataset.path={output}')} {' '.join(written.words)}")
    if not written.differences:
        report.text("read back: the same training events, units, inputs, seen items, targets and catalogue")
    for what in written.differences:
        report.note(f"warning: not the same when read back: {what}")
    return 0


def evaluate_lists(words: list[str]) -> int:
    """`evaluate --from LISTS [--split SPLIT] [--name NAME] [overrides]`: another program's lists, as a run."""
    values, overrides = named_values("evaluate", words, ("--from", "--split", "--name"))
    path, split = Path(needed(values, "--from", "evaluate", "[key=value …]")), split_named(values)
    from recrun.config.compose import compose
    from recrun.config.composition import key_of
    from recrun.config.validate import check

    for word in overrides:
        key = key_of(word).partition(".")[0]
        if key in ("model", "loader", *TRAINING) and key not in ("seed", "output_dir", "tags"):
            raise ConfigError(f"{word} changes nothing: evaluate --from evaluates the lists of {path}")
    if not path.is_file():
        raise ConfigError(f"--from {path}: there is no such file")
    composed = compose(overrides)
    check(composed, training=False)
    from recrun.experiments.lists import evaluate_file

    directory, found = evaluate_file(composed, path, split, values.get("--name"))
    report.listing(f"{path}: {split}", [(name, f"{value:.4f}") for name, value in found.pop("metrics").items()])
    report.listing("lists", [(name.replace("_", " "), f"{count:,}") for name, count in found.items()])
    report.text(str(directory))
    return 0
