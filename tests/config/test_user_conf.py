"""A conf folder beside one's work: it adds options, which say where they belong; and paths of all sorts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun import cli
from recrun.config.compose import compose, composer
from recrun.config.quoting import quoted
from recrun.config.validate import check
from recrun.errors import ConfigError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_main_config_of_another_program_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "conf/config.yaml", "defaults: [_self_]\ndb: mysql\n")
    write(tmp_path / "conf/split/mine.yaml", "_target_: recrun.data.events.splits.Random\nvalid_fraction: 0.25\n")
    composed = compose(["model=mult_vae", "split=mine"])
    check(composed)
    assert "db" not in composed.config
    assert composed.config["split"]["valid_fraction"] == 0.25


MISSING = {
    "experiment": ("defaults:\n  - override /model: ease\n", "_global_"),
    "model": ("model: {_target_: recrun.models.ease.EASE}\n", "_global_"),
    "dataset": ("dataset: {path: x.csv}\n", "_global_"),
    "objective": ("_target_: recrun.models.autoencoder.Elbo\n", "trainer.objective"),
    "optimizer": ("_target_: torch.optim.Adam\n_partial_: true\n", "trainer.optimizer"),
    "scheduler": ("scheduler: null\n", "trainer"),
    "stage": ("lr: 0.1\n", "stage.mine"),
}


@pytest.mark.parametrize("group", MISSING)
def test_an_option_that_does_not_say_where_it_belongs_is_refused_with_the_missing_line(tmp_path, monkeypatch, group):
    monkeypatch.chdir(tmp_path)
    text, package = MISSING[group]
    write(tmp_path / f"conf/{group}/mine.yaml", text)
    with pytest.raises(ConfigError, match=rf"conf/{group}/mine.yaml:1: the first line must be\n# @package {package}"):
        check(compose([f"{group}=mine"]))


@pytest.mark.parametrize("model", ["gru4rec", "mult_vae"])
def test_an_objective_of_labels_is_not_for_positives_alone(model):
    with pytest.raises(ConfigError, match=r"objective=pointwise compares scores with labels, and loader=\w+ has none"):
        check(compose([f"model={model}", "objective=pointwise"]))


@given(
    st.text(
        st.characters(exclude_characters="\n\r\0$", exclude_categories=["Cs", "Cc"]) | st.sampled_from("'\\\" ,"),
        min_size=1,
    )
)
def test_any_text_in_quotes_is_itself(text):
    with composer() as compose_one:
        (override,) = compose_one.parse([f"dataset.path={quoted(text)}"])
    assert str(override.value()) == text


def test_a_path_that_cannot_be_read_is_shown_in_quotes(capsys):
    for name, typed in (("ü x.csv", "\"dataset.path='ü x.csv'\""), ("a,b.csv", "\"dataset.path='a,b.csv'\"")):
        assert cli.main(["describe", "dataset=interactions", f"dataset.path={name}"]) == 2
        assert f"needs quotes: {typed}" in capsys.readouterr().err
