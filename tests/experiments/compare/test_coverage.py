"""How often 95 % intervals hold the truth, in worlds whose truth is known."""

import numpy as np
import pytest

from recrun.experiments.compare.compare import Estimates
from recrun.experiments.compare.runs import Setting
from recrun.experiments.compare.units import Block

METRIC = "ndcg@10"


def users(rng):
    """Two models and 300 users; values are 0 for most, skewed for the rest, and shared in part. Truth: 0.02."""
    taste = rng.beta(0.4, 1.6, 300)
    one, other = (np.where(rng.random(300) < 0.5, 0, taste * rng.uniform(0, 1, 300)) for _ in range(2))
    return np.array([[one + 0.02, other]]), np.ones(300), (1, 1), 0.02


def sessions(rng):
    """150 sessions of very different lengths; those that are long are easier, and for one model more so.

    A session's values lean together, so that events taken as independent would give intervals that are too short.
    """
    events = np.ceil(rng.lognormal(1.0, 1.0, 150))
    lean = rng.normal(0, 0.2, 150)
    noise = rng.normal(0, 0.5, (2, 150)) / np.sqrt(events)
    one, other = 0.3 + 0.05 * np.log(events) + lean + noise[0], 0.3 + noise[1]
    # E[n log n] / E[n] for n = ceil(lognormal) has no closed form: SESSION_TRUTH is a mean over 10^8 sessions.
    return np.array([[one, other]]), events / events.mean(), (1, 1), 0.05 * SESSION_TRUTH


SESSION_TRUTH = float(
    np.average(np.log(lengths := np.ceil(np.random.default_rng(1).lognormal(1.0, 1.0, 4_000_000))), weights=lengths)
)


def nested(spread):
    """400 users, two models of three seeds each; a seed moves all users by `spread` at random. Truth: 0.01."""

    def world(rng):
        taste = rng.beta(0.5, 1.5, 400)
        values = taste + rng.normal(0, 0.15, (6, 400)) + spread * rng.normal(size=(6, 1))
        values[:3] += 0.01 + rng.normal(0, 0.1, 400)
        return values[None], np.ones(400), (3, 3), 0.01

    return world


WORLDS = {
    "users": users,
    "sessions": sessions,
    "seeds_vary_less_than_users": nested(0.002),
    "seeds_vary_as_users": nested(0.008),
    "seeds_vary_most": nested(0.05),
}


def held(world, worlds, seed=0):
    """The share of worlds in which the interval of the difference holds the truth."""
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(worlds):
        values_MRU, weights_U, seeds, truth = world(rng)
        settings = [Setting(name, (None,) * count) for name, count in zip("ab", seeds, strict=True)]
        found = Estimates(settings, Block("users", (METRIC,), values_MRU, weights_U)).comparison((0, 1), METRIC)
        inside += found.interval.low <= truth <= found.interval.high
    return inside / worlds


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_truth(name):
    """Of 100 intervals 90 to 99 do: the chance of that is over 0.97 at 95 %, below 0.35 at 85 % … fixed seed."""
    assert 0.90 <= held(WORLDS[name], 100) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_truth_in_1000_worlds(name):
    share = held(WORLDS[name], 1000, seed=1)
    print(f"{name}: {share:.1%}")  # noqa: T201
    assert 0.93 <= share <= 0.97
