"""Spaces in files, YAML or of RecBole's form, give the words that one would type; a bad line is named."""

import math
from pathlib import Path

import pytest

from recrun import cli
from recrun.config.compose import compose, composer
from recrun.config.search_path import search_path
from recrun.config.search_space import Choices, Interval, read_space
from recrun.config.space_files import with_space
from recrun.errors import ConfigError

RECBOLE = """\
# RecBole's form
learning_rate choice [0.01,0.005]
train_batch_size   choice [64, 128]

dropout_prob uniform 0.0,0.5
latent_dimension randint 8,64
trainer.patience quniform 2,9,3
weight_decay loguniform -8,0
mlp_hidden_size choice ['[600]', '[600,300]']
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The space of a file's text for a model."""
    monkeypatch.chdir(tmp_path)

    def space(text, *words, name="space.hyper"):
        Path(name).write_text(text)
        config = compose([*words]).config
        found = with_space(words, name, search_path(), config)
        with composer() as compose_one:
            return read_space(found, compose_one).dimensions

    return space


def test_recboles_form_is_read(read):
    found = read(RECBOLE.replace("weight_decay", "trainer.optimizer.weight_decay"), "model=mult_vae")
    assert found == {
        "trainer.lr": Choices("trainer.lr", ("0.01", "0.005")),
        "trainer.batch_size": Choices("trainer.batch_size", ("64", "128")),
        "model.dropout_prob": Interval("model.dropout_prob", 0.0, 0.5),
        "model.latent_dimension": Interval("model.latent_dimension", 8, 63, 1),
        "trainer.patience": Interval("trainer.patience", 3, 9, 3),  # hyperopt rounds to multiples of 3
        "trainer.optimizer.weight_decay": Interval("trainer.optimizer.weight_decay", math.exp(-8), 1.0, None, True),
        "model.mlp_hidden_size": Choices("model.mlp_hidden_size", ("[600]", "[600,300]")),
    }


def test_yaml_has_lists_and_hydras_grammar(read):
    text = "# mine\nlatent_dimension: [64, 200]\nlearning_rate: tag(log,interval(1e-4,1e-2))\n"
    text += "model.activation: [a b, null, true]\n"
    found = read(text, "model=mult_vae", name="space.yaml")
    assert found == {
        "model.latent_dimension": Choices("model.latent_dimension", ("64", "200")),
        "trainer.lr": Interval("trainer.lr", 1e-4, 1e-2, None, True),
        "model.activation": Choices("model.activation", ("'a b'", "null", "True")),
    }


def test_what_is_typed_wins(read):
    words = ["model=mult_vae", "latent_dimension=7"]
    config = compose(words[:1]).config
    Path("s.hyper").write_text("latent_dimension choice [1,2]\nlearning_rate choice [3,4]\n")
    typed = ["model=mult_vae", "model.latent_dimension=7", "trainer.lr=1,2"]
    assert with_space(typed, "s.hyper", search_path(), config) == typed


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "latent_dim choice [1,2]",
            "unknown name 'latent_dim'; did you mean 'latent_dimension'?; it may be a",
        ),
        ("learning_rate chose [1,2]", "the kinds are choice, uniform, loguniform, quniform, randint"),
        ("learning_rate [1,2]", "expected `name kind values`"),
        ("learning_rate choice 1,2", "choice 1,2 cannot be read: expected a list"),
        ("learning_rate choice []", "the list is empty"),
        ("learning_rate choice [__import__('os').system('true')]", "cannot be read"),
        ("learning_rate uniform 1", "expected 2 numbers with commas between them"),
        ("learning_rate uniform 0,inf", "expected 2 numbers"),
        ("learning_rate loguniform 0,1e9", "cannot be read"),
        ("learning_rate quniform 0,1,0", "the step must be above 0"),
    ],
)
def test_a_line_that_cannot_work_is_named(read, line, told):
    with pytest.raises(ConfigError) as caught:
        read(f"# first\n\n{line}\n", "model=mult_vae")
    assert str(caught.value).startswith("space.hyper:3: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("latent_dimension: 5\n", "space.yaml:1: expected a list, or interval(…)"),
        ("a: [1]\nlatent_dimension: {b: 1}\n", "space.yaml:2: expected a list"),
        ("lr: []\n", "space.yaml:1: the list is empty"),
        ("- 1\n", "expected a mapping from keys"),
        ("a: [1\n", "space.yaml: while parsing"),
        ("", "expected a mapping"),
    ],
)
def test_yaml_that_is_no_space_is_refused(read, text, told):
    with pytest.raises(ConfigError) as caught:
        read(text, "model=mult_vae", name="space.yaml")
    assert told in str(caught.value)


def test_a_rate_that_every_stage_replaces_is_refused(read):
    with pytest.raises(ConfigError) as caught:
        read("learning_rate choice [0.1,0.2]\n", "model=ract")
    assert "space.hyper:1: learning_rate is trainer.lr, which has no effect" in str(caught.value)
    assert "write stage.actor_pretrain.lr or stage.critic_pretrain.lr or stage.finetune.lr" in str(caught.value)


def test_the_space_of_ract_is_what_recbole_suggests(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-m", "--dry-run", "search=random", "search.space=ract", "model=ract"]) == 0
    told = capsys.readouterr().out
    assert "stage.actor_pretrain.lr=0.01,0.005,0.001,0.0005,0.0001\n" in told
    assert "model.latent_dimension=128,200,256,400,512\n" in told
    assert cli.main(["-m", "--dry-run", "search=random", "search.space=rct", "model=ract"]) == 2
    assert "no space of this name; did you mean 'ract'? (there are: ract)" in capsys.readouterr().err
