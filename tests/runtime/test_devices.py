"""Two devices against one over models, objectives and stages: losses, penalties, metrics and weights.

Trained by plain gradient descent, without noise: Adam's first steps divide rounding by rounding.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from worlds import rank_runs

from recrun.checkpoints import checkpoint
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import Interrupted
from recrun.experiments import run, run_record
from recrun.experiments.directories import prepare
from recrun.runtime.launch import started

CPU = torch.device("cpu")

# 1,000 users in batches of 300: of the last 100 all are rank 0's.
USERS = ["dataset.source.n_users=1000", "dataset.source.n_items=60", "dataset.source.n_interactions=9000"]
USERS += ["trainer.batch_size=300", "model.mlp_hidden_size=[12]", "optimizer=sgd", "trainer.lr=0.5"]
VAE = [*USERS, "model.latent_dimension=6", "trainer.objective.total_anneal_steps=20"]
STAGES = ["stage.actor_pretrain.lr=0.5", "stage.critic_pretrain.lr=0.05", "stage.finetune.lr=0.05"]
STAGES += ["stage.finetune.part_lr={critic: 0.05}", "stage.critic_pretrain.eval_every=1"]
STAGES += ["stage.critic_pretrain.objective.l2=0.5", "stage.finetune.objective.l2=0.5"]
HISTORIES = ["dataset=synthetic_histories"]
HISTORIES += [f"dataset.source.{size}" for size in ("n_users=150", "n_items=60", "n_events=2000")]
HISTORIES += ["trainer.batch_size=32", "optimizer=row_sgd", "trainer.lr=0.1"]
TABLE = ["dataset.source.n_rows=1500", "trainer.batch_size=400", "optimizer=row_sgd", "trainer.lr=0.1"]
PLAIN = [*TABLE, "model.batch_norm=false"]
PENALTIES = [f"trainer.regularization.{name}=0.01" for name in ("embedding_l1", "embedding_l2", "dense_l1", "dense_l2")]
TASKS = [*PLAIN, "dataset=synthetic_tasks"]
NEWS = ["dataset.source.n_impressions=200", "trainer.batch_size=48", "optimizer=sgd", "trainer.lr=0.1"]
NEWS += ["model.dropout=0.0"]

CASES = {
    "mult_vae": ["model=mult_vae", "model._target_=worlds.quiet.QuietVAE", *VAE],
    "mult_dae": ["model=mult_dae", "model._target_=worlds.quiet.QuietDAE", *USERS],
    "ract": ["model=ract", "model._target_=worlds.quiet.QuietRaCT", *USERS, "model.latent_dimension=6", *STAGES],
    "dssm-listwise": ["model=dssm", "objective=listwise", "loader.rows=sequences", *HISTORIES],
    "dssm-pairwise": ["model=dssm", "objective=pairwise", "loader.rows=sequences", *HISTORIES],
    "dssm-pointwise": ["model=dssm", "objective=pointwise", "loader.rows=sequences", *HISTORIES],
    "youtube_dnn": ["model=youtube_dnn", *HISTORIES],
    "sasrec": ["model=sasrec", "model.dropout=0.0", *HISTORIES],
    "nrms-listwise": ["model=nrms", *NEWS],
    "nrms-pairwise": ["model=nrms", "objective=pairwise", *NEWS],
    "nrms-pointwise": ["model=nrms", "objective=pointwise", *NEWS],
    "wide_deep": ["model=wide_deep", *PLAIN],
    "deepfm": ["model=deepfm", *PLAIN, *PENALTIES, "trainer.clip_norm=0.5"],
    "dcn_v2": ["model=dcn_v2", *PLAIN],
    "autoint": ["model=autoint", *PLAIN],
    "final_mlp": ["model=final_mlp", *PLAIN],
    "din": ["model=din", "model.activation=prelu", *PLAIN],
    "shared_bottom": ["model=shared_bottom", *TASKS, "weighting=fixed", "trainer.weighting.weights={click: 2}"],
    "mmoe": ["model=mmoe", *TASKS, "weighting=uwl"],
    "ple": ["model=ple", *TASKS],
    "esmm": ["model=esmm", *PLAIN],
    "aitm": ["model=aitm", *PLAIN, "objective=calibrated"],
}


def prepared(tmp_path, *overrides):
    composed = compose([f"output_dir={tmp_path}", "threads=1", "epochs=2", *overrides])
    check(composed)
    return prepare(composed)


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


def weights(directory):
    return {
        f"{path.parent.parent.name}.{name}": value
        for path in sorted(directory.glob("*/last/model.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Of each case the run on one device and that on two; these share two processes."""
    place = tmp_path_factory.mktemp("devices")
    found = {name: [prepared(place, *words, f"devices={n}") for n in (1, 2)] for name, words in CASES.items()}
    for one, two in found.values():
        run.execute(one)
        run_record.RunRecord(two).begin(run.load_config(two))
    (place / "listed").write_text("".join(f"{two}\n" for _, two in found.values()))
    with started(2, CPU, [str(Path(rank_runs.__file__)), str(place / "listed")]) as ranks:
        for _, two in found.values():
            rank_runs.lead(two, ranks)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_devices_train_what_one_does(pairs, name):
    one, two = pairs[name]
    assert len(rows(one)) == len(rows(two))
    for single, double in zip(rows(one), rows(two), strict=True):
        assert double["step"] == single["step"]
        assert double["losses"] == pytest.approx(single["losses"], rel=1e-4, abs=1e-6)
        assert double["metrics"] == pytest.approx(single["metrics"], abs=2e-3)
    expected = weights(one)
    for key, value in weights(two).items():
        torch.testing.assert_close(
            value, expected[key], rtol=1e-3, atol=1e-5, msg=lambda told, key=key: f"{key} {told}"
        )


NOISY = {
    "mult_vae": ["model=mult_vae", *VAE],
    "deepfm": ["model=deepfm", *TABLE, "model.batch_norm=true", "trainer.batch_size=300"],
    "gradnorm": ["model=mmoe", *TASKS, "weighting=gradnorm", "model.batch_norm=true"],
}


@pytest.mark.parametrize(("name", "steps"), [("mult_vae", 4), ("mult_vae", 6), ("deepfm", 4), ("gradnorm", 4)])
def test_stopped_after_a_short_batch_and_resumed_the_bits_are_the_same(tmp_path, monkeypatch, name, steps):
    whole, parts = (prepared(tmp_path, *NOISY[name], "devices=2") for _ in range(2))
    run.execute(whole)
    context, asked = run.Run.context, iter([False] * steps + [True])
    monkeypatch.setattr(
        run.Run,
        "context",
        lambda *given: type(found := context(*given))(**{**vars(found), "stop": lambda: next(asked, False)}),
    )
    with pytest.raises(Interrupted):
        run.execute(parts)
    run.execute(parts)
    assert rows(parts) == rows(whole)
    expected = weights(whole)
    assert all(torch.equal(value, expected[key]) for key, value in weights(parts).items())


def test_the_weight_of_kl_counts_the_steps_on_every_rank(tmp_path):
    """Four steps an epoch, of which rank 1 takes part in three; beta is that of the step before."""
    directory = prepared(tmp_path, *NOISY["mult_vae"], "devices=2", "keep_state=last")
    run.execute(directory)
    state = checkpoint.load_state(directory / "train" / "last")
    assert int(state["objective"]["kl.steps"]) == 8
