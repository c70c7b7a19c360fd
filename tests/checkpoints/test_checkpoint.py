"""Checkpoints: whole or not at all, readable without executing anything, refused with a reason."""

import json
import pickle

import pytest
import torch
from torch import nn

from recrun.checkpoints import checkpoint
from recrun.errors import CheckpointError

HERE = {"dataset_fingerprint": "f" * 64, "split_fingerprint": "a" * 64, "features_fingerprint": "b" * 64}
CARD = {"stage": "finetune", "epoch": 3, **HERE}


@pytest.fixture
def saved(tmp_path):
    model = nn.Linear(3, 2)
    checkpoint.save(tmp_path / "last", model, CARD, {"step": 7, "random": torch.get_rng_state()})
    return tmp_path / "last", model


def test_weights_card_and_state_come_back(saved):
    directory, model = saved
    other = nn.Linear(3, 2)
    card = checkpoint.load_weights(directory, other, HERE)
    assert torch.equal(other.weight, model.weight)
    assert (card["stage"], card["epoch"]) == ("finetune", 3)
    assert checkpoint.load_state(directory)["step"] == 7


def test_a_newer_checkpoint_replaces_the_older(saved):
    directory, model = saved
    with torch.no_grad():
        model.weight.fill_(5)
    checkpoint.save(directory, model, {**CARD, "epoch": 4})
    assert checkpoint.load_weights(directory, nn.Linear(3, 2))["epoch"] == 4
    assert sorted(path.name for path in directory.parent.iterdir()) == ["last"]
    with pytest.raises(CheckpointError, match=r"no state\.pt"):
        checkpoint.load_state(directory)


@pytest.mark.parametrize("complete", [True, False])
def test_a_kill_between_the_two_renames_is_settled(saved, complete):
    """The new checkpoint is taken if it was complete, else the old one."""
    directory, _ = saved
    directory.rename(directory.with_name("last.old"))
    if complete:
        checkpoint.save(directory.with_name("other"), nn.Linear(3, 2), {**CARD, "epoch": 9})
        directory.with_name("other").rename(directory.with_name("last.new"))
    assert checkpoint.exists(directory)
    assert checkpoint.read_card(directory)["epoch"] == (9 if complete else 3)


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    (tmp_path / "last.new").mkdir()
    (tmp_path / "last.new" / checkpoint.WEIGHTS).write_bytes(b"half")
    assert not checkpoint.exists(tmp_path / "last")


@pytest.mark.parametrize("keep", [0, 10, -5])
def test_a_truncated_file_is_refused(saved, keep):
    directory, _ = saved
    path = directory / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_weights(directory, nn.Linear(3, 2))


def test_a_truncated_state_is_refused(saved):
    directory, _ = saved
    path = directory / checkpoint.STATE
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_state(directory)


class Explosive:
    def __reduce__(self):
        return pytest.fail, ("the checkpoint was executed",)


def test_a_pickle_is_never_executed(saved, tmp_path):
    directory, _ = saved
    (directory / checkpoint.STATE).write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_state(directory)
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(CheckpointError, match="never loaded"):
        checkpoint.find(pickled)


def test_a_pickle_in_the_place_of_the_weights_is_refused(saved):
    directory, _ = saved
    (directory / checkpoint.WEIGHTS).write_bytes(pickle.dumps(Explosive()))
    card = json.loads((directory / checkpoint.CARD).read_text())
    card["weights_sha256"] = checkpoint.sha256(directory / checkpoint.WEIGHTS)
    (directory / checkpoint.CARD).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load_weights(directory, nn.Linear(3, 2))


def test_another_model_is_refused_and_left_alone(saved):
    directory, _ = saved
    wider = nn.Linear(4, 2)
    before = wider.weight.clone()
    with pytest.raises(CheckpointError, match=r"weight is \[2, 3\] there and \[2, 4\] here"):
        checkpoint.load_weights(directory, wider)
    assert torch.equal(wider.weight, before)
    with pytest.raises(CheckpointError, match=r"bias is \[2\] there and absent here"):
        checkpoint.load_weights(directory, nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("dataset_fingerprint", "other data: rows, columns or tasks differ"),
        ("split_fingerprint", "another split of these data"),
        ("features_fingerprint", "other features of users or items"),
    ],
)
def test_other_data_another_split_and_other_features_are_refused(saved, name, differs):
    there = HERE[name][:12]
    with pytest.raises(CheckpointError, match=rf"trained on {differs} \({name} {there}, here eeeeeeeeeeee\)"):
        checkpoint.load_weights(saved[0], nn.Linear(3, 2), {**HERE, name: "e" * 64})
    checkpoint.load_weights(saved[0], nn.Linear(3, 2), {key: HERE[key] for key in HERE if key != name})


def test_a_card_without_a_fingerprint_that_the_data_have_is_refused(tmp_path):
    checkpoint.save(tmp_path / "old", nn.Linear(3, 2), {"stage": "train", "dataset_fingerprint": "f" * 64})
    with pytest.raises(CheckpointError, match=r"another split of these data \(split_fingerprint None, here a"):
        checkpoint.load_weights(tmp_path / "old", nn.Linear(3, 2), HERE)


def test_run_stage_and_checkpoint_directories_are_found(tmp_path):
    for stage in ("actor_pretrain", "critic_pretrain"):
        checkpoint.save(tmp_path / stage / "last", nn.Linear(1, 1), {**CARD, "stage": stage})
    checkpoint.save(tmp_path / "actor_pretrain" / "best", nn.Linear(1, 1), CARD)
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"actor_pretrain": {}, "critic_pretrain": {}}}))
    assert checkpoint.find(tmp_path) == tmp_path / "critic_pretrain" / "last"
    assert checkpoint.find(tmp_path, ["actor_pretrain"]) == tmp_path / "actor_pretrain" / "best"
    assert checkpoint.find(tmp_path / "actor_pretrain" / "last") == tmp_path / "actor_pretrain" / "last"
    with pytest.raises(CheckpointError, match="its stages are: actor_pretrain, critic_pretrain"):
        checkpoint.find(tmp_path, ["finetune"])
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.find(tmp_path / "nowhere")


def test_a_run_directory_stands_for_the_stage_before_the_one_that_begins(tmp_path):
    stages = ("critic_pretrain", "finetune")
    for stage in stages:
        checkpoint.save(tmp_path / stage / "last", nn.Linear(1, 1), {**CARD, "stage": stage})
    (tmp_path / "run.json").write_text(json.dumps({"stages": {stage: {} for stage in stages}}))
    assert checkpoint.find(tmp_path, stages) == tmp_path / "finetune" / "last"
    assert checkpoint.find(tmp_path, stages, "finetune") == tmp_path / "critic_pretrain" / "last"
    assert checkpoint.find(tmp_path / "finetune", stages, "finetune") == tmp_path / "finetune" / "last"
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"finetune": {}}}))
    assert checkpoint.find(tmp_path, stages, "finetune") == tmp_path / "finetune" / "last"


def test_of_a_sweep_its_runs_are_named(tmp_path):
    jobs = [{"directory": str(number), "overrides": [f"seed={number}"]} for number in range(5)]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    told = rf"is a sweep, give one of its runs: {tmp_path}/0 \(seed=0\), {tmp_path}/1 \(seed=1\), .*2.*, …$"
    with pytest.raises(CheckpointError, match=told):
        checkpoint.find(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(saved, monkeypatch):
    directory, model = saved

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"No space left on device\. The checkpoint before it is whole"):
        checkpoint.save(directory, model, {**CARD, "epoch": 4})
    assert checkpoint.load_weights(directory, nn.Linear(3, 2))["epoch"] == 3
    assert [path.name for path in directory.parent.iterdir()] == ["last"]
