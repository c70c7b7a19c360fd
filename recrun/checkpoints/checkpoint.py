"""Checkpoints: written atomically, readable without executing anything, refused with a reason when they do not fit.

A checkpoint is a directory: `model.safetensors` (weights and buffers), `model.json` (what they are) and, where
training can go on from it, `state.pt` (loop, optimizer, scheduler, objective, random streams), which holds only
tensors and plain values.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recrun.checkpoints.metadata import CARD, STATE, WEIGHTS, exists, find, read_card, settle
from recrun.errors import CheckpointError

__all__ = [
    "CARD",
    "STATE",
    "WEIGHTS",
    "exists",
    "find",
    "load_state",
    "load_weights",
    "read_card",
    "read_weights",
    "save",
    "settle",
]


DIFFERS = {
    "dataset_fingerprint": "other data: rows, columns or tasks differ",
    "split_fingerprint": "another split of these data",
    "features_fingerprint": "other features of users or items",
}


def save(directory: Path, model: nn.Module, card: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> str:
    """Writes a checkpoint whole, or not at all: a reader sees the old one or the new one, even after `kill -9`.

    Args:
        directory: Where it goes; an earlier checkpoint there is replaced.
        model: Its parameters and buffers are saved.
        card: Plain values about the weights (stage, epoch, model config, dataset fingerprint …).
        state: What else is needed to go on training; tensors and plain values only.

    Returns:
        The sha256 of the weights' file.

    Raises:
        CheckpointError: The disk is full or cannot be written; the earlier checkpoint is untouched.
    """
    return write(directory, weights_of(model), card, state)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers on the CPU; those that are there already are not copied."""
    return {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}


def write(
    directory: Path, weights: Mapping[str, Tensor], card: Mapping[str, Any], state: Mapping[str, Any] | None
) -> str:
    """What `save` does, of weights on the CPU."""
    fresh = directory.with_name(directory.name + ".new")
    try:
        digest = write_files(fresh, weights, card, state)
        replace_directory(fresh, directory)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(
            f"cannot write {directory}: {error}. The checkpoint before it is whole; make room and resume the run"
        ) from None
    return digest


def write_files(
    fresh: Path, weights: Mapping[str, Tensor], card: Mapping[str, Any], state: Mapping[str, Any] | None
) -> str:
    """Writes the files of a checkpoint through to the disk."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file(without_ties(weights), fresh / WEIGHTS)
    digest = sha256(fresh / WEIGHTS)
    if state is not None:
        torch.save(dict(state), fresh / STATE)
    # The card is written last: a directory that has one is complete.
    (fresh / CARD).write_text(json.dumps({**card, "weights_sha256": digest}, indent=2) + "\n")
    for path in fresh.iterdir():
        flush(path)
    return digest


def without_ties(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of which no two share their memory, which the file format does not know: tied ones are stored twice."""
    seen: set[int] = set()
    found = {}
    for name, tensor in weights.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place and place in seen else tensor
        seen.add(place)
    return found


def replace_directory(fresh: Path, directory: Path) -> None:
    """Replaces `directory` by `fresh`. Between the two renames `settle` finds the complete new one."""
    old = directory.with_name(directory.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def flush(path: Path) -> None:
    """Forces a file's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(directory: Path, model: nn.Module, fingerprints: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Puts a checkpoint's weights into `model` and returns its card.

    Args:
        directory: A checkpoint directory.
        model: Must have exactly the checkpoint's parameter names and shapes; empty buffers take any shape.
        fingerprints: Of the data at hand, by name; a checkpoint that was trained on other data, another split or other
            features is refused. None = not checked.

    Raises:
        CheckpointError: Damaged, from another model, or from other data. The model is then as it was.
    """
    card = read_card(directory)
    for name, here in (fingerprints or {}).items():
        there = str(card.get(name))
        if there != here:
            raise CheckpointError(
                f"{directory} was trained on {DIFFERS[name]} ({name} {there[:12]}, here {here[:12]}); "
                "its training events may be your test events. Use the dataset and split settings of its run"
            )
    weights = read_weights(directory, card)
    refuse_other_shapes(directory, weights, dict(model.state_dict()))
    make_room(model, weights)
    model.load_state_dict(weights)
    return card


def make_room(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Gives empty buffers the shapes of a checkpoint: how much a solver stores is for the training events to say."""
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            there = weights.get(f"{prefix}.{name}" if prefix else name)
            if not buffer.numel() and there is not None:
                module.register_buffer(name, buffer.new_empty(there.shape))


def read_weights(directory: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU, after checking that the file is whole."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS}")
    if sha256(path) != card.get("weights_sha256"):
        raise CheckpointError(
            f"{path} is damaged or was changed ({path.stat().st_size:,} bytes): its sha256 is not the one in {CARD}"
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def refuse_other_shapes(directory: Path, there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError with the first difference in names or shapes."""
    for name in sorted(there.keys() | here.keys()):
        shapes = [tuple(side[name].shape) if name in side else None for side in (there, here)]
        if shapes[0] != shapes[1] and not takes_any_shape(here.get(name), there.get(name)):
            sizes = [f"{list(shape)}" if shape is not None else "absent" for shape in shapes]
            raise CheckpointError(
                f"{directory} is of another model: {name} is {sizes[0]} there and {sizes[1]} here. "
                f"Give the model settings in its {CARD}"
            )


def takes_any_shape(here: Tensor | None, there: Tensor | None) -> bool:
    """Whether a value is an empty buffer, see `make_room`, and the checkpoint has one of as many dimensions."""
    return here is not None and there is not None and not here.numel() and here.dim() == there.dim()


def load_state(directory: Path) -> dict[str, Any]:
    """The training state beside the weights.

    Raises:
        CheckpointError: Absent or unreadable.
    """
    path = directory / STATE
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise CheckpointError(f"{directory} has no {STATE}: training cannot go on from it") from None
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read: {reason}") from None
