"""Small histories for tests."""

from recrun.config.compose import compose
from recrun.data.loaders.histories import Histories
from recrun.evaluation.full_ranking import FullRanking
from worlds.events import event_data

LOADER_KEYS = ("his_size", "rows", "num_negatives", "negatives", "sampler", "sample_alpha", "avoid_positives")


def retrieval(path, split="leave_last_out", filters=None, **keys):
    """Histories of a file, ranked whole; keys are those of the loader or of the data set."""
    loader = Histories(**{name: keys.pop(name) for name in LOADER_KEYS if name in keys})
    evaluator = keys.pop("evaluator", FullRanking(("recall", "ndcg"), (5, 10), "ndcg@10"))
    return event_data(path, split, loader, evaluator, {"repeats": "first", **(filters or {})}, **keys)


def events(histories):
    """Lines of a file: each user's items in order."""
    rows = [f"{user},{item},{at}" for user, items in histories.items() for at, item in enumerate(items)]
    return "\n".join(["user,item,time", *rows]) + "\n"


def composed(*words):
    """A config on small synthetic histories, for models that read such."""
    small = ["n_users=60", "n_items=40", "n_events=900", "n_genres=8"]
    source = [f"dataset.source.{word}" for word in small]
    return compose(["dataset=synthetic_histories", *source, "loader.his_size=6", *words])
