"""A metric by activity and popularity: what a run stores of its units, and the bins of its report."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds.small_run import copy_of, finished
from worlds.stored_runs import NEXT, store_run

from recrun.config.compose import compose
from recrun.data.types import TEST, TRAIN
from recrun.errors import DataError
from recrun.evaluation.profile import UnitProfile
from recrun.experiments import run
from recrun.experiments.build import build_dataset
from recrun.experiments.compare.runs import read_run
from recrun.experiments.directories import prepare
from recrun.experiments.reports.report import page_of
from recrun.experiments.reports.unit_bins import BINS, bin_charts, bins_of


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), "evaluator.monitor=ndcg@10")


def arrays(directory, folder):
    with np.load(directory / folder / ("test.npz" if folder == "units" else "test_units.npz")) as file:
        return dict(file)


def test_activity_and_popularity_are_those_of_the_events(small):
    units, found = arrays(small, "units"), arrays(small, "profiles")
    log = build_dataset(run.load_config(small)).log
    unit = np.repeat(np.arange(len(log.units)), np.diff(log.offsets))
    shown = log.part == TRAIN
    counts = np.bincount(log.item[shown], minlength=len(log.items))
    names = list(map(str, log.units.tolist()))
    assert len(units["ids"]) > 10
    for name, activity, popularity in zip(units["ids"], found["activity"], found["popularity"], strict=True):
        mine = unit == names.index(name)
        seen = set(log.item[mine & (log.part != TEST)].tolist())
        targets = set(log.item[mine & (log.part == TEST)].tolist()) - seen
        assert activity == np.count_nonzero(mine & shown)
        assert popularity == pytest.approx(np.mean([counts[item] for item in targets]))


def test_of_next_items_what_precedes_the_event(tmp_path):
    words = ["model=popularity", "dataset=synthetic_sessions", "dataset.source.n_events=2000", "threads=1"]
    directory = prepare(compose([*words, "device=cpu", f"output_dir={tmp_path}"]))
    run.execute(directory)
    units, found = arrays(directory, "units"), arrays(directory, "profiles")
    data = build_dataset(run.load_config(directory))
    counts, events = data.item_counts(), data.next_items("test")
    position = np.array([int(name.rpartition(":")[2]) for name in units["ids"].tolist()])
    assert found["activity"].tolist() == (position - 1).tolist()
    assert found["popularity"].tolist() == counts[events.target].tolist()


def test_the_units_of_a_sample_have_their_own():
    whole = UnitProfile(np.array(["a", "b", "c"], object), np.array([1, 2, 3]), np.array([0.1, 0.2, 0.3]))
    assert whole.of(np.array(["a", "b"], object)).activity.tolist() == [1, 2]
    some = whole.of(np.array(["c", "a"], object))
    assert (some.activity.tolist(), some.popularity.tolist()) == ([3, 1], [0.3, 0.1])
    assert whole.of(np.array(["a", "x"], object)) is None


def test_bins_by_hand():
    found = bins_of(np.array([1.0, 1, 1, 2, 3, 4, 5, 6, 7, 8]))
    sizes = {one.name: int(one.mask_U.sum()) for one in found}  # cuts at the 2nd, 4th, 6th and 8th value
    assert sizes == {"1": 3, "2": 1, "3 to 4": 2, "5 to 6": 2, "7 to 8": 2}
    assert [one.name for one in bins_of(np.array([1.25, 1.25, 1234.5, 1234.5]))] == ["1.2", "1,234"]
    assert len(bins_of(np.ones(7))) == 1


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_every_unit_is_in_one_bin_and_bins_do_not_overlap(values):
    bins = bins_of(np.array(values, float))
    assert 1 <= len(bins) <= BINS
    assert (np.sum([one.mask_U for one in bins], axis=0) == 1).all()
    ends = [end for one in bins for end in (one.low, one.high)]
    assert ends == sorted(ends)
    assert all(one.high < two.low for one, two in pairwise(bins))


def test_the_page_has_the_means_of_the_bins(small):
    charts = {chart.title: chart for section in page_of(small).sections for chart in section.charts}
    units, found = arrays(small, "units"), arrays(small, "profiles")
    monitor = json.loads((small / "results.json").read_text())["monitor"]
    for name, title in (("activity", "by input events"), ("popularity", "by training events of the targets")):
        lines = charts[f"test {monitor} {title}"].lines
        bins = bins_of(found[name].astype(float))
        assert len(lines) == len(bins) > 2
        for line, one in zip(lines, bins, strict=True):
            count = np.count_nonzero(one.mask_U)
            assert line.name == f"{one.name} ({count:,} users): {units[monitor][one.mask_U].mean():.4f}"


def profiled(directory, activity, popularity):
    (directory / "profiles").mkdir()
    np.savez(directory / "profiles" / "test_units.npz", activity=np.array(activity), popularity=np.array(popularity))
    return directory


def test_intervals_count_whole_sessions(tmp_path):
    """Events of a session that agree say no more than one of them."""
    rng = np.random.default_rng(3)
    sessions, events = 60, 20
    value = np.repeat(rng.random(sessions), events)
    ids = [f"s{at}:{number}" for at in range(sessions) for number in range(events)]
    activity = np.tile(np.arange(events) // 10, sessions)
    directory = store_run(tmp_path / "run", {"mrr@20": value}, ids, evaluator=NEXT)
    (chart,) = bin_charts(read_run(profiled(directory, activity, np.ones(len(ids)))), "test", "mrr@20")
    assert len(chart.lines) == 2
    low, high = (float(point.split(",")[0]) for point in chart.lines[0].points.split(" "))
    first, last = chart.x_ticks[0], chart.x_ticks[-1]
    scale = (float(last.text) - float(first.text)) / (last.at - first.at)
    half = 1.96 * value[::events].std(ddof=1) / sessions**0.5
    assert (high - low) / 2 * scale == pytest.approx(half, rel=0.02)


def test_runs_that_know_nothing_of_their_units_have_no_such_charts(small, tmp_path):
    copy = copy_of(small, tmp_path / "run")
    shutil.rmtree(copy / "profiles")
    assert not [section for section in page_of(copy).sections if section.title.startswith("By") and not section.empty]
    assert [*bin_charts(read_run(small), "test", "coverage@10")] == []


@pytest.mark.parametrize("activity", [[1, 2], [1.0, np.nan, 2.0], ["a", "b", "c"]])
def test_a_damaged_profile_is_refused_with_its_file(tmp_path, activity):
    directory = store_run(tmp_path / "run", {"ndcg@10": [0.1, 0.2, 0.3]})
    profiled(directory, activity, np.ones(3))
    with pytest.raises(DataError, match=r"profiles/test_units\.npz: activity must be 3 numbers"):
        page_of(directory)
