"""Commands that use the stored weights of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recrun.commands import exchange
from recrun.commands.options import named_values, needed, opened, refuse_training_keys, split_named, whole_number
from recrun.console import report
from recrun.errors import ConfigError


def evaluate(words: list[str]) -> int:
    """`evaluate RUN [overrides]`: the stored weights, evaluated again; `evaluate --from LISTS`: see exchange."""
    if any(word.partition("=")[0] == "--from" for word in words):
        return exchange.evaluate_lists(words)
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
    from recrun.config.quoting import quoted
    from recrun.config.stored import recompose
    from recrun.config.validate import check

    refuse_training_keys("predict", overrides)
    if "--input" in values:
        overrides.append(
            f"{input_key(recompose(directory, overrides).config)}={quoted(str(Path(values['--input']).absolute()))}"
        )
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


def input_key(config: dict[str, Any]) -> str:
    """The key that `--input` sets: the data set's class says it."""
    from recrun.config.schema import signature

    key = signature(config["dataset"]["_target_"]).attributes.get("input_key")
    if key is None:
        raise ConfigError("--input: this data set has no key for new data; set dataset.path=… instead")
    return f"dataset.{key}"


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
