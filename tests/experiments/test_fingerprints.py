"""Fingerprints of data, split and features: in run.json and every card, and a run that finds others is refused."""

import json

import pytest
from omegaconf import OmegaConf

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import CheckpointError, Interrupted
from recrun.experiments import run
from recrun.experiments.directories import prepare
from recrun.training.loop import TrainingLoop

SMALL = ["dataset=synthetic_histories", "dataset.source.n_users=50", "dataset.source.n_items=40", "threads=1"]
SMALL += ["dataset.source.n_events=900", "dataset.source.n_genres=8", "trainer.batch_size=16"]
DSSM = ["model=dssm", *SMALL, "model.embedding_dim=4", "model.mlp_hidden_size=[4]", "loader.his_size=5"]
VAE = ["model=mult_vae", *SMALL, "model.mlp_hidden_size=[8]", "model.latent_dimension=4"]
NAMES = ("dataset_fingerprint", "split_fingerprint", "features_fingerprint")


def fingerprints(*words):
    composed = compose(words)
    check(composed)
    return run.build_dataset(composed.config).fingerprints


@pytest.mark.parametrize(("words", "names"), [(DSSM, NAMES), (VAE, NAMES[:2])], ids=["dssm", "mult_vae"])
def test_run_json_and_every_card_have_those_of_the_data(words, names, tmp_path):
    directory = prepare(compose([*words, "epochs=1", "step_limit=2", f"output_dir={tmp_path}"]))
    run.execute(directory)
    here = fingerprints(*words)
    assert tuple(here) == names
    assert all(len(value) == 64 for value in here.values())
    for path in ("run.json", "train/best/model.json", "train/last/model.json"):
        found = json.loads((directory / path).read_text())
        assert {name: found[name] for name in NAMES if name in found} == here, path


@pytest.mark.parametrize(
    ("word", "differ"),
    [
        ("dataset.source.seed=1", NAMES),
        ("dataset.filters.min_item_count=20", NAMES),
        ("split=random", NAMES[1:]),
        ("split.test_input=train", NAMES[1:2]),
        ("dataset.user_fields=[id]", NAMES[2:]),
        ("dataset.item_lists=[]", NAMES[2:]),
        ("loader.his_size=3", ()),
        ("loader.num_negatives=2", ()),
        ("evaluator=next_item", ()),
        ("evaluator.mask_seen=false", ()),
        ("seed=7", ()),
    ],
)
def test_what_changes_which(word, differ):
    before, after = fingerprints(*DSSM), fingerprints(*DSSM, word)
    assert {name for name in NAMES if before[name] != after[name]} == set(differ)


def test_all_models_of_a_split_have_that_of_its_data_and_parts():
    assert fingerprints(*VAE) == {name: fingerprints(*DSSM)[name] for name in NAMES[:2]}


def stopped(tmp_path, monkeypatch, *words):
    """A run that was stopped after two steps."""
    directory = prepare(compose([*words, "epochs=2", f"output_dir={tmp_path}"]))

    def pause(loop):
        if loop.progress.steps == 2:
            loop.save("last")
            raise Interrupted("here")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "pause", pause)
        with pytest.raises(Interrupted):
            run.execute(directory)
    return directory


@pytest.mark.parametrize(
    ("key", "value", "name", "differs"),
    [
        ("dataset.source.seed", 3, NAMES[0], "other data"),
        ("split.test_input", "train", NAMES[1], "another split of these data"),
        ("dataset.user_fields", ["segment", "id", "device"], NAMES[2], "other features of users or items"),
    ],
)
def test_a_run_is_not_resumed_on_others(key, value, name, differs, tmp_path, monkeypatch):
    directory = stopped(tmp_path, monkeypatch, *DSSM)
    whole = OmegaConf.load(directory / "config.yaml")
    changed = whole.copy()
    OmegaConf.update(changed, key, value)
    OmegaConf.save(changed, directory / "config.yaml")
    with pytest.raises(CheckpointError, match=rf"trained on {differs}.*\({name} ") as error:
        run.execute(directory)
    assert str(directory / "train" / "last") in str(error.value)
    OmegaConf.save(whole, directory / "config.yaml")
    assert run.execute(directory)["test"]
