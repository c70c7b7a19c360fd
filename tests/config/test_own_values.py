"""Keys that a file sets for the option that it chose go with it; what is typed and what is misspelt stay."""

import pytest

from recrun.config.compose import compose, composer
from recrun.config.search_path import conf_dir
from recrun.config.validate import check
from recrun.errors import ConfigError


@pytest.fixture(scope="module")
def shipped():
    """Composes from the shipped files alone, reading a choice of them once."""
    with composer([conf_dir()]) as compose_one:
        yield compose_one


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """./conf of an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "conf"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# @package _global_\n" + "\n".join(lines) + "\n")


def section(group, *words, compose_one=compose):
    """A group's keys in a config that passes."""
    composed = compose_one(words)
    check(composed)
    return composed.config[group]


def test_a_split_typed_over_that_of_the_data_set_has_its_own_keys_alone(shipped):
    words = ["model=gru4rec", "dataset=rsc15"]
    assert section("split", *words, compose_one=shipped)["valid_days"] == 1
    changed = section("split", *words, "split=random", compose_one=shipped)
    assert "valid_days" not in changed
    assert changed["catalogue"] == "train", "what the other split has too is the data set's wish still"
    assert section("split", *words, "split=last_days", compose_one=shipped)["valid_days"] == 1
    large = section("split", "model=mult_vae", "dataset=ml_20m", "split=random", compose_one=shipped)
    assert "heldout_users" not in large


def test_what_is_typed_for_the_other_split_is_refused_all_the_same(shipped):
    with pytest.raises(ConfigError, match=r"unknown key split\.valid_days"):
        check(shipped(["model=gru4rec", "dataset=rsc15", "split=random", "split.valid_days=1"]))


def test_an_experiment_that_chooses_over_its_data_set(folder):
    write(folder / "experiment/mine.yaml", "defaults:", "  - override /model: gru4rec", "  - override /dataset: rsc15")
    assert section("split", "experiment=mine")["valid_days"] == 1
    with (folder / "experiment/mine.yaml").open("a") as file:
        file.write(
            "  - override /split: fraction\n  - override /evaluator: full_ranking\nsplit: {test_fraction: 0.2}\n"
        )
    found = section("split", "experiment=mine")
    assert (found["test_fraction"], found["valid_fraction"], found["catalogue"]) == (0.2, 0.1, "train")
    assert "valid_days" not in found
    assert section("evaluator", "experiment=mine")["monitor"] == "ndcg@100"


def test_a_choice_within_brackets_counts_too(folder):
    lines = ["defaults: [override /model: gru4rec, override /dataset: rsc15, override /split: random]"]
    write(folder / "experiment/mine.yaml", *lines)
    assert "valid_days" not in section("split", "experiment=mine")


def test_a_loader_typed_over_that_of_the_model(shipped):
    own = section("loader", "model=sasrec", compose_one=shipped)
    assert own["rows"] == "sequences"
    with pytest.raises(
        ConfigError, match=r"model=sasrec \(conf/model/sasrec.yaml\) reads histories, but loader=session_"
    ):
        check(shipped(["model=sasrec", "loader=session_parallel"]))


def test_an_evaluator_typed_over_that_of_an_experiment(folder):
    write(
        folder / "experiment/mine.yaml",
        *("defaults:", "  - override /model: mult_vae", "  - override /evaluator: next_item"),
        *("evaluator:", "  ties: median", "  ks: [7]"),
    )
    assert section("evaluator", "experiment=mine")["ties"] == "median"
    found = section("evaluator", "experiment=mine", "evaluator=full_ranking")
    assert "ties" not in found
    assert found["ks"] == [7]


@pytest.mark.parametrize("typed", [[], ["seed=1"], ["evaluator.ks=[5]"]])
def test_a_misspelt_key_in_a_file_is_refused(folder, typed):
    write(folder / "dataset/mine.yaml", "defaults: [rsc15, _self_]", "split: {valid_dasy: 2}")
    with pytest.raises(ConfigError, match=r"unknown key split\.valid_dasy; did you mean 'valid_days'\?"):
        check(compose(["model=gru4rec", "dataset=mine", *typed]))
