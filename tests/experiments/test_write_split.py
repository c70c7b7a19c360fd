"""`recrun split` as a person asks for it: what is written can be trained on by the words in its README."""

import re

import numpy as np
import pytest
from worlds.events import ratings, write_ratings

from recrun import cli
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.experiments.build import build_dataset


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRUN_CACHE", str(tmp_path / "cache"))
    return write_ratings(tmp_path / "ratings.csv", ratings(30, 20, 500))


def dataset(words):
    composed = compose(words)
    check(composed, training=False)
    return build_dataset(composed.config)


def words_in(readme):
    return re.search(r"recrun dataset.path=THIS_FOLDER (.*)", readme)[1].split()


@pytest.mark.parametrize("form", ["tsv", "inter"])
@pytest.mark.parametrize("split", ["random", "strong", "leave_last_out", "temporal"])
def test_the_words_of_the_readme_give_the_same_split(log, tmp_path, split, form, capsys):
    words = ["dataset=interactions", f"dataset.path={log}", f"split={split}"]
    assert cli.main(["split", *words, "--output", "mine", "--format", form]) == 0
    assert "read back: the same training events" in capsys.readouterr().out
    readme = (tmp_path / "mine" / "README.txt").read_text()
    assert "What differs when it is read back: nothing" in readme
    was = dataset(words)
    assert f"split_fingerprint    {was.fingerprints['split_fingerprint']}" in readme
    back = dataset([f"dataset.path={tmp_path / 'mine'}", *words_in(readme)])
    if split != "strong":  # whose log has events of items that nobody is trained on
        assert back.fingerprints == was.fingerprints
    for part in ("valid", "test"):
        assert np.array_equal(back.units(part), was.units(part))
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "mine.yaml").write_text((tmp_path / "mine" / "dataset.yaml").read_text())
    assert dataset(["dataset=mine"]).fingerprints == back.fingerprints


def test_nothing_is_overwritten(log, tmp_path, capsys):
    words = ["split", "dataset=interactions", f"dataset.path={log}", "--output", "mine"]
    assert cli.main(words) == 0
    before = (tmp_path / "mine" / "train.tsv").read_bytes()
    assert cli.main([*words, "split=strong"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine" / "train.tsv").read_bytes() == before


def test_items_that_no_file_names_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [(unit, unit % 3, 1, unit * 86_400) for unit in range(9)] + [
        (unit, 5, 1, 700_000 + unit) for unit in range(3)
    ]
    rows += [(unit, 1, 1, unit * 86_400 + 10) for unit in range(9)]
    words = ["dataset=interactions", f"dataset.path={write_ratings(tmp_path / 'r.csv', rows)}", "dataset.cache=null"]
    assert cli.main(["split", *words, "split=last_days", "split.catalogue=all", "--output", "mine"]) == 0
    assert "catalogue: 1 of its items have no event that the split keeps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=synthetic_table", "model=deepfm", "--output", "x"], "recrun split is for event logs"),
        (["--output", "x", "--format", "csv"], "--format csv: expected tsv, or inter"),
        ([], "split needs --output"),
        (["dataset.test_path=new.csv", "--output", "x"], "leave it out"),
    ],
)
def test_what_cannot_be_written_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["split", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
