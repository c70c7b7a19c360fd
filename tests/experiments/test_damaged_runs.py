"""Each file of a finished run in turn damaged: every verb gives the same result, or one line and its exit code."""

import contextlib
import io
import json
import re

import pytest
from worlds.small_run import copy_of, finished, snapshot

from recrun import cli

VERBS = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "--output", "OUT/predictions.tsv"],
    "embed": ["embed", "RUN", "--side=item", "--output", "OUT/items.tsv"],
    "resume": ["resume", "RUN"],
    "list": ["list", "runs", "RUNS"],
}
FILES = [
    *("config.yaml", "run.json", "results.json", "metrics.jsonl", "recrun.log", ".lock", "vocabulary/items.txt"),
    *(".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "vocabulary/users.txt"),
    *("units/valid.npz", "units/test.npz", "profiles/valid_units.npz", "profiles/test_units.npz"),
    *("train/best/model.json", "train/best/model.safetensors"),
    *("train/last/model.json", "train/last/model.safetensors"),
]


def cut(path, secret):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path, secret):
    path.write_bytes(b"")


def flipped(path, secret):
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 3] ^= 0x41
    path.write_bytes(content)


def linked(path, secret):
    path.unlink()
    path.symlink_to(secret)


def removed(path, secret):
    path.unlink()


def a_folder(path, secret):
    path.unlink()
    path.mkdir()


DAMAGES = [cut, emptied, flipped, linked, removed, a_folder]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def expected(whole, tmp_path_factory):
    """What each verb says and writes where nothing is damaged."""
    folder = tmp_path_factory.mktemp("expected")
    return {verb: said(verb, copy_of(whole, folder / verb / "run"), folder / "out") for verb in VERBS}


def said(verb, run, out):
    """Exit code, stdout, stderr and what was written of a verb about a run."""
    out.mkdir(exist_ok=True)
    names = {"RUNS": str(run.parent), "RUN": str(run), "OUT": str(out)}
    words = [re.sub("RUNS|RUN|OUT", lambda found: names[found[0]], word) for word in VERBS[verb]]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = cli.main(words)
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    for path in out.iterdir():
        path.unlink()
    return code, text.getvalue().replace(str(run), "RUN"), errors.getvalue().replace(str(run), "RUN"), written


def test_the_list_of_files_is_complete(whole):
    assert {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()} == set(FILES)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file(whole, expected, tmp_path, name, damage):
    run = copy_of(whole, tmp_path / "runs" / "run")
    assert (run / name).is_file(), "the list above names a file that no run has"
    secret = tmp_path / "secret"
    secret.write_text("nobody's business")
    damage(run / name, secret)
    before = snapshot(tmp_path, run)
    for verb in VERBS:
        code, text, errors, written = said(verb, run, tmp_path / "out")
        if (code, text, written) != (expected[verb][0], expected[verb][1], expected[verb][3]):
            assert_one_line(verb, code, errors, text)
            assert not written
    (tmp_path / "out").rmdir()
    assert snapshot(tmp_path, run) == before


def assert_one_line(verb, code, errors, text):
    """An exit code of failure and one error without a traceback; a list shows the rest."""
    if verb == "list":
        assert code == 0
        return
    assert code in (1, 2), (verb, code, text, errors)
    assert "Traceback" not in errors
    assert errors.count("error: ") == 1, errors
    lines = errors.strip().splitlines()
    assert len(lines) <= 2, errors
    assert len(errors) < 1000


def sweep_of(whole, folder):
    """A finished sweep of two jobs."""
    folder.mkdir()
    jobs = [{"number": number, "overrides": [f"seed={number}"], "directory": str(number)} for number in range(2)]
    (folder / "sweep.json").write_text(json.dumps({"argv": [], "jobs": jobs}))
    for job in jobs:
        copy_of(whole, folder / job["directory"])
    return folder


@pytest.mark.parametrize("damage", [cut, emptied, linked, removed, a_folder], ids=lambda damage: damage.__name__)
def test_a_damaged_plan_of_a_sweep(whole, tmp_path, capsys, damage):
    sweep = sweep_of(whole, tmp_path / "sweep")
    assert cli.main(["resume", str(sweep)]) == 0
    capsys.readouterr()
    secret = tmp_path / "secret"
    secret.write_text("{}")
    damage(sweep / "sweep.json", secret)
    code = cli.main(["resume", str(sweep)])
    assert_one_line("resume", code, capsys.readouterr().err, "")
    assert secret.read_text() == "{}"


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_damaged_job_of_a_sweep_hides_no_other(whole, tmp_path, capsys, name):
    sweep = sweep_of(whole, tmp_path / "sweep")
    cut(sweep / "0" / name, None)
    assert cli.main(["resume", str(sweep)]) == 1
    told = capsys.readouterr()
    assert f"job 0 (seed=0) failed: {sweep}/0/{name} is damaged: it is not JSON" in told.err
    assert "Traceback" not in told.err
    row = next(line for line in told.out.splitlines() if "seed=1" in line)
    assert "finished" in row


def test_a_damaged_run_hides_no_other_in_a_list(whole, tmp_path, capsys):
    for name in ("a", "b", "c"):
        copy_of(whole, tmp_path / name)
    cut(tmp_path / "a" / "run.json", None)
    (tmp_path / "c" / "run.json").write_text('{"start": 3, "stages": [], "status": null}')
    assert cli.main(["list", "runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    rows = {name: next(line for line in told if line.startswith(f"  {tmp_path}/{name} ")) for name in ("a", "b", "c")}
    assert "unreadable" in rows["a"]
    assert "finished" in rows["b"]


def test_a_run_that_never_started(whole, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((whole / "config.yaml").read_text())
    for verb in ("evaluate", "predict", "embed"):
        code, _, errors, _ = said(verb, run, tmp_path / "out")
        assert code == 1
        assert errors.startswith("error: RUN holds no checkpoint")
        assert errors.count("\n") == 1
