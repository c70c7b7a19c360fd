"""Synthetic logs: seeded, of the promised size, with a structure to learn."""

import inspect

import numpy as np
import pytest
from worlds.events import event_data

from recrun.data.events.synthetic import LatentTaste
from recrun.data.events.synthetic_histories import Watchers
from recrun.data.events.synthetic_sessions import MarkovSessions
from recrun.data.loaders.histories import Histories
from recrun.data.loaders.session_parallel import SessionParallel
from recrun.data.loaders.user_rows import UserRows
from recrun.errors import ConfigError


def equal(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("item", "items", "user", "users", "session", "sessions", "time")
        if getattr(one, name) is not None
    )


@pytest.mark.parametrize("source", [LatentTaste, Watchers, MarkovSessions])
def test_same_arguments_same_events(source):
    events, other = source().events(), source(seed=1).events()
    assert equal(events, source().events())
    assert not np.array_equal(events.item[:500], other.item[:500])
    assert source().identity() == source().identity()
    assert source().identity() != source(seed=1).identity()
    assert events.counts == {"rows_read": len(events)}
    assert events.item.dtype == np.int32
    assert np.isfinite(events.time).all()


@pytest.mark.parametrize("source", [LatentTaste, Watchers, MarkovSessions])
def test_an_identity_holds_every_argument(source):
    """Else the cache would take one log for another."""
    plain = source().identity()
    for name, parameter in inspect.signature(source).parameters.items():
        default = parameter.default
        changed = default + 1 if default >= 1 or isinstance(default, int) else default * 0.9
        assert source(**{name: changed}).identity() != plain, name


# ---- users with tastes


@pytest.fixture(scope="module")
def events():
    return LatentTaste().events()


def matrix(events):
    dense = np.zeros((len(events.users), len(events.items)))
    dense[events.user, events.item] = 1
    return dense


def test_size_and_activity(events):
    assert 0.97 * 60_000 < len(events) <= 1.01 * 60_000
    pairs = events.user.astype(np.int64) * 1000 + events.item
    assert (np.diff(pairs) > 0).all()  # sorted and distinct
    activity = np.bincount(events.user, minlength=2000)
    assert activity.min() >= 5
    assert activity.max() > 5 * np.median(activity)  # lognormal: a few are very active


def test_popularity_is_skewed(events):
    popularity = np.sort(np.bincount(events.item, minlength=1000))[::-1]
    assert popularity[:100].mean() > 5 * popularity[-500:].mean()


def test_neighbours_know_more_than_popularity(events):
    """Half of each user's items, scored by co-occurrence with the other half, rank above popular ones."""
    dense = matrix(events)
    rng = np.random.default_rng(0)
    shown = dense * (rng.random(dense.shape) < 0.5)
    hidden = dense - shown
    together = shown.T @ shown
    norm = np.sqrt(np.maximum(np.diag(together), 1))
    scores = {"neighbours": shown @ (together / norm / norm[:, None]), "popularity": shown.sum(0) + 0 * shown}
    recall = {}
    for name, score in scores.items():
        score[shown > 0] = -np.inf
        top = np.argsort(-score, axis=1)[:, :50]
        recall[name] = np.take_along_axis(hidden, top, 1).sum() / hidden.sum()
    assert recall["neighbours"] > 1.5 * recall["popularity"]


def test_times_say_nothing(events):
    assert abs(np.corrcoef(events.time, np.arange(len(events)))[0, 1]) < 0.02


def test_chunks_do_not_show(monkeypatch):
    monkeypatch.setattr("recrun.data.events.synthetic.DRAWS_AT_ONCE", 500)
    events = LatentTaste(300, 100, 3000, 5).events()
    assert 2900 < len(events) <= 3030
    assert len(np.unique(events.user)) == 300


@pytest.mark.parametrize("sizes", [(1, 2, 1, 1), (3, 7, 10, 20), (50, 20, 100, 1)])
def test_tiny_sizes(sizes):
    events = LatentTaste(*sizes).events()
    assert len(events) >= 1
    assert events.item.max() < sizes[1]


def test_too_dense_is_refused():
    with pytest.raises(ConfigError, match=r"dataset.source.n_interactions=60 is more than half of n_users x n_items"):
        LatentTaste(10, 10, 60)


# ---- watchers


def test_watchers_stay_with_a_genre_that_their_segment_likes():
    events, (users, items) = Watchers(seed=3).events(), Watchers(seed=3).sides()
    genre = np.array([tags.split()[0] for tags in items.columns["tags"]])[events.item]
    within = events.user[1:] == events.user[:-1]
    # A tenth is of any genre; else 0.7 stay with the genre, and of those who turn a third come back to it.
    assert (genre[1:] == genre[:-1])[within].mean() == pytest.approx(0.81 * 0.8, abs=0.03)
    segment = users.columns["segment"][events.user]
    for name in np.unique(segment.astype(str)):
        counts = np.sort(np.unique(genre[segment == name], return_counts=True)[1])
        assert counts[-3:].sum() > 0.85 * counts.sum()


def test_watchers_are_described():
    events, (users, items) = Watchers(50, 30, 500).events(), Watchers(50, 30, 500).sides()
    assert users.ids.tolist() == [str(user) for user in events.users.tolist()]
    assert items.ids.tolist() == [str(item) for item in events.items.tolist()]
    assert set(users.columns) == {"segment", "device"}
    assert set(items.columns) == {"year", "tags"}


# ---- sessions


def test_synthetic_sessions_are_sized_and_learnable():
    events = MarkovSessions().events()
    assert 30_000 <= len(events) < 30_100
    lengths = np.bincount(events.session)
    assert lengths.min() == 2
    assert lengths.mean() == pytest.approx(5, abs=0.2)
    popularity = np.sort(np.bincount(events.item))[::-1]
    assert popularity[:50].sum() > 3 * popularity[-250:].sum()
    within = events.session[1:] == events.session[:-1]
    pair = events.item[:-1].astype(np.int64)[within] * 500 + events.item[1:][within]
    _, often = np.unique(pair, return_counts=True)
    assert np.sort(often)[::-1][:5000].sum() > 0.7 * len(pair)  # ten successors of each item
    assert (np.diff(events.time)[within] > 0).all()


# ---- as data sets


@pytest.mark.parametrize("loader", [UserRows(), Histories(), SessionParallel()], ids=["sets", "histories", "sessions"])
@pytest.mark.parametrize("split", ["random", "temporal", "leave_last_out", "strong", "fraction"])
def test_all_splits_and_loaders_work(split, loader):
    data = event_data(LatentTaste(200, 100, 3000, 5), split, loader)
    assert data.sizes["n_users"] == 200
    assert len(data.rankings("test")) > 0
    assert next(data.train_batches(16, np.random.default_rng(0)))["items"].numel() > 0


def test_synthetic_sessions_are_held_out_by_days():
    data = event_data(MarkovSessions(n_events=3000), "last_days", SessionParallel())
    assert data.log.assignment.whole_units
    assert len(data.next_items("valid")) > 50
    assert len(data.next_items("test")) > 50


def test_a_provided_split_is_refused():
    with pytest.raises(ConfigError, match="split=provided needs files"):
        event_data(LatentTaste(20, 10, 50, 2), "provided")
