"""Values per unit: matched by id, sessions and groups weighted, damaged files named."""

import io
import zipfile

import numpy as np
import pytest

from recrun.errors import DataError
from recrun.experiments.compare.units import UnitValues, matched, metric_names, read_units

ONES = np.ones(3)


def units(ids, **values):
    return UnitValues(np.array(ids), np.ones(len(ids)), {name: np.array(value) for name, value in values.items()})


def stored(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_ids_are_matched_not_positions():
    one = units(["u1", "u2", "u3"], recall=[1.0, 2.0, 3.0])
    other = units(["u3", "u1", "u2"], recall=[30.0, 10.0, 20.0])
    block = matched({"a": one, "b": other}, "users", by_session=False)
    assert block.values_MRU.tolist() == [[[1, 2, 3], [10, 20, 30]]]
    assert block.weights_U.tolist() == [1, 1, 1]
    assert (block.unit, block.metrics) == ("users", ("recall",))


def test_ids_that_one_run_lacks_are_counted():
    one, other = units(["u1", "u2", "u3"], r=ONES), units(["u1", "x", "u4"], r=ONES)
    with pytest.raises(DataError) as raised:
        matched({"runs/a": one, "runs/b": other}, "users", by_session=False)
    assert str(raised.value) == (
        "runs/a and runs/b cannot be compared: of the first one's 3 units the second lacks 2, and it has 2 others "
        "(for example 'u2')"
    )


def test_a_sessions_value_is_its_mean_and_counts_as_often_as_it_has_events():
    ids = ["s:1", "t:x:9", "s:2", "s:3", "t:x:4"]
    block = matched({"a": units(ids, mrr=[1.0, 0.5, 0.0, 0.5, 0.0])}, "sessions", by_session=True)
    assert block.values_MRU.tolist() == [[[0.5, 0.25]]]
    assert block.weights_U == pytest.approx([3 / 2.5, 2 / 2.5])
    assert (block.values_MRU[0, 0] * block.weights_U).mean() == pytest.approx(np.mean([1.0, 0.5, 0.0, 0.5, 0.0]))


@pytest.mark.parametrize("ids", [["s1", "s:2"], ["s:1", "s:2"]])
def test_sessions_need_ids_of_sessions_and_more_than_one(ids):
    with pytest.raises(DataError, match=r"'s1' is no <session>:<position>|one session"):
        matched({"a": units(ids, r=[0.0, 1.0])}, "sessions", by_session=True)


def test_groups_have_units_of_their_own(tmp_path):
    arrays = {"group_auc": [0.5, 1.0], "group_auc:ids": ["g1", "g2"], "group_auc:weights": [3, 1]}
    path = stored(tmp_path / "u.npz", ids=["1", "2", "3"], logloss=[0.1, 0.2, 0.3], **arrays)
    assert metric_names(path) == ["logloss", "group_auc"]
    rows, groups = read_units(path, ["group_auc", "logloss"])
    assert (rows.grouped, groups.grouped) == (False, True)
    assert rows.values["logloss"].tolist() == [0.1, 0.2, 0.3]
    assert (groups.ids.tolist(), groups.weights.tolist()) == (["g1", "g2"], [3, 1])
    assert matched({"a": groups}, "groups", by_session=False).weights_U.tolist() == [1.5, 0.5]


def test_groups_that_weigh_differently_are_refused():
    one, other = units(["g1", "g2"], group_auc=[0.5, 0.5]), units(["g1", "g2"], group_auc=[0.5, 0.5])
    other = UnitValues(other.ids, np.array([1.0, 2.0]), other.values, grouped=True)
    with pytest.raises(DataError, match="a and b cannot be compared: group_auc weighs the groups differently"):
        matched({"a": one, "b": other}, "groups", by_session=False)


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_is_executed(tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")] * 2, dtype=object)
    path = stored(tmp_path / "u.npz", ids=["1", "2"], recall=trap)
    with pytest.raises(DataError, match=r"u\.npz is damaged or not what a run writes: Object arrays"):
        read_units(path, ["recall"])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": ["1", "1", "2"], "r": ONES}, "u.npz: 1 of 3 ids in ids occur more than once"),
        ({"ids": ["1", "2", "3"], "r": [0, np.nan, np.inf]}, "u.npz: r is NaN or infinite at 2 of 3 units"),
        ({"ids": ["1", "2", "3"], "r": [0.5, 0.5]}, r"u.npz: r must be 3 numbers, not float64 of shape \(2,\)"),
        ({"ids": ["1", "2"], "r": ["a", "b"]}, "u.npz: r must be 2 numbers, not <U1"),
        ({"ids": [1, 2], "r": [0.5, 0.5]}, "u.npz: ids must be strings, one per unit, not int64"),
        ({"ids": ["1"], "r": [0.5]}, "u.npz has 1 units: a comparison needs at least 2"),
        ({"r": ONES}, "u.npz has no ids"),
        ({"r": ONES, "r:ids": ["1", "2", "3"], "r:weights": [1, 0, 1]}, "u.npz: r:weights must be positive"),
    ],
)
def test_what_no_run_writes_is_named(tmp_path, arrays, message):
    path = stored(tmp_path / "u.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_units(path, ["r"])


def broken_files():
    whole = io.BytesIO()
    np.savez(whole, ids=np.array(["1", "2"]), r=np.ones(2))
    whole = whole.getvalue()
    lone, huge = io.BytesIO(), io.BytesIO()
    np.save(lone, np.ones(3))
    with zipfile.ZipFile(huge, "w") as file:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000000000,), }\n"
        file.writestr("r.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    changed = bytearray(whole)
    changed[whole.index(b"r.npy") + 80] ^= 255
    yield from (
        whole[:100],
        whole[: len(whole) // 2],
        b"",
        b"not a zip",
        bytes(changed),
        lone.getvalue(),
        huge.getvalue(),
    )


@pytest.mark.parametrize("content", list(broken_files()))
def test_damaged_files_are_one_line_that_names_them(tmp_path, content):
    path = tmp_path / "u.npz"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_units(path, ["r"])
    assert str(raised.value).startswith(f"{path}")
    assert "\n" not in str(raised.value)


def test_a_metrics_name_cannot_move_the_cursor(tmp_path):
    path = stored(tmp_path / "u.npz", ids=["1", "2"], **{"recall\x1b[2J": [0.5, 0.5]})
    with pytest.raises(DataError) as raised:
        metric_names(path)
    assert str(raised.value) == f"{path} is damaged: a metric has the name 'recall\\x1b[2J'"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"u\.npz is damaged or not what a run writes: .*No such file"):
        metric_names(tmp_path / "u.npz")
