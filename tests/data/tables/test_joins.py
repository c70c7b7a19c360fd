"""Side tables whose keys are not those of the rows."""

import logging

import numpy as np
import pytest
from worlds.tables import table

from recrun.data.tables.dataset import Table
from recrun.errors import DataError
from recrun.evaluation.rows import RowMetrics

ROWS = "user,item,click\n" + "".join(f"{n % 4},{n},{n % 2}\n" for n in range(8))
WHOLE = {"split": "temporal", "valid_fraction": 0.0, "test_fraction": 0.0, "scale": "none"}


def joined(folder, users, **keys):
    (folder / "users.csv").write_text("user,age\n" + users)
    return table(folder, ROWS, dense=["age"], join={"user": str(folder / "users.csv")}, **{**WHOLE, **keys})


def test_keys_that_match_no_row_are_refused(tmp_path):
    fault = r"users.csv describes 0 of 8 rows \(0.0%\): user '0' is not there, nor any other; its ids are like '0.0'"
    with pytest.raises(DataError, match=fault):
        joined(tmp_path, "0.0,20\n1.0,30\n2.0,40\n3.0,50\n")


def test_a_low_share_of_matches_is_a_warning(tmp_path, caplog):
    joined(tmp_path, "0,20\n1,30\n2,25\n")
    assert not caplog.records
    joined(tmp_path, "0,20\n9,30\n")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("describes 2 of 8 rows (25.0%): user '1' is not there (dataset.join.user)")


def test_rows_to_predict_may_be_of_nobody_known(tmp_path, caplog):
    users = tmp_path / "users.csv"
    users.write_text("user,age\n0,20\n1,30\n2,25\n3,60\n")
    (tmp_path / "new.csv").write_text("user,item\n77,3\n")
    data = table(tmp_path, ROWS, dense=["age"], join={"user": str(users)}, test_path=str(tmp_path / "new.csv"), **WHOLE)
    [batch] = data.eval_batches("test", 9)
    assert batch["dense"].tolist() == [[33.75]]  # the mean of training
    assert "describes 0 of 1 rows (0.0%): user '77' is not there" in caplog.text


@pytest.mark.parametrize("save", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("beside", [False, True])
def test_labels_compare_in_the_precision_of_the_file(tmp_path, save, beside):
    """0.7 is at least 0.7, in a table or in one beside it."""
    pd = pytest.importorskip("pandas")
    scores = pd.DataFrame({"user": ["a", "b", "c"], "score": np.array([0.7, 0.6, 0.8], np.float32)})
    path = tmp_path / f"scores.{save}"
    if save == "csv":
        scores.to_csv(path, index=False)
    elif save == "parquet":
        scores.to_parquet(path)
    else:
        np.savez(path, user=scores["user"].to_numpy().astype(str), score=scores["score"].to_numpy())
    keys = {"sparse": ["user"], "tasks": {"good": {"column": "score", "at_least": 0.7}}, **WHOLE}
    if beside:
        (tmp_path / "rows.csv").write_text("user\na\nb\nc\n")
        data = Table(RowMetrics(), path=str(tmp_path / "rows.csv"), join={"user": str(path)}, **keys)
    else:
        data = Table(RowMetrics(), path=str(path), **keys)
    [batch] = data.train_batches(9, np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(3).argsort()
    assert batch["label"][order, 0].tolist() == [1, 0, 1]
