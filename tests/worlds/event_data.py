"""Event logs of a few lines for tests, put together from a config as a run does it."""

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.experiments.build import build_dataset


def config_of(*words):
    """A checked config, without the cache."""
    composed = compose([*words, "dataset.cache=null", "device=cpu", "threads=1"])
    check(composed)
    return composed.config


def file_of(folder, sets):
    """A file of each unit's items, in order."""
    rows = [f"u{unit},i{item}" for unit, items in enumerate(sets) for item in items]
    path = folder / "events.csv"
    path.write_text("\n".join(["user,item", *rows]) + "\n")
    return path


def data_of(path, *words):
    """The data set of a file, and the config."""
    config = config_of("dataset=interactions", f"dataset.path={path}", *words)
    return build_dataset(config), config
