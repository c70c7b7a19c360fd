"""What finished runs keep, and what `recrun clean` removes."""

import json
import shutil

import pytest
from worlds.small_run import copy_of, finished, snapshot

from recrun import cli
from recrun.errors import ConfigError
from recrun.experiments.disk import clean

STATE = "train/last/state.pt"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs that kept their state and that did not."""
    return {kept: finished(tmp_path_factory.mktemp(kept), f"keep_state={kept}") for kept in ("last", "none")}


def files(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} - {".lock"}


def test_a_finished_run_keeps_weights_alone_unless_its_state_is_asked_for(runs):
    assert files(runs["last"]) - files(runs["none"]) == {STATE}
    assert not files(runs["none"]) - files(runs["last"])


def test_more_epochs_need_the_state(runs, tmp_path, capsys):
    directory = copy_of(runs["none"], tmp_path / "run")
    before = snapshot(directory, directory / ".lock")
    assert cli.main(["resume", str(directory), "epochs=2"]) == 2
    said = capsys.readouterr().err
    assert "epochs=2: stage train is finished and has no optimizer state any more (keep_state=none" in said
    assert "pre_model_path=RUN" in said
    assert cli.main(["resume", str(directory)]) == 0
    assert f"pre_model_path={directory} (with keep_state=last a run can be extended)" in capsys.readouterr().out
    assert snapshot(directory, directory / ".lock") == before
    directory = copy_of(runs["last"], tmp_path / "other")
    assert cli.main(["resume", str(directory), "epochs=2"]) == 0
    assert (directory / STATE).is_file()


def test_a_run_that_was_killed_before_it_removed_the_state_removes_it_when_resumed(runs, tmp_path):
    directory = copy_of(runs["none"], tmp_path / "run")
    shutil.copy(runs["last"] / STATE, directory / STATE)
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "status": "running"}))
    assert cli.main(["resume", str(directory)]) == 0
    assert not (directory / STATE).exists()


def test_clean_removes_what_is_not_needed_says_so_and_the_weights_still_evaluate(runs, tmp_path, capsys):
    directory = copy_of(runs["last"], tmp_path / "run")
    (directory / "train" / "last.new").mkdir()
    (directory / "train" / "last.new" / "model.safetensors").write_bytes(bytes(1 << 20))
    whole = files(directory)
    assert cli.main(["clean", str(directory), "--dry-run"]) == 0
    assert "MB  to remove in all" in capsys.readouterr().out
    assert files(directory) == whole
    assert cli.main(["clean", str(directory)]) == 0
    said = capsys.readouterr().out
    assert f"1.0 MB  {directory / 'train' / 'last.new'}  a write that was interrupted" in said
    assert f"{directory / 'train' / 'last'}  last weights and optimizer state" in said
    left = files(directory)
    assert whole - left == {"train/last.new/model.safetensors", *(f"train/last/{name}" for name in
        ("model.json", "model.safetensors", "state.pt"))}  # fmt: skip
    assert cli.main(["clean", str(directory)]) == 0
    assert "nothing removed" in capsys.readouterr().out
    assert cli.main(["evaluate", str(directory)]) == 0


def test_of_a_sweep_the_finished_runs_are_cleaned_and_an_unfinished_run_is_refused(runs, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    for number, status in enumerate(("finished", "failed", "finished")):
        directory = copy_of(runs["last"], sweep / str(number))
        record = json.loads((directory / "run.json").read_text())
        (directory / "run.json").write_text(json.dumps({**record, "status": status}))
    (sweep / "sweep.json").write_text("{}")
    assert [leftover.path for leftover in clean(sweep)] == [sweep / "0/train/last", sweep / "2/train/last"]
    assert (sweep / "1" / STATE).is_file()
    with pytest.raises(ConfigError, match=r"1 is not finished \(failed\): recrun resume"):
        clean(sweep / "1")
    assert cli.main(["clean"]) == 2
    assert "clean needs a run or a sweep" in capsys.readouterr().err


def test_a_stage_that_names_another_folder_is_not_followed(runs, tmp_path, capsys):
    directory = copy_of(runs["last"], tmp_path / "run")
    other = copy_of(runs["last"], tmp_path / "other")
    record = json.loads((directory / "run.json").read_text())
    record["stages"] = {"../other/train": record["stages"]["train"]}
    (directory / "run.json").write_text(json.dumps(record))
    assert cli.main(["clean", str(directory)]) == 1
    assert "leads out of" in capsys.readouterr().err
    assert (other / STATE).is_file()
