"""Whole runs: stages in one run or one by one, killed and resumed, refused with a reason, judged again."""

import gc
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recrun.config.compose import compose
from recrun.config.stored import recompose
from recrun.config.validate import check
from recrun.errors import CheckpointError, ConfigError, DataError, RecrunError
from recrun.experiments import disk, load, run, run_record
from recrun.experiments.build import build_dataset
from recrun.experiments.directories import prepare
from recrun.experiments.instantiate import InstantiationError, instantiate
from recrun.runtime import process

TINY = [
    "dataset.source.n_users=90",
    "dataset.source.n_items=50",
    "dataset.source.n_interactions=1500",
    "trainer.batch_size=16",
    "model.mlp_hidden_size=[12]",
    "model.latent_dimension=6",
    "threads=1",
]
STAGES = ("actor_pretrain", "critic_pretrain", "finetune")


def prepared(tmp_path, *overrides):
    composed = compose([*TINY, f"output_dir={tmp_path}", *overrides])
    check(composed)
    return prepare(composed)


def weights(directory):
    return load_file(directory / "model.safetensors")


def same_weights(one, other):
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A whole three-stage run of two epochs each."""
    directory = prepared(tmp_path_factory.mktemp("chain"), "epochs=2")
    run.execute(directory)
    return directory


def test_three_stages_in_one_run_equal_three_runs(chain, tmp_path):
    before = None
    for stage in STAGES:
        start = [] if before is None else [f"pre_model_path={before}"]
        before = prepared(tmp_path, f"stage={stage}", "epochs=2", *start)
        run.execute(before)
        kept = "last" if stage == "critic_pretrain" else "best"
        assert same_weights(before / stage / kept, chain / stage / kept), stage


def test_a_stage_of_a_whole_run_starts_from_the_one_before_it(chain, tmp_path, capsys):
    """Not from its own weights: the same bits as in the whole run. What was loaded is said in three places."""
    alone = prepared(tmp_path, "stage=finetune", "epochs=2", f"pre_model_path={chain}")
    run.execute(alone)
    assert same_weights(alone / "finetune" / "best", chain / "finetune" / "best")
    start = chain / "critic_pretrain" / "last"
    digest = json.loads((start / "model.json").read_text())["weights_sha256"]
    record = json.loads((alone / "run.json").read_text())
    expected = {"path": str(start.resolve()), "stage": "critic_pretrain", "epoch": 2, "weights_sha256": digest}
    assert record["pre_model"] == expected
    told = f"starts from stage critic_pretrain, epoch 2: {start.resolve()} (sha256 {digest[:12]}…)"
    assert told in capsys.readouterr().err
    assert told in (alone / "recrun.log").read_text()
    again = prepared(tmp_path, "stage=finetune", "epochs=2", f"pre_model_path={chain}/finetune")
    run.execute(again)
    assert json.loads((again / "run.json").read_text())["pre_model"]["stage"] == "finetune"
    assert not same_weights(again / "finetune" / "last", chain / "finetune" / "last")


def test_the_record_tells_what_was_run(chain):
    record = json.loads((chain / "run.json").read_text())
    config = run.load_config(chain)
    assert record["status"] == "finished"
    assert record["config_sha256"] == run_record.config_sha256(config)
    assert list(record["stages"]) == list(STAGES)
    for stage in STAGES:
        kept = chain / stage / ("last" if stage == "critic_pretrain" else "best")
        card = json.loads((kept / "model.json").read_text())
        assert record["stages"][stage]["checkpoint_sha256"] == card["weights_sha256"]
        assert record["stages"][stage]["epochs"] == 2
        assert (card["stage"], card["dataset_fingerprint"]) == (stage, record["dataset_fingerprint"])
    assert {"argv", "git", "versions", "device", "threads", "start", "end", "dataset"} <= record.keys()


def test_the_tested_weights_are_the_kept_ones(chain):
    results = json.loads((chain / "results.json").read_text())
    again = load.evaluate(chain)
    assert again["test"] == results["test"]
    assert again["valid"] == results["valid"]
    assert json.loads((chain / "evaluations.jsonl").read_text().splitlines()[-1])["test"] == results["test"]


def test_units_hold_one_value_per_user(chain):
    results = json.loads((chain / "results.json").read_text())
    for split in ("valid", "test"):
        units = np.load(chain / "units" / f"{split}.npz")
        for name in set(units.files) - {"ids"}:
            assert units[name].mean() == pytest.approx(results[split][name])
            assert len(units[name]) == len(set(units["ids"]))


def test_evaluate_takes_overrides(chain):
    composed = recompose(chain, ["evaluator.ks=[3]"])
    assert "ndcg@3" in load.evaluate(chain, composed.config)["test"]


def test_other_data_are_judged_over_the_catalogue_of_the_weights(chain):
    own = json.loads((chain / "run.json").read_text())
    found = load.evaluate(chain, recompose(chain, ["dataset.source.seed=5", "dataset.source.n_items=60"]).config)
    assert 0 < found["test"]["ndcg@100"] <= 1
    assert found["dataset_fingerprint"] != own["dataset_fingerprint"]


def test_data_with_other_items_are_refused_where_they_cannot_be_mapped(chain):
    class Other:
        sizes = {"n_items": 2}

        def vocabulary(self):
            return {"users": np.array(["u"]), "items": np.array(["a", "b"])}

    with pytest.raises(CheckpointError, match="trained with other items"):
        load.same_vocabulary(chain, run.load_config(chain), Other())


def test_a_finished_run_is_not_run_again(chain):
    before = (chain / "metrics.jsonl").read_bytes()
    assert run.execute(chain) == json.loads((chain / "results.json").read_text())
    assert (chain / "metrics.jsonl").read_bytes() == before


def test_weights_of_other_data_are_refused_as_a_start(chain, tmp_path):
    for word, differs in (("dataset.source.seed=1", "other data"), ("split.seed=1", "another split of these data")):
        directory = prepared(tmp_path, "stage=finetune", f"pre_model_path={chain}", word, "epochs=1")
        with pytest.raises(CheckpointError, match=f"trained on {differs}"):
            run.execute(directory)
        record = json.loads((directory / "run.json").read_text())
        assert record["status"] == "failed"
        assert f"trained on {differs}" in record["error"]


def test_weights_of_another_shape_are_refused_as_a_start(chain, tmp_path):
    keys = ["stage=finetune", f"pre_model_path={chain}", "model.latent_dimension=5", "epochs=1"]
    with pytest.raises(CheckpointError, match="of another model"):
        run.execute(prepared(tmp_path, *keys))


def test_weights_of_another_stage_are_refused_at_once(chain, tmp_path):
    with pytest.raises(ConfigError, match="checkpoint of stage actor_pretrain, but stage finetune follows"):
        prepared(tmp_path, "stage=finetune", f"pre_model_path={chain}/actor_pretrain", "epochs=1")


def test_a_last_batch_of_one_user(tmp_path):
    assert run.execute(prepared(tmp_path, "trainer.batch_size=89", "epochs=1"))["test"]


def test_a_dataset_error_comes_through_in_its_own_words(tmp_path):
    keys = ["dataset=interactions", f"dataset.path={tmp_path}/nowhere.csv", f"output_dir={tmp_path}"]
    composed = compose(keys)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        run.execute(prepare(composed))


TASKS = ["model=mmoe", "dataset.source.n_rows=900", "threads=1", "epochs=1"]


def test_what_decided_is_what_results_say(tmp_path):
    words = [*TASKS, f"output_dir={tmp_path}", "trainer.monitor=mean/auc"]
    directory = prepare(compose(words))
    results = run.execute(directory)
    stage = json.loads((directory / "results.json").read_text())["stages"]["train"]
    assert results["monitor"] == stage["monitor"] == "mean/auc"
    for split in ("valid", "test"):
        mean = (stage[split]["click/auc"] + stage[split]["conversion/auc"]) / 2
        assert stage[split]["mean/auc"] == pytest.approx(mean)


def test_a_misspelt_monitor_of_a_later_stage_is_refused_before_the_first(tmp_path, monkeypatch):
    keys = ["stage.finetune.monitor=ndgc@100", "epochs=1"]
    told = r"finetune\.monitor=ndgc@100 is not computed here; did you mean 'ndcg@100'"
    with pytest.raises(ConfigError, match=told):
        prepared(tmp_path, *keys)
    assert not [*tmp_path.iterdir()]
    monkeypatch.setattr("recrun.experiments.preflight.monitors", lambda config: None)  # as where the data decide
    directory = prepared(tmp_path, *keys)
    with pytest.raises(ConfigError, match=r"trainer\.monitor=ndgc@100 is not computed here; did you mean 'ndcg@100'"):
        run.execute(directory)
    assert not (directory / "actor_pretrain").exists()


@pytest.mark.parametrize(
    ("model", "data"), [("ract", "interactions"), ("nrms", "news"), ("gru4rec", "sessions"), ("mmoe", "tasks")]
)
def test_evaluators_find_what_they_name(tmp_path, model, data):
    words = [f"model={model}", f"dataset=synthetic_{data}", "threads=1", "epochs=1", "step_limit=1", "eval_limit=1"]
    found = run.execute(prepare(compose([*words, f"output_dir={tmp_path}", *TINY[:5] * (model == "ract")])))
    dataset = build_dataset(compose(words).config)
    assert set(found["valid"]) <= set(dataset.evaluator.names(dataset))


def test_an_error_of_a_constructor_is_told_on_one_line():
    with pytest.raises(InstantiationError, match=r"^recrun\.models\.ple\.PLE: TypeError: .*n_specifics") as told:
        instantiate({"_target_": "recrun.models.ple.PLE", "n_specifics": 2})
    assert "\n" not in str(told.value)


def test_one_process_at_a_time(chain):
    with process.exclusive(chain), pytest.raises(RecrunError, match="being run by another process"):
        run.execute(chain)


def test_the_collector_leaves_alone_what_was_there_before_a_run():
    with process.settled():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_a_disk_without_room_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    directory = prepared(tmp_path, "epochs=1")
    with pytest.raises(RecrunError, match="free some space or give another output_dir"):
        run.execute(directory)
    assert not (directory / "actor_pretrain").exists()


def test_a_device_that_is_not_there(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for words, told in (
        (["device=cuda"], "no usable GPU"),
        (["device=cuda:1"], "no usable GPU"),
        (["precision=fp16"], "precision=fp16 needs a GPU"),
    ):
        with pytest.raises(ConfigError, match=told):
            prepared(tmp_path, *words)
    assert not [*tmp_path.iterdir()]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_three_stages_on_a_gpu(tmp_path, precision):
    results = run.execute(prepared(tmp_path, "device=cuda", f"precision={precision}", "epochs=2"))
    assert 0 < results["test"]["ndcg@100"] <= 1


# In processes of their own, as a user's shell starts and kills them.


def spawn(tmp_path, *words):
    """Starts `recrun words…`; what it says goes to a file."""
    with (tmp_path / "said.txt").open("w") as said:
        return subprocess.Popen([sys.executable, "-m", "recrun", *words], stdout=said, stderr=said)


def start(tmp_path, *overrides):
    """Starts a run; returns the process and the run directory, once there is one."""
    process = spawn(tmp_path, *TINY, f"output_dir={tmp_path}", *overrides)
    while not (found := list(tmp_path.glob("ract/*/*/config.yaml"))):
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.02)
    return process, found[0].parent


def wait_for(directory, stage, epoch, process):
    """Until metrics.jsonl has that epoch of that stage."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended before {stage} epoch {epoch}"
        if (directory / "metrics.jsonl").exists():
            log = run_record.MetricsLog(directory).rows()
            if any(row["stage"] == stage and row["epoch"] >= epoch and row["split"] == "valid" for row in log):
                return
        time.sleep(0.01)
    raise TimeoutError(stage)


LONG = ["epochs=30", "stage.critic_pretrain.eval_every=1", "trainer.save_seconds=0.2"]


@pytest.mark.slow
def test_killed_in_each_stage_and_resumed_it_ends_bitwise_equal(tmp_path):
    whole = prepared(tmp_path / "whole", *LONG)
    run.execute(whole)
    process, directory = start(tmp_path, *LONG)
    for stage in STAGES:
        wait_for(directory, stage, 4, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process = spawn(tmp_path, "resume", str(directory))
    assert process.wait() == 0
    for stage in STAGES:
        assert same_weights(whole / stage / "last", directory / stage / "last"), stage
    assert rows(whole) == rows(directory)
    results = [json.loads((context / "results.json").read_text()) for context in (whole, directory)]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_exits_130(tmp_path, number):
    process, directory = start(tmp_path, "epochs=100000")
    wait_for(directory, "actor_pretrain", 2, process)
    process.send_signal(number)
    assert process.wait() == 130
    told = (tmp_path / "said.txt").read_text()
    assert f"recrun resume {directory}" in told
    assert "Traceback" not in told
    assert json.loads((directory / "run.json").read_text())["status"] == "interrupted"
    assert (directory / "actor_pretrain" / "last" / "state.pt").exists()
