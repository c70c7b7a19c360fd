"""More epochs for a finished run: the bits of a run that had them from the start."""

import json

import pytest
import torch
from safetensors.torch import load_file

from recrun import cli
from recrun.experiments import run, run_record

SMALL = [
    "keep_state=last",
    "dataset.source.n_users=90",
    "dataset.source.n_items=50",
    "dataset.source.n_interactions=1500",
    "threads=1",
]
SMALL += ["trainer.batch_size=16", "model.mlp_hidden_size=[12]", "model.latent_dimension=6"]
VAE = ["model=mult_vae", *SMALL]


def made(place, *words):
    """The directory of a run of these words."""
    assert cli.main([f"output_dir={place}", *words]) == 0
    (directory,) = place.glob("*/*/*")
    return directory


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


def same(one, other, stage):
    """Whether two runs have the same rows, results and weights of a stage."""
    results = [json.loads((directory / "results.json").read_text())["test"] for directory in (one, other)]
    weights = [load_file(directory / stage / "last" / "model.safetensors") for directory in (one, other)]
    assert rows(one) == rows(other)
    assert results[0] == results[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("word", ["epochs", "trainer.epochs"])
def test_an_extended_run_ends_as_one_that_had_the_epochs_from_the_start(tmp_path, word):
    whole, parts = made(tmp_path / "whole", *VAE, f"{word}=4"), made(tmp_path / "parts", *VAE, f"{word}=2")
    before = run_record.RunRecord(parts).values["config_sha256"]
    assert cli.main(["resume", str(parts), "epochs=4"]) == 0
    same(whole, parts, "train")
    record = run_record.RunRecord(parts).values
    assert record["status"] == "finished"
    assert record["extended"][0]["epochs"] == [2, 4]
    assert record["config_sha256"] == run_record.config_sha256(run.load_config(parts)) != before
    assert {**run.load_config(parts), "output_dir": ""} == {**run.load_config(whole), "output_dir": ""}


def test_of_several_stages_the_last_one_goes_on(tmp_path):
    stages = ["model=ract", *SMALL, "epochs=1"]
    whole = made(tmp_path / "whole", *stages[:-1], "trainer.epochs=1", *(f"stage.{name}.epochs={n}" for name, n in
        (("actor_pretrain", 1), ("critic_pretrain", 1), ("finetune", 3))))  # fmt: skip
    parts = made(tmp_path / "parts", *stages)
    assert cli.main(["resume", str(parts), "epochs=3"]) == 0
    same(whole, parts, "finetune")
    assert [node["epochs"] for node in run.load_config(parts)["stage"].values()] == [1, 1, 3]


def test_what_cannot_be_extended_is_refused_and_left_alone(tmp_path, capsys):
    directory = made(tmp_path, *VAE, "epochs=2")
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}
    for words, told in (
        (["epochs=2"], "epochs=2: stage train has 2 epochs already; give more"),
        (["epochs=x"], "it takes epochs=N alone"),
        (["trainer.lr=1"], "it takes epochs=N alone"),
        (["epochs=4", "seed=1"], "it takes epochs=N alone"),
    ):
        assert cli.main(["resume", str(directory), *words]) == 2
        assert told in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trainer.patience=1", "trainer.min_improvement=1"], "early stopping ended stage train after 2 of 3 epochs"),
        (["scheduler=one_cycle"], "OneCycleLR of stage train was made for 3 epochs"),
        (["scheduler=cosine"], "CosineAnnealingLR of stage train was made for 3 epochs"),
    ],
)
def test_a_training_that_more_epochs_do_not_continue(tmp_path, capsys, words, told):
    directory = made(tmp_path, *VAE, "epochs=3", *words)
    assert cli.main(["resume", str(directory), "epochs=6"]) == 2
    assert told in capsys.readouterr().err


def test_a_sweep_is_extended_run_by_run(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text("{}")
    assert cli.main(["resume", str(tmp_path), "epochs=6"]) == 2
    assert "is a sweep: extend its runs one by one" in capsys.readouterr().err
