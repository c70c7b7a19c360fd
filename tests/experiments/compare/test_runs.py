"""Runs and sweeps as data: gathered over seeds, refused where they were evaluated differently, never executed."""

import json

import pytest
from worlds.stored_runs import FULL, NEXT, store_run

from recrun.errors import ConfigError, DataError
from recrun.experiments.compare.runs import (
    find_runs,
    gather_settings,
    read_run,
    refuse_other_evaluations,
    setting_called,
)

UNITS = {"ndcg@10": [0.1, 0.2, 0.3]}


def settings_of(*paths):
    return gather_settings(find_runs(paths)[0])


def refused(*runs):
    with pytest.raises((ConfigError, DataError)) as raised:
        refuse_other_evaluations([read_run(run) for run in runs])
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_runs_that_differ_by_seed_alone_are_one_setting(tmp_path):
    lr = {"overrides": ["trainer.lr=0.1"], "config": {"trainer": {"lr": 0.1}}}
    paths = [
        store_run(tmp_path / "0", UNITS, model="ease", seed=0),
        store_run(tmp_path / "1", UNITS, model="sasrec", seed=0, overrides=["dataset=ml"]),
        store_run(tmp_path / "2", UNITS, model="ease", seed=1, config={"output_dir": "elsewhere"}),
        store_run(tmp_path / "3", UNITS, model="ease", seed=0, **lr),
    ]
    found = settings_of(*paths)
    assert [(one.name, len(one.runs)) for one in found] == [
        ("ease", 2),
        ("sasrec dataset=ml", 1),
        ("ease trainer.lr=0.1", 1),
    ]
    assert [run.directory.name for run in found[0].runs] == ["0", "2"]


def test_settings_that_no_override_tells_apart_are_named_by_their_directory(tmp_path):
    one = store_run(tmp_path / "a", UNITS)
    other = store_run(tmp_path / "b", UNITS, config={"epochs": 3})
    assert [setting.name for setting in settings_of(one, other)] == [f"ease ({one})", f"ease ({other})"]


def test_a_sweep_is_its_finished_jobs(tmp_path):
    jobs = [{"number": at, "directory": str(at)} for at in range(4)]
    for at in range(2):
        store_run(tmp_path / str(at), UNITS, seed=at)
    store_run(tmp_path / "2", UNITS, seed=2, status="failed")
    (tmp_path / "3").mkdir()
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    runs, notes = find_runs([tmp_path])
    assert [run.directory.name for run in runs] == ["0", "1"]
    assert notes == [f"left out: {tmp_path / name} is not finished" for name in "23"]


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    run = store_run(tmp_path / "a", UNITS, status="running")
    with pytest.raises(ConfigError, match="a is not finished: its status is 'running'"):
        find_runs([run])


def test_one_seed_twice_is_refused(tmp_path):
    one, other = store_run(tmp_path / "a", UNITS), store_run(tmp_path / "b", UNITS)
    with pytest.raises(ConfigError, match=r"a and .*b are one setting with one seed \(0\): name one"):
        settings_of(one, other)
    with pytest.raises(ConfigError, match="a is named twice"):
        find_runs([one, tmp_path / "." / "b" / ".." / "a"])
    with pytest.raises(ConfigError, match="is neither a run nor a sweep"):
        find_runs([tmp_path])


def test_a_baseline_by_name_model_or_path(tmp_path):
    lr = {"overrides": ["lr=1"], "config": {"lr": 1}}
    one, other, third = (
        store_run(tmp_path / "a", UNITS),
        store_run(tmp_path / "b", UNITS, model="bpr"),
        store_run(tmp_path / "c", UNITS, model="bpr", **lr),
    )
    found = settings_of(one, other, third)
    assert [setting_called(found, name) for name in ("ease", "bpr", "bpr lr=1", str(third))] == [0, 1, 2, 2]
    with pytest.raises(ConfigError, match=r"no one setting is called 'eas'; did you mean 'ease'\?"):
        setting_called(found, "eas")


def test_other_data_another_split_and_other_evaluators_are_refused(tmp_path):
    base = store_run(tmp_path / "a", UNITS, split_fingerprint="s" * 64)

    def against(**changes):
        other = store_run(tmp_path / str(len(list(tmp_path.iterdir()))), UNITS, **changes)
        return refused(base, other).removeprefix(f"{base} and {other} cannot be compared: ")

    same = {"split_fingerprint": "s" * 64}
    assert against(dataset_fingerprint="e" * 64, **same) == "dataset_fingerprint is dddddddddddd… and eeeeeeeeeeee…"
    assert against(split_fingerprint="t" * 64) == "split_fingerprint is ssssssssssss… and tttttttttttt…"
    assert against() == "split_fingerprint is ssssssssssss… and (not set)"
    assert against(config={"eval_limit": 2}, **same) == "eval_limit is None and 2"
    sampled = {**FULL, "sample": 100}
    assert against(evaluator=sampled, **same) == "evaluator.sample is (not set) and 100"
    assert against(config={"evaluator": {**FULL, "mask_seen": False}}, **same) == (
        "evaluator.mask_seen is (not set) and False"
    )
    assert against(evaluator=NEXT, **same).startswith("evaluator._target_ is recrun.evaluation.full_ranking")


def test_what_changes_no_value_is_no_reason_to_refuse(tmp_path):
    one = store_run(tmp_path / "a", UNITS)
    other = store_run(
        tmp_path / "b", UNITS, evaluator={**FULL, "ks": [10, 50], "metrics": ["ndcg", "hit"], "memory_mb": 8}
    )
    moved = store_run(tmp_path / "c", UNITS, config={"evaluator": FULL, "dataset": {}})
    refuse_other_evaluations([read_run(run) for run in (one, other, moved)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "is damaged: it is not JSON"),
        ("run.json", "[]", "is damaged: it holds no object"),
        ("run.json", "[" * 100_000, "is damaged: it is not JSON"),
        ("results.json", "\x00", "is damaged: it is not JSON"),
        ("config.yaml", "a: [", "is damaged: "),
        ("config.yaml", "- 1", "is damaged: it holds no mapping"),
        ("config.yaml", "a: &x [1]\nb: [*x, *x]", "is damaged: it has a YAML alias"),
        ("config.yaml", "a: !!python/object/apply:os.mkdir [sprung]", "is damaged: could not determine a constructor"),
    ],
)
def test_damaged_files_are_one_line_that_names_them(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    run = store_run(tmp_path / "a", UNITS)
    (run / name).write_text(content)
    with pytest.raises(DataError) as raised:
        find_runs([run])
    assert str(raised.value).startswith(f"{run / name} {message}")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "sprung").exists()


def test_missing_files_and_bytes_that_are_no_text_are_named(tmp_path):
    run = store_run(tmp_path / "a", UNITS)
    (run / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"results.json is damaged: byte 0 is not UTF-8"):
        find_runs([run])
    (run / "results.json").unlink()
    with pytest.raises(DataError, match=r"results.json is missing"):
        find_runs([run])
    assert "has no dataset_fingerprint" in refused(*[store_run(tmp_path / "b", UNITS, dataset_fingerprint=None)] * 2)


def test_no_link_and_no_name_leads_out(tmp_path):
    run = store_run(tmp_path / "a", UNITS)
    (tmp_path / "outside.json").write_text((run / "results.json").read_text())
    (run / "results.json").unlink()
    (run / "results.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(DataError, match=r"results\.json leads out of"):
        find_runs([run])
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    for directory in ("../a", str(tmp_path / "a")):
        (sweep / "sweep.json").write_text(json.dumps({"jobs": [{"directory": directory}]}))
        with pytest.raises(DataError, match="leads out of"):
            find_runs([sweep])
    (sweep / "sweep.json").write_text(json.dumps({"jobs": [{"number": 0}]}))
    with pytest.raises(DataError, match="its jobs have no directories"):
        find_runs([sweep])


def test_a_name_cannot_move_the_cursor(tmp_path):
    run = store_run(tmp_path / "a", UNITS, model="ease\x1b[2J")
    assert settings_of(run)[0].name == "ease?[2J"
