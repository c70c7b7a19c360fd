"""Predictions and embeddings of finished runs, as a person asks for them; and news runs stopped within an epoch."""

import os
import re
import threading
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds.news import write_part, write_world

from recrun import cli
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import Interrupted
from recrun.experiments import load, run
from recrun.experiments.directories import prepare
from recrun.training.loop import TrainingLoop

TEST = ["5\tU9\tt\tN2\tN1 N3 N5", "6\tU2\tt\t\tN4 N5", "6\tU9\tt\tN2\tN3"]
TINY = ["model.word_emb_dim=8", "model.head_num=2", "model.head_dim=4", "model.attention_hidden_dim=6", "threads=1"]


def prepared(folder, *words):
    composed = compose([*words, f"output_dir={folder}"])
    check(composed)
    return prepare(composed)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), test=TEST)


@pytest.fixture(scope="module")
def news_run(world):
    words = ["model=nrms", *TINY, "dataset=mind", f"dataset.path={world}", "dataset.cache=null", "epochs=2"]
    directory = prepared(world, *words, "trainer.batch_size=2")
    run.execute(directory)
    return directory


@pytest.fixture(scope="module")
def ranking_run(tmp_path_factory):
    words = ["dataset.source.n_users=60", "dataset.source.n_items=40", "dataset.source.n_interactions=900"]
    words += ["model.mlp_hidden_size=[12]", "model.latent_dimension=6", "model=mult_vae", "epochs=1", "threads=1"]
    directory = prepared(tmp_path_factory.mktemp("ranking"), *words)
    run.execute(directory)
    return directory


def scores_of(directory, split):
    """Scores of each impression of a split."""
    model, dataset, *_ = load.load(directory, run.load_config(directory))
    batch = next(dataset.eval_batches(split, 100))
    return [row.tolist() for row in model.eval()(batch).detach().tensor_split(batch["candidates_offsets"][1:-1])]


def test_an_unlabelled_test_part_is_not_judged_but_predicted(news_run, tmp_path):
    results = run.load_config(news_run), (news_run / "results.json").read_text()
    assert '"test": {}' in results[1]
    output = tmp_path / "prediction.txt"
    assert cli.main(["predict", str(news_run), "--output", str(output)]) == 0
    lines = output.read_text().splitlines()
    expected = scores_of(news_run, "test")
    assert len(lines) == len(TEST)
    for number, (line, scores) in enumerate(zip(lines, expected, strict=True), 1):
        ranks = (-np.array(scores)).argsort(kind="stable").argsort() + 1
        assert line == f"{number} [{','.join(map(str, ranks))}]"


def test_a_zip_holds_the_same_under_the_name_that_leaderboards_want(news_run, tmp_path):
    output = tmp_path / "mine.zip"
    assert cli.main(["predict", str(news_run), "--split=valid", f"--output={output}"]) == 0
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["prediction.txt"]
        assert archive.getinfo("prediction.txt").compress_type == zipfile.ZIP_DEFLATED
        lines = archive.read("prediction.txt").decode().splitlines()
    assert all(re.fullmatch(r"\d+ \[\d+(,\d+)*\]", line) for line in lines)
    assert len(lines) == 2
    assert list(tmp_path.iterdir()) == [output]


def test_other_impressions_can_be_given(news_run, tmp_path):
    write_part(tmp_path / "new", TEST[:1])
    output = tmp_path / "out.txt"
    assert cli.main(["predict", str(news_run), "--input", str(tmp_path / "new"), "--output", str(output)]) == 0
    assert len(output.read_text().splitlines()) == 1


def test_the_catalogue_is_ranked_for_every_user_without_what_they_have_seen(ranking_run, tmp_path):
    output = tmp_path / "top.tsv"
    words = ["predict", str(ranking_run), "--output", str(output), "evaluator.ks=[5]"]
    assert cli.main(words) == 0
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    model, dataset, *_ = load.load(ranking_run, run.load_config(ranking_run))
    seen = dataset.rankings("test").seen
    scores = model.eval()(next(dataset.eval_batches("test", 1000))).detach()
    items = dataset.vocabulary()["items"]
    for at, user in enumerate(dataset.units("test")):
        mine = [row for row in rows if row[0] == user]
        scores[at, seen.items[seen.offsets[at] : seen.offsets[at + 1]]] = -torch.inf
        assert [row[1] for row in mine] == [items[i] for i in scores[at].argsort(descending=True)[:5]]
        assert [row[2] for row in mine] == ["1", "2", "3", "4", "5"]
        assert float(mine[0][3]) == pytest.approx(float(scores[at].max()), rel=1e-5)


@pytest.mark.parametrize("side", ["user", "item"])
def test_embeddings_multiply_to_the_scores(news_run, ranking_run, tmp_path, side):
    for place, directory in (("news", news_run), ("ranking", ranking_run)):
        for name in ("user", "item"):
            words = ["embed", str(directory), "--side", name, "--output", str(tmp_path / f"{place}-{name}.npz")]
            assert cli.main(words) == 0
    user, item = (np.load(tmp_path / f"news-{name}.npz") for name in ("user", "item"))
    found = user["vectors"][list(user["ids"]).index("U9")] @ item["vectors"][list(item["ids"]).index("N3")]
    assert found == pytest.approx(scores_of(news_run, "test")[2][0], rel=1e-4, abs=1e-6)
    user, item = (np.load(tmp_path / f"ranking-{name}.npz") for name in ("user", "item"))
    model, dataset, *_ = load.load(ranking_run, run.load_config(ranking_run))
    scores = model.eval()(next(dataset.eval_batches("test", 1000))).detach().numpy()
    bias = model.output.bias.detach().numpy()
    np.testing.assert_allclose(user["vectors"] @ item["vectors"].T + bias, scores, rtol=1e-4, atol=1e-5)


@pytest.fixture
def run_without_test(tmp_path):
    words = ["model=nrms", *TINY, "dataset=mind", f"dataset.path={write_world(tmp_path)}", "dataset.cache=null"]
    directory = prepared(tmp_path, *words, "epochs=1", "trainer.batch_size=2")
    run.execute(directory)
    return directory


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["embed", "--side=user", "--output=v.npz"],
            "the test split has no users; there is a valid split: --split valid",
        ),
        (["embed", "--side=item", "--output=v.npz"], "the test split has no items; there is a valid split"),
        (
            ["predict", "--output=p.txt"],
            "the test split has nothing to predict for; there is a valid split: --split valid",
        ),
    ],
)
def test_a_part_that_is_absent_names_the_one_that_is_there(
    run_without_test, tmp_path, monkeypatch, capsys, words, told
):
    monkeypatch.chdir(tmp_path)
    verb, *options = words
    assert cli.main([verb, str(run_without_test), *options]) == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert cli.main([verb, str(run_without_test), *options, "--split=valid"]) == 0


def test_embeddings_as_text(news_run, tmp_path):
    assert cli.main(["embed", str(news_run), "--side=item", "--split=valid", f"--output={tmp_path}/items.tsv"]) == 0
    rows = [line.split("\t") for line in (tmp_path / "items.tsv").read_text().splitlines()]
    assert sorted(row[0] for row in rows) == ["N1", "N2", "N3", "N4", "N5"]
    assert {len(row) for row in rows} == {9}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predict"], "predict needs a run directory"),
        (["predict", "RUN"], "predict needs --output"),
        (["predict", "RUN", "--output", "nowhere/p.txt"], "--output nowhere/p.txt: not a file that can be written"),
        (["predict", "RUN", "--outputs", "p.txt"], "unknown option --outputs; did you mean '--output'?"),
        (["predict", "RUN", "--output", "p.txt", "--split", "train"], "--split train: expected valid or test"),
        (["predict", "RUN", "--output", "p.txt", "dataset.nothing=1"], "unknown key dataset.nothing"),
        (["embed", "RUN", "--output", "v.npz"], "embed needs --side"),
        (["embed", "RUN", "--side", "both", "--output", "v.npz"], "--side both: expected user or item"),
        (["embed", "RUN", "--side", "user", "--output", "v.csv"], "--output v.csv: the name must end in .npz or .tsv"),
    ],
)
def test_refused_with_a_reason(news_run, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(news_run) if word == "RUN" else word for word in words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_stopped_within_an_epoch_and_resumed_it_ends_bitwise_equal(tmp_path, monkeypatch):
    words = ["model=nrms", *TINY, "dataset.cache=null", "trainer.batch_size=8", "epochs=2"]
    words += [
        f"dataset.source.{key}" for key in ("n_news=120", "n_users=40", "n_impressions=80", "n_eval_impressions=30")
    ]
    whole, parted = prepared(tmp_path / "whole", *words), prepared(tmp_path / "parted", *words)
    run.execute(whole)
    for stop in (3, 17):

        def pause(fit, stop=stop):
            if fit.progress.steps == stop and fit.progress.step:
                fit.save("last")
                raise Interrupted("here")

        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "pause", pause)
            with pytest.raises(Interrupted):
                run.execute(parted)
    run.execute(parted)
    one, other = (load_file(place / "train" / "last" / "model.safetensors") for place in (whole, parted))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_k_says_how_many_items_of_each_unit(ranking_run, tmp_path, capsys):
    files = [tmp_path / f"{name}.tsv" for name in ("all", "five")]
    assert cli.main(["predict", str(ranking_run), "--output", str(files[0])]) == 0
    assert cli.main(["predict", str(ranking_run), "--output", str(files[1]), "--k", "5"]) == 0
    whole, five = ([line.split("\t") for line in file.read_text().splitlines()] for file in files)
    assert five == [line for line in whole if int(line[2]) <= 5]
    assert {line[2] for line in five} == set("12345")
    capsys.readouterr()
    assert cli.main(["predict", str(ranking_run), "--output", str(files[1]), "--k", "none"]) == 2
    assert "--k none: expected a whole number" in capsys.readouterr().err


def test_k_is_refused_where_no_catalogue_is_ranked(news_run, tmp_path, capsys):
    assert cli.main(["predict", str(news_run), "--output", str(tmp_path / "p.txt"), "--k", "5"]) == 2
    assert "does not rank a catalogue" in capsys.readouterr().err
    assert not (tmp_path / "p.txt").exists()


def test_a_pipe_is_written_into_and_stays_a_pipe(ranking_run, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    received: list[str] = []
    reader.start()
    assert cli.main(["predict", str(ranking_run), "--output", str(pipe), "--k", "3"]) == 0
    reader.join()
    assert pipe.is_fifo()
    assert cli.main(["predict", str(ranking_run), "--output", str(tmp_path / "file"), "--k", "3"]) == 0
    assert received == [(tmp_path / "file").read_text()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]
