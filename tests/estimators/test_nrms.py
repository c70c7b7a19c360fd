"""NRMS with Recommenders' interface: every row of the contract, and the command's weights bit for bit."""

import inspect

import pytest
import torch
from safetensors.torch import load_file
from worlds.news import TRAIN, VALID, write_world

from recrun.cli import main
from recrun.errors import ConfigError
from recrun.estimators import NRMS, NotFittedError

SMALL = {
    **{"title_size": 5, "his_size": 3, "npratio": 2, "word_emb_dim": 4, "head_num": 2, "head_dim": 2},
    **{"attention_hidden_dim": 3, "batch_size": 2, "epochs": 2},
}
OTHER = ["1\tU1\t11/16/2019 7:00:00 AM\tN1 N3\tN2-1 N4-0 N5-0", "2\tU4\t11/16/2019 7:00:01 AM\tN2\tN1-0 N3-1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("news"), TRAIN, VALID, OTHER)


def files(world, *parts):
    return [world / part / name for part in parts for name in ("news.tsv", "behaviors.tsv")]


@pytest.fixture(scope="module")
def fitted(world):
    return NRMS(**SMALL).fit(*files(world, "train", "valid", "test"))


CONTRACT = {
    "title_size": 30,
    "his_size": 50,
    "npratio": 4,
    "word_emb_dim": 300,
    "head_num": 20,
    "head_dim": 20,
    "attention_hidden_dim": 200,
    "dropout": 0.2,
    "learning_rate": 1e-4,
    "batch_size": 32,
    "epochs": 5,
    "show_step": 10,
    "loss": "cross_entropy_loss",
    "optimizer": "adam",
    "support_quick_scoring": True,
    "metrics": ("group_auc", "mean_mrr", "ndcg@5;10"),
    "seed": 42,
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_hyperparameter_keeps_its_name(name):
    assert inspect.signature(NRMS).parameters[name].default == CONTRACT[name]


def test_fit_has_the_contract_s_signature_and_returns_itself(world):
    assert str(inspect.signature(NRMS.fit)).replace("str | Path", "").count("None") == 6  # three defaults, three kinds
    assert list(inspect.signature(NRMS.fit).parameters) == [
        *("self", "train_news_file", "train_behaviors_file", "valid_news_file", "valid_behaviors_file"),
        *("test_news_file", "test_behaviors_file", "step_limit"),
    ]
    one = NRMS(**SMALL)
    assert one.fit(*files(world, "train", "valid")) is one


def test_validation_and_test_follow_every_epoch(fitted):
    history = fitted.run_.history
    assert history["split"].tolist() == ["valid", "test", "valid", "test", "test"]  # the last: the kept weights
    assert {"group_auc", "mean_mrr", "ndcg@5", "ndcg@10", "loss/listwise", "train_seconds"} <= set(history)


def test_losses_metrics_and_times_are_shown(world, capsys):
    NRMS(**{**SMALL, "epochs": 1}).fit(*files(world, "train", "valid"))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1 valid"))
    assert all(word in line for word in ("listwise", "group_auc", "mean_mrr", "ndcg@5", "ndcg@10", "train ", " s"))


def test_step_limit_bounds_the_steps_of_an_epoch(world):
    run = NRMS(**{**SMALL, "batch_size": 1}).fit(*files(world, "train", "valid"), step_limit=1).run_
    assert run.history["step"].tolist()[:2] == [1, 2]
    assert run.config["eval_limit"] is None


def test_show_step_is_the_trainer_s(fitted):
    assert fitted.run_.config["trainer"]["show_step"] == 10


def test_one_test_file_without_the_other_is_an_error(world):
    with pytest.raises(ConfigError, match="go together"):
        NRMS().fit(*files(world, "train", "valid"), world / "test" / "news.tsv")
    with pytest.raises(ConfigError, match="does not exist"):
        NRMS().fit(*files(world, "train", "valid", "tests"))


def test_the_command_with_the_same_seed_and_data_has_the_same_weights(fitted, world, tmp_path):
    words = [
        *("model=nrms", "dataset=mind", f"dataset.path={world}", "dataset.title_size=5", "dataset.his_size=3"),
        *("dataset.npratio=2", "model.word_emb_dim=4", "model.head_num=2", "model.head_dim=2", "dataset.cache=null"),
        *("model.attention_hidden_dim=3", "trainer.batch_size=2", "trainer.epochs=2", "seed=42"),
        f"output_dir={tmp_path}",
    ]
    assert main(words) == 0
    directory = next(tmp_path.glob("nrms/*/*"))
    one, other = (load_file(path / "train/best/model.safetensors") for path in (directory, fitted.run_.directory))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_run_eval_is_of_the_files_that_are_named(fitted, world):
    """The reference returns those of the first files again."""
    for split in ("valid", "test"):
        found = fitted.run_eval(*files(world, split))
        assert list(found) == ["group_auc", "mean_mrr", "ndcg@5", "ndcg@10"]
        assert found == pytest.approx(fitted.run_.metrics.loc[split, list(found)].to_dict())


def test_predict_ranks_the_candidates_of_every_impression(fitted, world):
    found = fitted.predict(*files(world, "test"))
    assert found["impression"].tolist() == [1, 2]
    assert [sorted(ranks) for ranks in found["ranks"]] == [[1, 2, 3], [1, 2]]


def test_a_parameters_file_of_theirs_is_read(tmp_path):
    path = tmp_path / "nrms.yaml"
    path.write_text(
        "data:\n  title_size: 12\n  wordDict_file: null\nmodel:\n  model_type: nrms\n  head_num: 4\n"
        "train:\n  loss: log_loss\n  learning_rate: 0.001\ninfo:\n  show_step: 5\n  metrics: [group_auc, 'ndcg@3']\n"
    )
    found = NRMS.from_yaml(path, seed=7)
    assert (found.title_size, found.head_num, found.loss, found.show_step, found.seed) == (12, 4, "log_loss", 5, 7)
    assert found.overrides()["objective"] == "pointwise"
    assert found.overrides()["evaluator.ks"] == [3]
    path.write_text("train:\n  learning_rat: 0.1\n")
    with pytest.raises(ConfigError, match="learning_rat is no parameter of NRMS"):
        NRMS.from_yaml(path)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"loss": "hinge"}, "loss=hinge: expected cross_entropy_loss, log_loss"),
        ({"optimizer": "sgd"}, "optimizer=sgd: expected adam"),
        ({"metrics": ["ndgc@5"]}, "metrics has ndgc@5"),
    ],
)
def test_bad_parameters_are_refused(parameter, message):
    with pytest.raises(ConfigError, match=message):
        NRMS(**parameter)


def test_before_fit(world):
    with pytest.raises(NotFittedError):
        NRMS().run_eval(*files(world, "valid"))
