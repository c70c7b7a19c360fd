"""Options and keys that have other names now: an old one that is typed names the new one."""

import pytest

from recrun.config import renamed
from recrun.config.compose import composer
from recrun.config.schema import signature
from recrun.config.search_path import conf_dir, options, target_in
from recrun.config.validate import check
from recrun.errors import ConfigError

FREE = {
    "dataset.split": "dataset.split cannot be set: choose split=…",
    "dataset.evaluator": "dataset.evaluator cannot be set: choose evaluator=…",
}


@pytest.fixture(scope="module")
def shipped():
    """Composes from the shipped files alone, reading a choice of them once."""
    with composer([conf_dir()]) as compose_one:
        yield compose_one


@pytest.mark.parametrize(("old", "new"), renamed.KEYS.items())
def test_an_old_key_names_the_new_one(old, new, shipped):
    with pytest.raises(ConfigError) as error:
        check(shipped(["model=dssm", f"{old}=1"]))
    assert str(error.value).splitlines()[0] == FREE.get(old, f"unknown key {old}; it is now {new}")


@pytest.mark.parametrize("new", sorted(set(renamed.KEYS.values()) - {"split", "evaluator"}))
def test_every_new_key_is_one(new):
    """Of some option of its group, or of the filters of an event log."""
    group, _, key = new.partition(".")
    if key.startswith("filters."):
        assert key.removeprefix("filters.") in signature("recrun.data.events.filters.Filters").fields
        return
    targets = [target for path in options(group, [conf_dir()]).values() if (target := target_in(path))]
    assert any(key in signature(target).fields for target in targets)


@pytest.mark.parametrize(("old", "new"), renamed.DATASETS.items())
def test_an_old_data_set_names_the_words_to_type(old, new, shipped):
    with pytest.raises(ConfigError) as error:
        shipped([f"dataset={old}"])
    assert str(error.value) == f"dataset={old} is now dataset={new}"
    path = ["dataset.path=x"] if new.startswith("interactions") else []
    check(shipped(["model=dssm", *f"dataset={new}".split(), *path]))


def test_a_key_under_an_old_one_and_one_that_never_was():
    assert renamed.hint("dataset.evaluator.ks") == "; it is now evaluator.ks"
    assert renamed.hint("dataset.colour") == ""
