"""What the weights of a finished run are good for: predictions and embeddings, written to files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, TypeAlias

import numpy as np
import torch
from torch import nn

from recrun.checkpoints import checkpoint
from recrun.config.schema import signature
from recrun.errors import ConfigError, DataError, RecrunError
from recrun.evaluation.finite import NaNLast
from recrun.evaluation.top_k import top_k
from recrun.experiments.build import build_model
from recrun.experiments.load import Loaded, load, refuse_other_model, vocabulary
from recrun.experiments.outputs import refuse_overwriting
from recrun.interfaces import Dataset
from recrun.runtime.escapes import from_lines, in_array, in_cells
from recrun.types import Side, Split

Score: TypeAlias = tuple[str, float]  # an item's id and its score

PREDICTION = "prediction.txt"  # the name that leaderboards expect inside a .zip


def predict(directory: Path, config: Mapping[str, Any], split: Split, output: Path, k: int | None = None) -> int:
    """Writes what the data set's evaluator makes of the model's scores: a line per impression, ranked item, ….

    Args:
        directory: A run directory.
        config: The run's config, perhaps with changes.
        split: Whose units are scored; labels are not needed.
        output: The file; a zip archive with prediction.txt in it, if its name ends in .zip.
        k: Items of each unit, where the evaluator ranks the catalogue; its largest cut-off by default.

    Returns:
        Lines written.

    Raises:
        ConfigError: The file cannot be written, or `k` means nothing to the evaluator.
        DataError: The data have no such part, or an id that would break its row.
    """
    refuse_folder(output, "")
    refuse_overwriting(output, directory, config)
    refuse_k(config, k)
    loaded = load(directory, config)
    for name, ids in loaded.dataset.vocabulary().items():
        if name in ("users", "items"):
            in_cells(ids, name[:-1])
    lines = (f"{line}\n" for line in predictions(loaded, split, k))
    first = next(lines)
    count = 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        if output.suffix == ".zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(PREDICTION, "w") as inner:
                count = write_lines(inner, first, lines)
        else:
            count = write_lines(file, first, lines)

    replace(output, write)
    return count


def predictions(loaded: Loaded, split: Split, k: int | None = None) -> Iterator[str]:
    """The lines of `predict`, at least one.

    Raises:
        DataError: The data have no such split.
    """
    model, dataset, device, _ = loaded
    evaluator: Any = copy(dataset.evaluator)
    if k is not None:
        evaluator.ks = [k]  # as `refuse_k` found
    lines: Iterator[str] = evaluator.predict(model, dataset, split, device)
    first = next(lines, None)
    if first is None:
        raise nothing_in(dataset, split, "nothing to predict for")
    return chain([first], lines)


def embed(directory: Path, config: Mapping[str, Any], side: Side, split: Split, output: Path) -> int:
    """Writes the ids and vectors of a split's users or items.

    Args:
        directory: A run directory.
        config: The run's config, perhaps with changes.
        side: Whose vectors.
        split: Whose histories, or whose item file where each part has its own.
        output: .npz with `ids` and `vectors` [n, width], or .tsv with an id and its numbers in each line.

    Returns:
        Vectors written.

    Raises:
        ConfigError: The model has no such vectors, or the file another ending.
    """
    refuse_folder(output, ".npz", ".tsv")
    refuse_overwriting(output, directory, config)
    refuse_no_vectors(config, side)
    names, table = vectors(load(directory, config), side, split)

    def write(file: IO[bytes]) -> None:
        if output.suffix == ".npz":
            np.savez(file, ids=in_array(names), vectors=table)
        else:
            rows = zip(in_cells(names, side), table.tolist(), strict=True)
            file.writelines(("\t".join([name, *(f"{x:.7g}" for x in row)]) + "\n").encode() for name, row in rows)

    replace(output, write)
    return len(names)


def session_model(directory: Path, config: Mapping[str, Any]) -> tuple[list[str], nn.Module]:
    """Ids of the items and the model of a run, in eval mode and on the CPU; without its data."""
    ids = from_lines(vocabulary(directory / "vocabulary" / "items.txt")).tolist()
    weights = checkpoint.find(directory)
    refuse_other_model(weights, config["model"])
    model = build_model(config, SimpleNamespace(sizes={"n_items": len(ids)})).eval()
    checkpoint.load_weights(weights, model)
    return ids, model


def refuse_no_vectors(config: Mapping[str, Any], side: Side) -> None:
    """Raises ConfigError if a model has no vectors of users, or of items."""
    target = config["model"]["_target_"]
    if f"embed_{side}s" not in signature(target).members:
        raise ConfigError(f"{target} has no {side} embeddings: it has no method embed_{side}s")


def vectors(loaded: Loaded, side: Side, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Ids, text [n], and vectors, float32 [n, width], of a split's users or items.

    Raises:
        DataError: There are none.
    """
    model, dataset, device, _ = loaded
    ids, rows = [], []
    with torch.inference_mode(), device.autocast():
        for names, batch in dataset.entities(side, split):
            ids.append(names)
            rows.append(getattr(model.eval(), f"embed_{side}s")(device.move(batch)).float().cpu().numpy())
    if not ids:
        raise nothing_in(dataset, split, f"no {side}s")
    return np.concatenate(ids), np.concatenate(rows)


def next_items(directory: Path, config: Mapping[str, Any], session: Sequence[str], k: int) -> tuple[list[Score], int]:
    """The best next items of one session. Needs no data: a run keeps the ids of its items.

    Args:
        directory: A run directory of a model that reads sessions.
        config: The run's config.
        session: Ids of the session's items, in order; unknown ones are ignored.
        k: How many.

    Returns:
        (item, score), best first; how many ids are unknown.

    Raises:
        ConfigError: The model reads no sessions, or knows none of the items.
    """
    target = config["model"]["_target_"]
    if not signature(target).attributes.get("encodes_sequences"):
        raise ConfigError(f"--session: {target} reads no sessions")
    ids, model = session_model(directory, config)
    number = {name: index for index, name in enumerate(ids)}
    known = [number[name] for name in session if name in number]
    if not known:
        raise ConfigError(f"--session: the model knows none of the items {', '.join(session)}")
    batch = {"items": torch.tensor(known), "items_offsets": torch.tensor([0, len(known)])}
    with torch.inference_mode():
        scores = NaNLast("this session")(model(batch))
    best = top_k(scores, k)[0]
    return [(ids[item], float(scores[0, item])) for item in best.tolist()], len(session) - len(known)


def nothing_in(dataset: Dataset, split: Split, found: str) -> DataError:
    """For a split that is absent or empty; names the split that is not."""
    other: Split = "valid" if split == "test" else "test"
    there = next(iter(dataset.eval_batches(other, 1)), None)
    return DataError(f"the {split} split has {found}{f'; there is a {other} split: --split {other}' if there else ''}")


def refuse_k(config: Mapping[str, Any], k: int | None) -> None:
    """Raises ConfigError for a number of items where the evaluator does not rank a catalogue."""
    target = config["evaluator"]["_target_"] if k is not None else ""
    if target and not signature(target).attributes.get("ranks_catalogue"):
        raise ConfigError(f"--k {k}: {target} does not rank a catalogue; all candidates or rows are predicted")


def refuse_folder(output: Path, *endings: str) -> None:
    """Raises ConfigError, before anything is computed, for a file that cannot be written."""
    if endings != ("",) and output.suffix not in endings:
        raise ConfigError(f"--output {output}: the name must end in {' or '.join(endings)}")
    if not output.parent.is_dir() or output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output {output}: not a file that can be written; is {output.parent} a folder?")


def write_lines(file: IO[bytes], first: str, others: Iterable[str]) -> int:
    """Writes lines; returns how many."""
    file.write(first.encode())
    count = 1
    for line in others:
        file.write(line.encode())
        count += 1
    return count


def replace(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Puts a whole new file in place, or none; writes into a device or a pipe, which stays what it is.

    Raises:
        RecrunError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                write(file)
            return
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            write(file)
        temporary.replace(path)
    except OSError as error:
        raise RecrunError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
