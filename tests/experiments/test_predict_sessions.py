"""What comes next: for the sessions of a part, of a file, and for one on the command line."""

import numpy as np
import pytest
import torch

from recrun import cli
from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.experiments import load, run
from recrun.experiments.directories import prepare


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    words = ["model=gru4rec", "dataset=synthetic_sessions", "dataset.source.n_items=40", "dataset.source.n_events=1500"]
    folder = tmp_path_factory.mktemp("run")
    composed = compose(
        [*words, "loader.num_negatives=16", "model.layers=[12]", "threads=1", "epochs=2", f"output_dir={folder}"]
    )
    check(composed)
    directory = prepare(composed)
    run.execute(directory)
    return directory


def best_of(directory, session, k):
    """Ids and scores of the best next items, by the model itself."""
    model, dataset, *_ = load.load(directory, run.load_config(directory))
    ids = dataset.vocabulary()["items"].tolist()
    known = [ids.index(item) for item in session if item in ids]
    scores = model.eval()({"items": torch.tensor(known), "items_offsets": torch.tensor([0, len(known)])})[0]
    order = scores.detach().numpy().argsort(kind="stable")[::-1][:k]
    return [ids[at] for at in order], scores[order.copy()].tolist()


def test_one_session_on_the_command_line(finished, capsys):
    assert cli.main(["predict", str(finished), "--session", "3,7,nothing,5", "--k", "4"]) == 0
    told = capsys.readouterr()
    lines = [line.split("\t") for line in told.out.splitlines()]
    items, scores = best_of(finished, ["3", "7", "5"], 4)
    assert [item for item, _ in lines] == items
    assert [float(score) for _, score in lines] == pytest.approx(scores, rel=1e-5)
    assert "1 of 4 items are unknown" in told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--session", "x,y"], "knows none of the items x, y"),
        (["--session", "1", "--k", "0"], "--k 0: expected a whole number"),
        (["--session", "1", "--split", "valid"], "goes with --k alone"),
    ],
)
def test_what_cannot_be_predicted_is_told(finished, capsys, words, told):
    assert cli.main(["predict", str(finished), *words]) == 2
    assert told in capsys.readouterr().err


def test_sessions_of_a_file_whole_with_those_of_one_event(finished, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("session_id,item_id,time\na,3,1\nb,7,5\na,7,3\nb,900,6\nc,900,1\n")
    output = tmp_path / "next.tsv"
    assert cli.main(["predict", str(finished), "--input", str(tmp_path / "new.csv"), "--output", str(output)]) == 0
    lines = [line.split("\t") for line in output.read_text().splitlines()]
    assert len(lines) == 2 * 20
    for name, session in (("a", ["3", "7"]), ("b", ["7"])):
        rows = [line for line in lines if line[0] == name]
        assert [row[1] for row in rows] == best_of(finished, session, 20)[0]
        assert [int(row[2]) for row in rows] == list(range(1, 21))


def test_a_file_of_unknown_items_says_so(finished, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("session_id,item_id,time\na,900,1\n")
    words = ["--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "x")]
    assert cli.main(["predict", str(finished), *words]) == 1
    assert "none of the 1 events of dataset.test_path is of an item that the model knows" in capsys.readouterr().err


def test_embeddings_give_the_scores(finished, tmp_path):
    for side in ("user", "item"):
        words = ["--side", side, "--split", "test", "--output", str(tmp_path / f"{side}.npz")]
        assert cli.main(["embed", str(finished), *words]) == 0
    sessions, items = (np.load(tmp_path / f"{side}.npz") for side in ("user", "item"))
    model, dataset, *_ = load.load(finished, run.load_config(finished))
    assert items["ids"].tolist() == dataset.vocabulary()["items"].tolist()
    names, batch = next(dataset.entities("user", "test"))
    assert sessions["ids"].tolist() == names.tolist()
    expected = model.eval()(batch).detach() - model.bias.detach()
    np.testing.assert_allclose(sessions["vectors"] @ items["vectors"].T, expected, atol=1e-5)
