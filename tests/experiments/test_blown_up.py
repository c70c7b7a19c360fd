"""Weights that the only step blew up: the run fails in one line, nothing is kept as best, nothing is predicted."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from recrun import cli
from recrun.checkpoints.checkpoint import sha256

SMALL = ["threads=1", "epochs=1", "step_limit=1", "eval_limit=null"]
MODELS = {
    "mult_vae": ["model.mlp_hidden_size=[16]", "dataset.source.n_users=300"],
    "mult_dae": ["dataset.source.n_users=300"],
    "ract": ["stage=actor_pretrain", "stage.actor_pretrain.lr=1e25", "dataset.source.n_users=300"],
    **{name: [] for name in ("gru4rec", "dssm", "youtube_dnn", "sasrec", "nrms", "deepfm", "mmoe")},
}


@pytest.mark.parametrize("model", MODELS)
def test_the_run_fails_in_one_line(tmp_path, capsys, model):
    words = [f"model={model}", f"output_dir={tmp_path}", "trainer.lr=1e25", *SMALL, *MODELS[model]]
    assert cli.main(words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "blew up" in errors[0]
    (record,) = tmp_path.glob("*/*/*/run.json")
    assert json.loads(record.read_text())["status"] == "failed"
    assert not [*tmp_path.glob("*/*/*/*/best")]


@pytest.mark.parametrize("model", ["mult_vae", "gru4rec", "dssm", "nrms"])
def test_nothing_is_predicted_from_weights_that_are_no_numbers(tmp_path, capsys, model):
    assert cli.main([f"model={model}", f"output_dir={tmp_path}", *SMALL]) == 0
    (best,) = tmp_path.glob("*/*/*/*/best")
    weights = {name: torch.full_like(value, torch.nan) for name, value in load_file(best / "model.safetensors").items()}
    save_file(weights, best / "model.safetensors")
    card = json.loads((best / "model.json").read_text())
    (best / "model.json").write_text(json.dumps({**card, "weights_sha256": sha256(best / "model.safetensors")}))
    capsys.readouterr()
    output = tmp_path / "predicted.txt"
    assert cli.main(["predict", str(best.parents[1]), "--output", str(output)]) == 1
    assert "no numbers" in capsys.readouterr().err
    assert not output.exists()
