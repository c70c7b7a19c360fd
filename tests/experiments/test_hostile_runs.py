"""A run directory from a stranger: whatever is in it, no verb executes it or writes outside of it."""

import json
import os
import pathlib
import pickle
import sys

import pytest
from omegaconf import OmegaConf
from worlds.small_run import copy_of, finished, snapshot

from recrun import cli
from recrun.config import stored, targets
from recrun.experiments.run_record import config_sha256
from recrun.runtime import cache_folder

EVIL = "import pathlib\npathlib.Path({canary!r}).touch()\nclass Model:\n    pass\n"

# (key of the config, what a stranger puts there); CANARY is a file that must not come to exist.
CALLS = [
    ("model", {"_target_": "os.system", "command": "touch CANARY"}),
    ("model", {"_target_": "posix.system", "command": "touch CANARY"}),
    ("model", {"_target_": "os.popen", "cmd": "touch CANARY"}),
    ("model", {"_target_": "builtins.open", "file": "CANARY", "mode": "w"}),
    ("model", {"_target_": "io.open", "file": "CANARY", "mode": "w"}),
    ("model", {"_target_": "builtins.exec", "source": "open('CANARY', 'w')"}),
    ("model", {"_target_": "builtins.eval", "source": "open('CANARY', 'w')"}),
    ("model", {"_target_": "builtins.__import__", "name": "evil_module"}),
    ("model", {"_target_": "importlib.import_module", "name": "evil_module"}),
    ("model", {"_target_": "evil_module.Model"}),
    ("model", {"_target_": "evil_module"}),
    ("model", {"_target_": ".evil_module.Model"}),
    ("model", {"_target_": "evil_module.Model", "_partial_": True}),
    ("model", {"_target_": "runpy.run_path", "path_name": "evil_module.py"}),
    ("model", {"_target_": "subprocess.run", "args": ["touch", "CANARY"]}),
    ("model", {"_target_": "subprocess.Popen", "args": ["touch", "CANARY"]}),
    ("model", {"_target_": "subprocess.check_output", "args": ["touch", "CANARY"]}),
    ("model", {"_target_": "ctypes.CDLL", "name": "libc.so.6"}),
    ("model", {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2}),
    ("model", {"_target_": "torch.load", "f": "PICKLE", "weights_only": False}),
    ("model", {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local", "model": "x"}),
    ("model", {"_target_": "torch.optim.adam.torch.load", "f": "PICKLE", "weights_only": False}),
    ("model", {"_target_": "recrun.experiments.run.torch.load", "f": "PICKLE", "weights_only": False}),
    ("model", {"_target_": "recrun.cli.os.system", "command": "touch CANARY"}),
    ("model", {"_target_": "recrun.cli.main", "argv": ["model=mult_vae"]}),
    ("model", {"_target_": "recrun.experiments.directories.train", "overrides": []}),
    ("model", {"_target_": "recrun.models.autoencoder.MultVAE.forward"}),
    ("model", {"_target_": "recrun.models.autoencoder.nn.Linear"}),
    ("model", {"_target_": "hydra.utils.call", "config": {"_target_": "os.system", "command": "touch CANARY"}}),
    ("model", {"_target_": 3}),
    ("model", {"_target_": ["os.system"]}),
    ("model", {"_target_": "os system"}),
    ("model.mlp_hidden_size", [{"_target_": "os.system", "command": "touch CANARY"}]),
    ("model.latent_dimension", {"_target_": "os.system", "command": "touch CANARY"}),
    ("model.further", {"_target_": "os.system", "command": "touch CANARY"}),
    ("further", {"_target_": "os.system", "command": "touch CANARY"}),
    ("dataset", {"_target_": "pandas.read_pickle", "filepath_or_buffer": "PICKLE"}),
    ("dataset", {"_target_": "pickle.load", "file": "PICKLE"}),
    ("dataset", {"_target_": "numpy.load", "file": "PICKLE", "allow_pickle": True}),
    ("dataset", {"_target_": "shutil.rmtree", "path": "HOME"}),
    ("dataset", {"_target_": "recrun.experiments.trackers.TensorBoard", "directory": "HOME", "config": {}}),
    ("dataset.source", {"_target_": "urllib.request.urlretrieve", "url": "file:HOME", "filename": "CANARY"}),
    ("dataset.source", {"_target_": "recrun.runtime.launch.Other.start", "arguments": ["-c", "0"], "rank": 1}),
    ("dataset.source", {"_target_": "recrun.runtime.launch.Other", "rank": 1, "process": 0, "words": 0}),
    ("dataset.source", {"_target_": "recrun.runtime.run_files.open_plain", "path": "CANARY", "flags": 65}),
    ("dataset.source", {"_target_": "recrun.experiments.run_record.write_text", "path": "CANARY", "text": "x"}),
    ("dataset.source", {"_target_": "recrun.checkpoints.checkpoint.write_files", "fresh": "CANARY"}),
    ("dataset.evaluator", {"_target_": "os.makedirs", "name": "CANARY"}),
    ("dataset.evaluator", {"_target_": "recrun.models.autoencoder.MultVAE", "n_items": 3}),
    ("dataset.evaluator.further", {"_target_": "os.system", "command": "touch CANARY"}),
    ("dataset.download", {"_target_": "shutil.copyfile", "src": "HOME", "dst": "CANARY"}),
    ("trainer", {"_target_": "os.system", "command": "touch CANARY"}),
    ("trainer.objective", {"_target_": "os.system", "command": "touch CANARY"}),
    ("trainer.objective", {"_target_": "recrun.models.autoencoder.MultVAE", "n_items": 3}),
    ("trainer.optimizer", {"_target_": "logging.FileHandler", "filename": "CANARY"}),
    ("trainer.optimizer", {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}),
    ("trainer.optimizer", {"_target_": "torch.optim.swa_utils.AveragedModel", "_partial_": True}),
    ("trainer.scheduler", {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": {"_target_": "os.system"}}),
    ("trainer.scheduler", {"_target_": "os.system", "command": "touch CANARY"}),
    ("trainer.weighting", {"_target_": "os.system", "command": "touch CANARY"}),
    ("trainer.regularization", {"_target_": "tempfile.mkdtemp", "dir": "HOME"}),
    ("tracker", {"_target_": "os.system", "command": "touch CANARY"}),
    ("tracker", {"_target_": "recrun.data.io.download.Archive", "url": "x", "md5": "x", "member": "x"}),
    ("stage.train", {"objective": {"_target_": "os.system", "command": "touch CANARY"}}),
    ("stage.train", {"optimizer": {"_target_": "builtins.open", "file": "CANARY", "mode": "w"}}),
]
VERBS = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "--output=predictions.tsv"],
    "embed": ["embed", "RUN", "--side=item", "--output=items.npz"],
    "resume": ["resume", "RUN"],
}


class Touch:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.open, (str(self.path), os.O_CREAT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def stranger(whole, tmp_path, monkeypatch):
    """A run that says it was interrupted, and a working directory with a module that a config may name."""
    monkeypatch.setattr(targets, "_granted", targets.Permission())
    home = tmp_path / "home"
    home.mkdir()
    (home / "evil_module.py").write_text(EVIL.format(canary=str(tmp_path / "CANARY")))
    (home / "precious").write_text("precious")
    (home / "evil.pickle").write_bytes(pickle.dumps(Touch(tmp_path / "CANARY")))
    monkeypatch.chdir(home)
    run = copy_of(whole, tmp_path / "run")
    (run / "results.json").unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    return run


def change(run, key, value):
    """Puts a value into config.yaml, and makes run.json agree."""
    node = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(node, key, value, merge=False, force_add=True)
    write(run, node)


def write(run, node):
    (run / "config.yaml").write_text(OmegaConf.to_yaml(node))
    config = OmegaConf.to_container(node)
    record = json.loads((run / "run.json").read_text())
    record |= {"status": "interrupted", "config": config, "config_sha256": config_sha256(config)}
    (run / "run.json").write_text(json.dumps(record))


def filled(value, tmp_path):
    """The value with the names of this test's files."""
    names = {"CANARY": tmp_path / "CANARY", "HOME": tmp_path / "home", "PICKLE": tmp_path / "home" / "evil.pickle"}
    text = json.dumps(value)
    for name, path in names.items():
        text = text.replace(name, str(path))
    return json.loads(text)


def refused(verb, run, capsys):
    """What a verb says that must end in one line; nothing outside the run changes."""
    home = run.parent
    before = snapshot(home, run)
    code = cli.main([str(run) if word == "RUN" else word for word in VERBS[verb]])
    errors = capsys.readouterr().err
    assert code in (1, 2), errors
    assert errors.count("error: ") == 1
    assert len(errors.strip().splitlines()) <= 2
    assert "Traceback" not in errors
    assert snapshot(home, run) == before
    return errors


def named(call):
    """The name of a test: the key, and the target if there is one."""
    key, value = call
    return f"{key}={value.get('_target_', '…')}" if isinstance(value, dict) else f"{key}=[…]"


@pytest.mark.parametrize(("key", "value"), CALLS, ids=map(named, CALLS))
def test_a_target_that_a_stranger_names_is_not_run(stranger, tmp_path, capsys, key, value):
    change(stranger, key, filled(value, tmp_path))
    for verb in ("evaluate", "resume"):
        assert key.split(".")[0] in refused(verb, stranger, capsys)


def test_every_verb_refuses_a_target_naming_the_key_and_what_is_allowed(stranger, capsys):
    change(stranger, "dataset.source", {"_target_": "pandas.read_pickle", "filepath_or_buffer": "evil.pickle"})
    for verb in VERBS:
        errors = refused(verb, stranger, capsys)
        assert "dataset.source._target_=pandas.read_pickle is not allowed: expected " in errors
        assert "recrun.data.events.settings.EventSource" in errors


@pytest.mark.parametrize("plugins", [["evil_module"], ["os", "builtins", "evil_module"], ["."], "evil_module"])
def test_a_runs_own_plugins_are_not_trusted(stranger, capsys, plugins):
    change(stranger, "plugins", plugins)
    change(stranger, "model", {"_target_": "evil_module.Model"})
    for verb in VERBS:
        refused(verb, stranger, capsys)


def test_a_job_of_a_sweep_neither(stranger, tmp_path, capsys):
    change(stranger, "model", {"_target_": "evil_module.Model"})
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    stranger.rename(sweep / "0")
    (sweep / "sweep.json").write_text(json.dumps({"jobs": [{"number": 0, "overrides": [], "directory": "0"}]}))
    assert cli.main(["resume", str(sweep)]) == 1
    assert "model._target_=evil_module.Model is not allowed" in capsys.readouterr().err
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.parametrize("directory", ["../run", "/", "..", ".", "", 3, None, "a/b"])
def test_the_jobs_of_a_sweep_are_beside_its_plan(stranger, tmp_path, capsys, directory):
    plan = {"jobs": [{"number": 0, "overrides": [], "directory": directory}]}
    (stranger / "sweep.json").write_text(json.dumps(plan))
    assert "a job's directory is" in refused("resume", stranger, capsys)


LINKS = [
    *(".lock", "recrun.log", "evaluations.jsonl", "run.json.new", "metrics.jsonl.new", "results.json.new"),
    *("config.yaml.new", "vocabulary/items.txt.new", "units/test.npz.new", "train/last.new", "train/best.new"),
    *("metrics.jsonl", "run.json", "results.json", "tensorboard", "wandb", "vocabulary", "units", "profiles"),
    *("train", ".hydra"),
]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("goal", ["precious", "."])
def test_a_link_out_of_a_run_is_not_followed(stranger, tmp_path, capsys, name, goal):
    path = stranger / name
    if path.is_dir():
        path.rename(tmp_path / "moved")
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "home" / goal)
    for verb in VERBS:
        errors = refused(verb, stranger, capsys)
        assert f"{path} is a link that leads out of" in errors or "not a run directory" in errors
    assert cli.main(["list", "runs", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", [".lock", "recrun.log", "run.json", "config.yaml", "evaluations.jsonl", "x"])
def test_a_pipe_is_not_waited_for(stranger, tmp_path, capsys, name):
    (stranger / name).unlink(missing_ok=True)
    os.mkfifo(stranger / name)
    for verb in VERBS:
        refused(verb, stranger, capsys)
    assert cli.main(["list", "runs", str(tmp_path)]) == 0


@pytest.mark.parametrize("name", ["../x", "/x", "..", ".", "a/b", "", "x" * 200, "a\x1b[2J", "a b"])
def test_a_stage_has_a_plain_name(stranger, capsys, name):
    change(stranger, "stage", {name: {}})
    for verb in VERBS:
        assert "letters, digits" in refused(verb, stranger, capsys)


BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "recursion": "model: &a {x: *a}\ndataset: {}\ntrainer: {}\nstage: {}\n",
    "depth": "model: " + "[" * 5000 + "]" * 5000,
    "python": "model: !!python/object/apply:os.system ['touch CANARY']",
    "object": "model: !!python/name:os.system",
    "list": "- model",
    "text": "model",
    "binary": "\x00\x01",
    "sections": "model: 3\ndataset: []\ntrainer: null\nstage: x",
    "interpolation": "model: ${model}\ndataset: {}\ntrainer: {}\nstage: {train: {}}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_means_harm(stranger, capsys, name):
    (stranger / "config.yaml").write_text(BOMBS[name])
    for verb in VERBS:
        assert "config.yaml" in refused(verb, stranger, capsys)


def test_a_conf_folder_that_the_run_names_is_not_read(stranger, tmp_path, capsys):
    (stranger / "conf" / "dataset").mkdir(parents=True)
    (stranger / "conf" / "dataset" / "mine.yaml").write_text("_target_: evil_module.Model")
    hydra = OmegaConf.load(stranger / ".hydra" / "hydra.yaml")
    source = {"path": str(stranger / "conf"), "provider": "recrun-user"}
    hydra.hydra.runtime.config_sources = [source, *hydra.hydra.runtime.config_sources]
    (stranger / ".hydra" / "hydra.yaml").write_text(OmegaConf.to_yaml(hydra))
    (stranger / ".hydra" / "overrides.yaml").write_text("- dataset=mine\n- hydra.searchpath=[file://conf]\n")
    assert cli.main(["evaluate", str(stranger)]) == 0
    assert cli.main(["evaluate", str(stranger), "dataset=mine"]) == 2
    assert "unknown dataset 'mine'" in capsys.readouterr().err
    assert not (tmp_path / "CANARY").exists()


def test_a_download_that_only_the_run_names_is_not_fetched(stranger, tmp_path, capsys):
    archive = {"_target_": "recrun.data.io.download.Archive", "url": f"file:{tmp_path}/home/evil.zip", "md5": "x"}
    change(stranger, "dataset.source", None)
    change(stranger, "dataset.path", "clicks.csv")
    change(stranger, "dataset.root", str(tmp_path / "home"))
    change(stranger, "dataset.download", {**archive, "member": ".bashrc"})
    for verb in VERBS:
        assert "evil.zip is not in a data set of your conf folders" in refused(verb, stranger, capsys)
    assert cli.main(["evaluate", str(stranger), "--trust"]) == 1
    assert "cannot download file:" in capsys.readouterr().err, "nothing is there, but it was looked for"


def test_a_state_that_is_a_pickle_of_code_is_not_run(stranger, tmp_path, capsys):
    node = OmegaConf.load(stranger / "config.yaml")
    write(stranger, node)
    (stranger / "train" / "last" / "state.pt").write_bytes(pickle.dumps(Touch(tmp_path / "CANARY")))
    assert "state.pt cannot be read" in refused("resume", stranger, capsys)


def test_weights_that_are_a_pickle_are_not_run(stranger, tmp_path, capsys):
    (stranger / "train" / "best" / "model.safetensors").write_bytes(pickle.dumps(Touch(tmp_path / "CANARY")))
    assert "model.safetensors is damaged" in refused("evaluate", stranger, capsys)


def test_escapes_in_names_do_not_reach_the_terminal(stranger, tmp_path, capsys):
    place = stranger.rename(tmp_path / "a\x1b[2Jb")
    record = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps({**record, "status": "\x1b]0;x\x07", "stages": {"\x9b1m": {}}}))
    assert cli.main(["list", "runs", str(tmp_path)]) == 0
    assert cli.main(["evaluate", str(place), "model=\x1b[2J"]) == 2
    told = capsys.readouterr()
    assert "a\\x1b[2Jb" in told.out
    assert not {"\x1b", "\x07", "\x9b"} & set(told.out + told.err)


def test_code_that_is_not_here_is_looked_for_where_the_run_began(stranger, capsys):
    change(stranger, "model._target_", "absent_code.Model")  # a name that no other test makes a module of
    record = json.loads((stranger / "run.json").read_text())
    (stranger / "run.json").write_text(json.dumps({**record, "working_directory": "/home/me/project"}))
    errors = refused("evaluate", stranger, capsys)
    assert "there is no module 'absent_code'; the run was started in /home/me/project: go there" in errors


@pytest.mark.parametrize("trusted", [["plugins=[evil_module]"], ["--trust"]])
def test_what_the_user_trusts_is_run(stranger, tmp_path, capsys, monkeypatch, trusted):
    """The counterpart without which the tests above could not fail."""
    monkeypatch.delitem(sys.modules, "good_module", raising=False)
    (stranger.parent / "home" / "good_module.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'CANARY')!r}).touch()\n"
        "from recrun.models.autoencoder import MultVAE\nclass Model(MultVAE): ...\n"
    )
    words = [word.replace("evil", "good") for word in trusted]
    change(stranger, "model._target_", "good_module.Model")
    card = stranger / "train" / "best" / "model.json"
    card.write_text(card.read_text().replace("recrun.models.autoencoder.MultVAE", "good_module.Model"))
    assert cli.main(["evaluate", str(stranger)]) == 2
    assert "plugins=[good_module]" in capsys.readouterr().err
    assert not (tmp_path / "CANARY").exists()
    assert cli.main(["evaluate", str(stranger), *words]) == 0
    assert (tmp_path / "CANARY").exists()


FILES = [".lock", "recrun.log", "evaluations.jsonl", "metrics.jsonl", "run.json", "results.json", "config.yaml"]
FILES += ["run.json.new", "metrics.jsonl.new", "results.json.new", "units/test.npz", "units/test.npz.new"]
FILES += ["vocabulary/items.txt", "vocabulary/items.txt.new", "train/last/state.pt", "report.html", "report.html.new"]


@pytest.mark.parametrize("name", FILES)
def test_a_second_name_of_a_file_outside_is_not_written_to(stranger, tmp_path, name):
    outside, path = tmp_path / "home" / "precious", stranger / name
    if path.exists():
        outside.write_bytes(path.read_bytes())  # so that the run can be read
    path.unlink(missing_ok=True)
    os.link(outside, path)
    before = outside.read_bytes()
    for verb in (*VERBS.values(), ["report", "RUN"], ["list", "runs", str(tmp_path)]):
        assert cli.main([str(stranger) if word == "RUN" else word for word in verb]) in (0, 1, 2)
        assert outside.read_bytes() == before


@pytest.mark.parametrize("source", ["synthetic", "file"])
def test_the_cache_that_a_run_names_is_not_written_to(stranger, tmp_path, monkeypatch, source):
    monkeypatch.setenv("RECRUN_CACHE", str(tmp_path / "mine"))
    place = tmp_path / "home" / "cache"
    if source == "file":
        rows = "".join(f"{n % 40},{n * 7 % 20}\n" for n in range(400))
        (tmp_path / "log.csv").write_text("user,item\n" + rows)
        change(stranger, "dataset.source", None)
        change(stranger, "dataset.path", str(tmp_path / "log.csv"))
    for folder in (str(place), "${oc.env:HOME}/recrun-test-cache", f"{tmp_path}/home/../home/cache"):
        change(stranger, "dataset.cache", folder)
        for verb in ("evaluate", "resume"):
            cli.main([str(stranger) if word == "RUN" else word for word in VERBS[verb]])
        assert not place.exists()
        assert not (pathlib.Path.home() / "recrun-test-cache").exists()


def test_a_cache_that_the_user_named_is_used_again(tmp_path):
    place = str(tmp_path / "cache")
    assert not cache_folder.claimed(place)
    run = finished(tmp_path / "runs", f"dataset.cache={place}")
    assert cache_folder.claimed(place)
    assert stored.load(run)["dataset"]["cache"] == place
    (tmp_path / "cache" / cache_folder.TAG).write_text("Signature: of another program")
    assert stored.load(run)["dataset"]["cache"] == cache_folder.default()
    assert stored.raw(run)["dataset"]["cache"] == place


@pytest.mark.parametrize("key", ["model", "dataset.source", "trainer.optimizer", "stage"])
@pytest.mark.parametrize("verb", ["list", "compare", "report"])
def test_verbs_that_only_show_make_nothing(stranger, tmp_path, key, verb):
    change(stranger, key, {"_target_": "os.system", "command": f"touch {tmp_path / 'CANARY'}"})
    words = {"list": ["list", "runs", str(tmp_path)], "compare": ["compare", str(stranger)]}
    assert cli.main(words.get(verb, [verb, str(stranger)])) in (0, 1, 2)
    assert not (tmp_path / "CANARY").exists()
