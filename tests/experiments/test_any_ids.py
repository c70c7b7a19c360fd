"""Users and items whose ids are odd text: a run of them can be evaluated, predicted with and embedded."""

import numpy as np
import pytest

from recrun import cli
from recrun.config.compose import compose
from recrun.experiments import run
from recrun.experiments.directories import prepare

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SIGNS = ["\u2028", "\x85", "\x0c", "\x1c", "\0", "ü", " ", "\\", "\\n", "\x1b[31m"]
BREAKS = ["\t", "\n", "\r"]


def trained(folder, signs):
    """A run of sequences on events of users and items with these signs in their ids; and the items."""
    items = [f"i{sign}{n}" for sign in signs for n in range(3)] + ["i", "i\0"]
    rows = [(f"u{signs[u % len(signs)]}{u}", items[(u * 7 + at) % len(items)]) for u in range(12) for at in range(6)]
    users, taken = zip(*rows, strict=True)
    pq.write_table(pa.table({"user": users, "item": taken, "time": list(range(len(rows)))}), folder / "log.parquet")
    words = ["model=gru4rec", "model.layers=[4]", "loader.num_negatives=4", "dataset=interactions", "threads=1"]
    words += ["split=leave_last_out", "epochs=1", f"dataset.path={folder}/log.parquet", f"output_dir={folder}/runs"]
    directory = prepare(compose([*words, "dataset.cache=null"]))
    run.execute(directory)
    return directory, items


@pytest.fixture(scope="module")
def with_breaks(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("breaks"), SIGNS + BREAKS)


def test_a_run_reads_its_own_ids_again(with_breaks, tmp_path, capsys):
    directory, items = with_breaks
    assert cli.main(["evaluate", str(directory)]) == 0
    assert cli.main(["evaluate", str(directory), f"dataset.path={directory.parents[3]}/log.parquet"]) == 0
    capsys.readouterr()
    for item in items:
        if "," not in item:
            assert cli.main(["predict", str(directory), "--session", item, "--k", "2"]) == 0
            assert "unknown" not in capsys.readouterr().err
    assert cli.main(["embed", str(directory), "--side", "item", "--output", str(tmp_path / "items.npz")]) == 0
    ids = np.load(tmp_path / "items.npz")["ids"].tolist()
    assert len(set(ids)) == len(ids) == len(set(items))


def test_a_table_refuses_ids_that_would_break_its_rows(with_breaks, tmp_path, capsys):
    directory, _ = with_breaks
    for verb in (["predict", str(directory)], ["embed", str(directory), "--side", "item"]):
        assert cli.main([*verb, "--output", str(tmp_path / "out.tsv")]) == 1
        assert " id '" in (said := capsys.readouterr().err)
        assert "holds a tab or a line break" in said
        assert not (tmp_path / "out.tsv").exists()


def test_all_other_signs_are_in_the_rows_as_they_are(tmp_path):
    directory, items = trained(tmp_path, SIGNS)
    assert cli.main(["predict", str(directory), "--output", str(tmp_path / "out.tsv"), "--k", "3"]) == 0
    rows = [line.split("\t") for line in (tmp_path / "out.tsv").read_bytes().decode().split("\n")[:-1]]
    assert {len(row) for row in rows} == {4}
    assert {row[1] for row in rows} <= set(items)
    assert {row[0] for row in rows} == {f"u{SIGNS[u % len(SIGNS)]}{u}" for u in range(12)}
