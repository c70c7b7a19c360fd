"""Vectors of items: from a file, or from the training events."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

import numpy as np
from scipy.sparse.linalg import svds

from recrun.errors import DataError
from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import interaction_matrix


def vectors_from_file(path: str, item_ids: Sequence[object]) -> np.ndarray:
    """Vectors of the items of a catalogue, in its order, float64 [I, D], from what `recrun embed --side item` writes.

    Args:
        path: A .npz file with `ids` [n] and `vectors` [n, D].
        item_ids: Of the catalogue.

    Raises:
        DataError: The file is not such a one, has an item twice or lacks some, or has numbers that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, vectors = stored["ids"], stored["vectors"]
    except FileNotFoundError:
        raise DataError(f"model.item_vectors={path} does not exist") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a .npz file with the arrays ids and vectors ({error})") from None
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or ids.shape != vectors.shape[:1]:
        raise DataError(
            f"{path}: expected ids [n] and vectors [n, width] of numbers, found {ids.shape} and {vectors.dtype} "
            f"{vectors.shape}"
        )
    row = {str(name): at for at, name in enumerate(ids.tolist())}
    if len(row) < len(ids):
        raise DataError(f"{path}: {len(ids) - len(row)} ids occur twice; leave one vector for each")
    names = [str(name) for name in item_ids]
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(f"{path} has no vector for {len(missing)} of {len(names)} items, such as {missing[0]}")
    found: np.ndarray = vectors[[row[name] for name in names]].astype(np.float64)
    if not np.isfinite(found).all():
        name = names[int(np.flatnonzero(~np.isfinite(found).all(1))[0])]
        raise DataError(f"{path}: the vector of item {name} has numbers that are not finite")
    return found


def collaborative_vectors(events: TrainingEvents, rank: int) -> np.ndarray:
    """Rows of Q S of the truncated decomposition X = P S Q^T of the training matrix, of length 1, float64 [I, D].

    Items that nobody took in training have 0. D is `rank`, or one less than the units or items are.
    """
    matrix = interaction_matrix(events).astype(np.float64)
    rank = max(1, min(rank, min(matrix.shape) - 1))
    start = np.random.default_rng(0).random(min(matrix.shape))
    _, values, vectors = svds(matrix, rank, v0=start)
    found = (vectors * values[:, None]).T[:, ::-1]
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
    return unit
