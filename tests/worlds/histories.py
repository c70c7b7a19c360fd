"""Small histories for tests."""

from recrun.data.events.retrieval import Retrieval

from recrun.config.compose import compose
from recrun.evaluation.full_ranking import FullRanking


def retrieval(path, **changes):
    """Histories of a file, ranked whole."""
    return Retrieval(FullRanking(("recall", "ndcg"), (5, 10)), **{"monitor": "ndcg@10", "path": str(path), **changes})


def events(histories):
    """Lines of a file: each user's items in order."""
    rows = [f"{user},{item},{at}" for user, items in histories.items() for at, item in enumerate(items)]
    return "\n".join(["user,item,time", *rows]) + "\n"


def composed(*words):
    """A config on small synthetic histories."""
    small = ["n_users=60", "n_items=40", "n_events=900", "n_genres=8"]
    return compose([*(f"dataset.source.{word}" for word in small), "dataset.his_size=6", *words])
