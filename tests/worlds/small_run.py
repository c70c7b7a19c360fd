"""A small finished run of one stage, made once, and copies of it to be damaged."""

import shutil

from recrun.config.compose import compose
from recrun.experiments import run
from recrun.experiments.directories import prepare

WORDS = [
    *("model=mult_vae", "model.mlp_hidden_size=[6]", "model.latent_dimension=3", "threads=1", "epochs=1"),
    *("dataset.source.n_users=40", "dataset.source.n_items=20", "dataset.source.n_interactions=400"),
    *("dataset.cache=null", "device=cpu"),
]


def finished(folder, *words):
    """A finished run under a folder."""
    directory = prepare(compose([*WORDS, f"output_dir={folder}", *words]))
    run.execute(directory)
    return directory


def copy_of(directory, place):
    """A run directory copied elsewhere, links as they are."""
    shutil.copytree(directory, place, symlinks=True)
    return place


def snapshot(folder, *besides):
    """What is in a folder: of each file its content, of each link its target; some folders left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if any(path.is_relative_to(other) for other in besides):
            continue
        found[str(path.relative_to(folder))] = (
            ("link", str(path.readlink())) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        )
    return found
