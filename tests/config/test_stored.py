"""The config of a run: read again as it was, with what is typed; and what is written of it."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recrun.config import stored
from recrun.config.compose import compose
from recrun.config.portable import portable
from recrun.config.validate import check
from recrun.errors import ConfigError
from recrun.experiments.directories import prepare


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECRUN_DATA", raising=False)
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_conf_that_changed_since_does_not_matter(folder):
    text = "# @package _global_\ndefaults: [mult_vae]\nmodel: {latent_dimension: "
    write(folder / "conf/model/mine.yaml", text + "7}")
    run = prepare(compose(["model=mine"]))
    write(folder / "conf/model/mine.yaml", text + "9}")
    assert stored.recompose(run, []).config["model"]["latent_dimension"] == 7
    (folder / "conf/model/mine.yaml").unlink()
    assert stored.recompose(run, ["eval_limit=3"]).config["model"]["latent_dimension"] == 7


def test_typed_groups_are_composed_and_the_rest_stays(folder):
    run = prepare(compose(["model=mult_vae", "model.latent_dimension=7", "dataset.min_user_count=3", "seed=4"]))
    other = stored.recompose(run, ["dataset=ml_100k", "dataset.filters.threshold=4", "eval_limit=2"])
    check(other, training=False)
    assert (other.option("model"), other.option("dataset")) == ("mult_vae", "ml_100k")
    config = other.config
    assert config["dataset"] == compose(["dataset=ml_100k", "dataset.filters.threshold=4"]).config["dataset"]
    assert (config["model"]["latent_dimension"], config["seed"], config["eval_limit"]) == (7, 4, 2)
    same = stored.recompose(run, ["eval_limit=2"]).config
    assert same["dataset"] == stored.load(run)["dataset"]
    fewer = stored.recompose(run, ["~dataset.source.n_users"]).config
    assert "n_users" in same["dataset"]["source"]
    assert "n_users" not in fewer["dataset"]["source"]
    with pytest.raises(ConfigError, match=r"there is no key dataset\.nothing"):
        stored.recompose(run, ["~dataset.nothing"])


def test_what_does_not_go_together_names_the_runs_own_file(folder):
    run = prepare(compose(["model=mult_vae"]))
    with pytest.raises(ConfigError) as error:
        check(stored.recompose(run, ["dataset=census"]), training=False)
    assert f"model=mult_vae ({run}/config.yaml) reads user_rows, but dataset=census (conf/" in str(error.value)


def test_paths_hold_wherever_one_is(folder):
    write(folder / "clicks.csv", "user_id,item_id\n1,2\n")
    write(folder / "data/old.csv", "user_id,item_id\n1,2\n")
    words = ["model=mult_vae", "dataset=interactions"]
    config = portable(compose([*words, "dataset.path=clicks.csv"]))["dataset"]
    assert config["path"] == str(folder / "clicks.csv")
    assert config["root"] == str(folder / "data")
    config = portable(compose([*words, "dataset.path=old.csv", "dataset.user_column=clicks.csv"]))["dataset"]
    assert (config["path"], config["root"]) == ("old.csv", str(folder / "data"))
    assert config["user_column"] == "clicks.csv", "a column, though there is a file of that name"
    config = portable(compose([*words, "dataset.path=old.csv", "dataset.root=null"]))["dataset"]
    assert (config["path"], config["root"]) == ("old.csv", None), "a file that is not there stays what was typed"


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        ("dataset.user_column=${oc.env:TOKEN}", "user_column", "${oc.env:TOKEN}"),
        ("dataset.user_column=${dataset.item_column}", "user_column", "${dataset.item_column}"),
        ("dataset.user_column=x${oc.env:TOKEN,y}z", "user_column", "x${oc.env:TOKEN,y}z"),
        ("dataset.root=${oc.env:RECRUN_DATA}", "root", "/somewhere"),
        ("dataset.user_column=${evaluator.monitor}", "user_column", "ndcg@100"),
    ],
)
def test_a_secret_of_the_environment_is_not_written(monkeypatch, word, key, expected):
    monkeypatch.setenv("TOKEN", "hush-hush")
    monkeypatch.setenv("RECRUN_DATA", "/somewhere")
    composed = compose(["model=mult_vae", "dataset.item_column=${oc.env:TOKEN}", word])
    run = prepare(composed)
    assert not [path for path in run.rglob("*") if path.is_file() and "hush-hush" in path.read_text()]
    assert OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))["dataset"][key] == expected
    assert stored.load(run)["dataset"][key] == composed.config["dataset"][key], "and yet the run has it"


def test_a_text_that_looks_like_an_interpolation_stays_text():
    composed = compose(["model=mult_vae", r"dataset.user_column='\${seed}'"])
    assert stored.load(prepare(composed))["dataset"]["user_column"] == composed.config["dataset"]["user_column"]


@pytest.mark.parametrize("group", ["model", "dataset", "stage", "experiment", "optimizer"])
@pytest.mark.parametrize("name", ["../x", "x/../../y", "/etc/passwd", "x" * 5000, ".hidden"])
def test_an_options_name_is_plain(group, name):
    with pytest.raises(ConfigError, match="an option's name is of letters, digits"):
        compose([f"{group}={name}"])


def test_an_edited_config_is_refused_with_its_first_key(folder, capsys):
    from worlds.small_run import finished

    from recrun import cli

    run = finished(folder)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("dropout_prob: 0.5", "dropout_prob: 0.25"))
    assert cli.main(["resume", str(run)]) == 2
    told = capsys.readouterr().err
    assert "was edited after the run had begun: model.dropout_prob is 0.25, and was 0.5" in told
    assert "start a new run with recrun model=mult_vae" in told
    assert told.strip().endswith("model.dropout_prob=0.25")
    assert cli.main(["evaluate", str(run)]) == 1
    told = capsys.readouterr().err
    assert "holds weights of another model: model.dropout_prob is 0.5 there and 0.25 here" in told
    (run / "config.yaml").write_text(text)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert cli.main(["resume", str(run)]) == 1
    assert f"metrics.jsonl has {len(lines) - 1} lines, {len(lines)} were written" in capsys.readouterr().err
    (run / "metrics.jsonl").write_text("".join(lines))
    assert cli.main(["resume", str(run)]) == 0


def test_other_data_under_the_same_name_are_refused_unless_typed(folder, capsys):
    from worlds.small_run import WORDS

    from recrun import cli

    def clicks(path, shift):
        rows = "".join(f"{user},{(user * step + shift) % 17}\n" for user in range(30) for step in range(1, 9))
        Path(path).write_text("user_id,item_id\n" + rows)

    clicks("clicks.csv", 0)
    words = [word for word in WORDS if not word.startswith(("dataset.source", "dataset.cache"))]
    assert cli.main([*words, "dataset=interactions", "dataset.path=clicks.csv", "dataset.cache=null"]) == 0
    (run,) = Path("outputs/mult_vae/interactions").iterdir()
    run = run.absolute()
    assert cli.main(["evaluate", str(run)]) == 0
    first = capsys.readouterr().out.splitlines()[-8:]
    (folder / "elsewhere").mkdir()
    clicks("elsewhere/clicks.csv", 5)
    import os

    os.chdir("elsewhere")  # which holds another file of that name
    assert cli.main(["evaluate", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-8:] == first
    clicks(folder / "clicks.csv", 5)
    assert cli.main(["evaluate", str(run)]) == 1
    assert "are not those of its training any more" in capsys.readouterr().err
    assert cli.main(["evaluate", str(run), "dataset.path=clicks.csv"]) == 0


@pytest.mark.parametrize("name", ["clicks.csv", "RUN/run.json", "RUN/train/predictions.tsv", "RUN/vocabulary/x.tsv"])
def test_predictions_do_not_replace_what_they_are_made_from(folder, capsys, name):
    from worlds.small_run import finished

    from recrun import cli

    (folder / "clicks.csv").write_text("user_id,item_id\n" + "".join(f"{n % 9},{n % 7}\n" for n in range(63)))
    run = finished(folder, "dataset=interactions", "dataset.path=clicks.csv", "dataset.source=null")
    output = Path(name.replace("RUN", str(run)))
    before = output.read_bytes() if output.exists() else None
    assert cli.main(["predict", str(run), "--output", str(output)]) == 2
    assert "give another name" in capsys.readouterr().err
    assert (output.read_bytes() if output.exists() else None) == before
    assert cli.main(["predict", str(run), "--output", str(run / "predictions.tsv")]) == 0
