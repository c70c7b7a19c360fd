"""What is refused before a run directory exists, though only torch can say it."""

import pytest

from recrun import cli
from recrun.config.compose import compose
from recrun.errors import ConfigError
from recrun.experiments import preflight
from recrun.experiments.build import build_trainers


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=mult_vae", "trainer.monitor=NDCG@10"], "did you mean 'ndcg@10'?"),
        (["model=gru4rec", "trainer.monitor=Recall@20"], "did you mean 'recall@20'?"),
        (["model=nrms", "trainer.monitor=group_AUC"], "did you mean 'group_auc'?"),
        (["model=deepfm", "trainer.monitor=AUC"], "did you mean 'auc'?"),
        (["model=mmoe", "trainer.monitor=Click/auc"], "did you mean 'click/auc'?"),
        (["model=mmoe", "dataset=census", "trainer.monitor=mean/acu"], "trainer.monitor=mean/acu is not computed here"),
    ],
)
def test_an_unknown_monitor_is_refused_with_the_nearest_and_leaves_no_directory(tmp_path, capsys, words, told):
    assert cli.main([*words, f"output_dir={tmp_path}"]) == 2
    assert told in capsys.readouterr().err
    assert cli.main(["-m", *words, f"output_dir={tmp_path}", "seed=0,1"]) == 2
    assert "in job 0" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "words",
    [
        ["model=mult_vae", "trainer.monitor=ndcg@10"],
        ["model=mmoe", "trainer.monitor=mean/auc"],
        ["model=mmoe", "dataset=census", "trainer.monitor=income/logloss"],
        ["model=ract", "stage.finetune.monitor=recall@100"],
    ],
)
def test_known_monitors_pass(words):
    preflight.check(compose(words).config)


def test_an_evaluator_that_cannot_be_made_here_is_left_to_the_run():
    assert preflight.names_of({"_target_": "recrun.evaluation.full_ranking.FullRanking", "ks": 3}, {}) == []
    assert preflight.names_of({"_target_": "recrun.evaluation.rows.RowMetrics"}, {}) == []  # the data know the tasks


def test_the_machine_is_asked_for_what_it_may_not_have(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for words in (["device=cuda"], ["device=cuda:0"], ["precision=fp16"], ["device=cuda", "devices=2"]):
        with pytest.raises(ConfigError, match="GPU"):
            preflight.check(compose(words).config)
    for words in ([], ["device=cpu"], ["precision=bf16"], ["devices=2"]):
        preflight.check(compose(words).config)


EXPONENTIAL = ["trainer.scheduler._target_=torch.optim.lr_scheduler.ExponentialLR", "trainer.scheduler.gamma=0.5"]
COSINE = ["trainer.scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR"]


@pytest.mark.parametrize("words", [EXPONENTIAL, COSINE, [*EXPONENTIAL, "trainer.scheduler._partial_=true"]])
def test_a_scheduler_given_by_target_trains(tmp_path, words):
    """As docs/coming_from_torch_rechub.md writes it: the trainer gives the optimizer and the number of steps."""
    small = ["model=mult_vae", "step_limit=1", "threads=1", "epochs=2", f"output_dir={tmp_path}"]
    assert cli.main([*small, *words]) == 0


def test_a_scheduler_given_by_target_lacks_only_what_nobody_gives(capsys):
    assert cli.main(["model=mult_vae", EXPONENTIAL[0]]) == 2
    assert "trainer.scheduler.gamma is required by torch.optim.lr_scheduler.ExponentialLR" in capsys.readouterr().err


def test_optimizers_and_weightings_by_target_too():
    words = ["model=mmoe", "trainer.weighting._target_=recrun.training.loss_weighting.UncertaintyWeights"]
    (trainer,) = build_trainers(compose(words).config).values()
    assert callable(trainer.weighting)
