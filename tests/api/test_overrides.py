"""Python values as words of the command line: what is given is what the config holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.api.overrides import literal, several, words_of
from recrun.config.compose import composer
from recrun.errors import ConfigError

TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6) | TEXTS,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def compose():
    with composer() as made:
        yield made


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
def test_a_value_comes_back_from_hydra_as_it_was(compose, value):
    assert compose.parse([f"key={literal(value)}"])[0].value() == value


def test_nested_keys_and_later_ones_win(compose):
    words, tables = words_of([{"model": "ease", "trainer": {"lr": np.float64(0.5)}}, "trainer.lr=0.1"])
    assert (words, tables) == (["model=ease", "trainer.lr=0.5", "trainer.lr=0.1"], [])


def test_a_node_is_one_value():
    words, _ = words_of([{"dataset.source": {"_target_": "a.B", "n": 3}}])
    assert words == ["dataset.source={_target_:a.B,n:3}"]


def test_a_table_brings_the_data_set_unless_one_is_chosen():
    pairs = np.array([[1, 2]])
    words, tables = words_of([{"dataset": pairs}])
    assert words == ["dataset=interactions", f"dataset.path='{tables[0].name}'"]
    words, tables = words_of(["dataset=sessions"], pairs)
    assert words == ["dataset=sessions", f"dataset.path='{tables[0].name}'"]


def test_several_values():
    assert several({"seed": range(3), "model": ["ease", "1"]}) == ["seed=0,1,2", "model=ease,'1'"]
    assert several({"lr": "interval(0,1)", "k": [1, 2]}, searched=True) == ["lr=interval(0,1)", "k=choice(1,2)"]
    for bad in ({"model": "ease"}, {"seed": 3}, {"seed": []}):
        with pytest.raises(ConfigError, match=r"one value|sweeps over nothing"):
            several(bad)
