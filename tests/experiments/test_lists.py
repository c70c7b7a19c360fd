"""`recrun evaluate --from`: what our own predictions give is what the run has; runs of lists can be compared."""

import json

import pytest
from worlds.small_run import WORDS, finished

from recrun import cli

DATA = [word for word in WORDS if word.startswith("dataset")]


@pytest.fixture(scope="module")
def run_and_lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    directory = finished(folder)
    assert cli.main(["predict", str(directory), "--output", str(folder / "ours.tsv"), "--k", "100"]) == 0
    return directory, folder / "ours.tsv"


def evaluated(folder, path, *words):
    assert cli.main(["evaluate", "--from", str(path), *DATA, f"output_dir={folder}", *words]) == 0
    (directory,) = [found.parent for found in folder.rglob("run.json")]
    return directory, *(json.loads((directory / name).read_text()) for name in ("run.json", "results.json"))


def test_our_own_predictions_have_the_metrics_of_the_run(run_and_lists, tmp_path, capsys):
    run, path = run_and_lists
    directory, record, results = evaluated(tmp_path, path)
    own, own_record = (json.loads((run / name).read_text()) for name in ("results.json", "run.json"))
    assert results["test"] == pytest.approx(own["test"], abs=1e-9)
    assert len(results["test"]) > 20
    for name in ("dataset_fingerprint", "split_fingerprint"):
        assert record[name] == own_record[name]
    assert record["status"] == "finished"
    assert record["lists"]["unknown_users"] == record["lists"]["units_without_list"] == 0
    capsys.readouterr()
    assert cli.main(["compare", str(run), str(directory), "--metric", "mrr@20", "--format", "json"]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert comparison["setting"] == "ours"
    assert comparison["equal"] == 1
    assert cli.main(["list", "runs", str(tmp_path)]) == 0
    assert "ours" in capsys.readouterr().out


def test_what_is_unknown_or_absent_is_counted(run_and_lists, tmp_path, capsys):
    lines = run_and_lists[1].read_text().splitlines()
    first = lines[0].split("\t")[0]
    kept = [line for line in lines if line.split("\t")[0] != first]
    kept += ["nobody\tnothing\t1\t0.5"]
    path = tmp_path / "theirs.v2.tsv"
    path.write_text("\n".join(kept) + "\n")
    directory, record, results = evaluated(tmp_path / "out", path, "--name", "theirs", "seed=3")
    found = record["lists"]
    assert (found["unknown_users"], found["unknown_items"], found["units_without_list"]) == (1, 1, 1)
    assert directory.parts[-3] == "theirs"
    assert results["valid"] == {}
    import numpy as np

    with np.load(directory / "units" / "test.npz") as units:
        assert units["hit@100"][units["ids"].tolist().index(first)] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=sasrec"], "model=sasrec changes nothing"),
        (["dataset=synthetic_sessions"], "use evaluator=full_ranking"),
        (["--name", "a/b"], "--name a/b: expected letters"),
        (["--split", "train"], "--split train: expected valid or test"),
        (["evaluator.ks=[0]"], "evaluator.ks"),
    ],
)
def test_wrong_use_is_refused(run_and_lists, tmp_path, capsys, words, message):
    assert cli.main(["evaluate", "--from", str(run_and_lists[1]), *words, f"output_dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_lists_of_other_users_are_refused(tmp_path, capsys):
    path = tmp_path / "theirs.tsv"
    path.write_text("nobody\tnothing\n")
    assert cli.main(["evaluate", "--from", str(path), *DATA, f"output_dir={tmp_path / 'out'}"]) == 1
    assert "none of the 1 users of the lists is a unit of the test split" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_of_lists_has_no_weights(run_and_lists, tmp_path, capsys):
    directory, *_ = evaluated(tmp_path, run_and_lists[1])
    assert cli.main(["predict", str(directory), "--output", str(tmp_path / "x.tsv")]) == 2
    assert "and no weights: use compare and report" in capsys.readouterr().err
    assert cli.main(["resume", str(directory)]) == 0
    assert "nothing to resume" in capsys.readouterr().out
