"""The command line, with a run that only pretends; test_run has the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds.fake_run import run  # noqa: F401  # a fixture

from recrun import __version__, cli, train
from recrun.errors import ConfigError, DataError, Interrupted
from recrun.runtime import process


def test_a_run_makes_its_directory_and_ends_with_0(run):  # noqa: F811
    assert cli.main(["model=mult_vae", "dataset=ml_100k"]) == 0
    (directory,) = run.seen
    assert directory.parent == Path("outputs/mult_vae/ml_100k")


def test_the_exit_codes(run, capsys):  # noqa: F811
    assert cli.main(["trainer.lrr=1"]) == 2
    assert not run.seen
    assert capsys.readouterr().err == "error: unknown key trainer.lrr; did you mean 'lr'?\n"
    run.ends["all"] = DataError("ratings.csv:3: no number")
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "error: ratings.csv:3: no number\n"
    run.ends["all"] = ConfigError("trainer.monitor=x is not computed")
    assert cli.main([]) == 2
    capsys.readouterr()
    run.ends["all"] = Interrupted("stage finetune, epoch 2, step 3")
    assert cli.main([]) == 130
    told = capsys.readouterr().err
    assert told == f"interrupted: stage finetune, epoch 2, step 3; go on with: recrun resume {run.seen[-1]}\n"


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(run, capsys, monkeypatch):  # noqa: F811
    monkeypatch.delenv("RECRUN_DEBUG", raising=False)
    run.ends["all"] = RuntimeError("matrices of different shapes\nand much more")
    assert cli.main([]) == 1
    log = run.seen[0] / "recrun.log"
    told = capsys.readouterr().err
    assert told == f"error: RuntimeError: matrices of different shapes (traceback in {log})\n"
    assert "Traceback" in log.read_text()
    monkeypatch.setenv("RECRUN_DEBUG", "1")
    assert cli.main([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_told_apart(run, capsys):  # noqa: F811
    run.ends["all"] = OSError(28, "No space left on device")
    assert cli.main([]) == 1
    assert capsys.readouterr().err == (
        f"error: the disk is full; make room and go on with: recrun resume {run.seen[0]}\n"
    )


def test_ctrl_c_before_the_run_begins(run, capsys, monkeypatch):  # noqa: F811
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "command", interrupted)
    assert cli.main([]) == 130


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resum", "x"], "unknown command 'resum'; did you mean 'resume'?"),
        (["ract"], "unknown command 'ract'; did you mean model=ract?"),
        (["--multrun", "seed=1"], "unknown option --multrun; did you mean '--multirun'?"),
        (["-x"], "unknown option -x"),
        (["list", "modls"], "cannot list 'modls'; did you mean 'models'?"),
        (["resume"], "resume needs a run directory"),
        (["resume", "nowhere"], "nowhere is not a run directory: it has no config.yaml or sweep.json"),
        (["evaluate", "nowhere"], "nowhere is not a run directory: it has no config.yaml"),
        (["--config-dir", "nowhere"], "--config-dir nowhere is not a folder"),
    ],
)
def test_wrong_usage(run, capsys, words, told):  # noqa: F811
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err
    assert not run.seen


def test_resume_goes_on_with_the_directory(run, capsys):  # noqa: F811
    run.ends[0] = Interrupted("")
    assert cli.main(["seed=4"]) == 130
    assert cli.main(["resume", str(run.seen[0])]) == 0
    assert run.seen[1] == run.seen[0]
    capsys.readouterr()
    assert cli.main(["resume", str(run.seen[0])]) == 0
    assert "is finished: nothing to resume" in capsys.readouterr().out
    assert len(run.seen) == 2
    assert cli.main(["resume", str(run.seen[0]), "seed=5"]) == 2


def test_evaluate_adds_overrides_to_the_runs_own(run, capsys):  # noqa: F811
    assert cli.main(["model=mult_vae", "seed=4"]) == 0
    assert cli.main(["evaluate", str(run.seen[0]), "eval_limit=2"]) == 0
    directory, config = run.evaluated
    assert directory == run.seen[0]
    assert (config["seed"], config["eval_limit"]) == (4, 2)
    assert "ndcg@10    0.5000    0.2500" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run.seen[0]), "dataset.paht=x"]) == 2
    assert "unknown key dataset.paht; did you mean 'path'?" in capsys.readouterr().err


def test_list_shows_names_and_first_lines(run, capsys):  # noqa: F811
    assert cli.main(["list"]) == 0
    told = capsys.readouterr().out
    for name in ("models (model=…)", "mult_vae", "RaCT 3/3", "experiments (experiment=…)"):
        assert name in told
    assert "@package" not in told
    assert "_interactions" not in told.replace("synthetic_interactions", "")


def test_list_of_the_users_own_with_all_their_lines(run, capsys):  # noqa: F811
    folder = Path("conf/experiment")
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\n# My experiment\n# recrun experiment=mine, 3 min\nseed: 1\n"
    )
    assert cli.main(["list", "experiments"]) == 0
    told = capsys.readouterr().out
    assert "  mine" in told
    assert "recrun experiment=mine, 3 min" in told
    assert cli.main(["list"]) == 0
    assert "3 min" not in capsys.readouterr().out


def test_list_runs(run, capsys):  # noqa: F811
    assert cli.main(["list", "runs"]) == 0
    assert "none" in capsys.readouterr().out
    run.ends[1] = DataError("no")
    cli.main([])
    cli.main(["model=mult_vae"])
    capsys.readouterr()
    assert cli.main(["list", "runs"]) == 0
    told = capsys.readouterr().out
    assert f"{run.seen[0]}" in told
    assert "finished" in told
    assert "failed" in told


def test_a_run_that_was_killed_is_not_running(run, capsys):  # noqa: F811
    """After `kill -9` run.json still says running, but nobody holds the directory."""
    assert cli.main(["seed=1"]) == 0
    (directory,) = run.seen
    (directory / "run.json").write_text('{"status": "running", "start": "2030-01-02T03:04:05", "stages": {}}')
    capsys.readouterr()
    for _ in range(2):
        assert cli.main(["list", "runs"]) == 0
        assert "interrupted" in capsys.readouterr().out
        (directory / ".lock").touch()
    with process.exclusive(directory):
        assert cli.main(["list", "runs"]) == 0
    assert "running" in capsys.readouterr().out
    assert cli.main(["list", "runs", "nowhere"]) == 2
    assert "list runs: nowhere is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["resume", "evaluate", "predict", "embed", "compare", "list"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_verb_has_help_of_its_own(run, capsys, verb, flag):  # noqa: F811
    for words in ([verb, flag], [verb, "RUN", flag]):
        assert cli.main(words) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"recrun {verb} ")
        assert "model=" not in told
    own = {"resume": "epochs=N", "predict": "--k K", "embed": "--side", "list": "runs", "evaluate": "eval_limit"}
    own["compare"] = "--all-pairs"
    assert own[verb] in told


def test_help_and_version(run, capsys):  # noqa: F811
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    for word in ("resume RUN", "mult_dae | mult_vae", "130 interrupted"):
        assert word in told
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"recrun {__version__}\n"


def test_hydras_flags_only_look(run, capsys):  # noqa: F811
    assert cli.main(["--cfg", "job", "--package", "stage.finetune", "stage.finetune.patience=3", "seed=2"]) == 0
    told = capsys.readouterr().out
    assert "patience: 3" in told
    assert cli.main(["--info", "searchpath"]) == 0
    assert "recrun-user" not in capsys.readouterr().out
    Path("conf").mkdir()
    assert cli.main(["--info", "searchpath"]) == 0
    assert f"://{Path('conf').resolve()}" in capsys.readouterr().out
    assert not run.seen


def test_a_warning_for_a_key_without_effect(run, capsys):  # noqa: F811
    assert cli.main(["trainer.lr=0.5"]) == 0
    assert "trainer.lr=0.5 has no effect" in capsys.readouterr().err


def test_from_python(run):  # noqa: F811
    results = train("model=mult_vae", "seed=2")
    assert results["directory"] == str(run.seen[0])
    assert results["test"] == {"ndcg@100": 0.1}
    with pytest.raises(ConfigError, match=r"trainer\.lrr"):
        train("trainer.lrr=1")
    run.ends["all"] = DataError("bad")
    with pytest.raises(DataError):
        train()


def test_an_output_directory_that_cannot_be_made(run, capsys):  # noqa: F811
    Path("outputs").mkdir()
    (Path("outputs") / "ract").write_text("a file")
    assert cli.main([]) == 2
    assert "cannot make a directory in outputs/ract" in capsys.readouterr().err
    assert not run.seen


@pytest.mark.parametrize("words", [["list"], ["--help"], ["trainer.lrr=1"], ["-m", "seed=0,1", "trainer.lrr=1"]])
def test_nothing_of_this_imports_torch(words, tmp_path):
    told = "import sys; from recrun.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", told, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "pandas", "rich"}
    if words[0] in ("list", "--help"):
        assert not loaded & {"hydra", "omegaconf", "yaml"}


def test_a_reader_that_has_seen_enough_ends_it_in_silence():
    words = [sys.executable, "-m", "recrun", "list"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 1
