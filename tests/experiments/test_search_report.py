"""The charts of a search: history, importance and parallel coordinates, from files that anybody may have written."""

import json
import math

import pytest
from worlds.small_run import copy_of, finished

from recrun.experiments.compare.runs import find_runs
from recrun.experiments.reports.page import render
from recrun.experiments.reports.parallel import BEST, OTHER, STOPPED, Axis, parallel_chart
from recrun.experiments.reports.report import page_of
from recrun.experiments.reports.search_section import search_sections

HOSTILE = "<script>alert(1)</script>"


def test_an_axis_is_linear_logarithmic_or_of_words():
    assert Axis("dropout", ["0.1", "0.3", "", "0.5"]).heights()[:2] == pytest.approx([0, 0.5])
    assert math.isnan(Axis("dropout", ["0.1", "", "0.5"]).heights()[1])
    rates = Axis("trainer.lr", ["1e-4", "1e-2", "1e-3"])
    assert rates.heights() == pytest.approx([0, 1, 0.5])
    assert rates.limits() == ("1e-4", "1e-2")
    assert Axis("optimizer", ["adam", "sgd", "adam", "adagrad"]).heights() == [0, 0.5, 0, 1]
    assert Axis("seed", ["3", "3"]).heights() == [0.5, 0.5]


def test_lines_of_trials_with_all_values_are_drawn_the_best_last():
    axes = [Axis("a.x", ["0", "1", "2", ""]), Axis("b", ["0", "2", "4", "1"])]
    chart = parallel_chart("title", axes, [BEST, STOPPED, OTHER, OTHER])
    assert [line.colour for line in chart.lines] == [STOPPED, OTHER, BEST]
    (left, low), (right, same) = [tuple(map(float, point.split(","))) for point in chart.lines[2].points.split()]
    assert low == same  # both axes at their lower end
    assert [tick.text for tick in chart.x_ticks] == ["x", "b"]
    assert [tick.at for tick in chart.x_ticks] == [left, right]
    assert [label.text for label in chart.labels] == ["0", "2", "0", "4"]
    assert parallel_chart("title", axes[:1], [BEST]) is None
    assert parallel_chart("title", axes, []) is None


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A search of four trials, one of them stopped, and one more seed."""
    folder = tmp_path_factory.mktemp("search")
    run = finished(folder)
    sweep = folder / "sweep"
    sweep.mkdir()
    jobs = [
        {"number": at, "overrides": [f"trainer.lr={rate}"], "directory": str(at), "values": {"trainer.lr": rate}}
        for at, rate in enumerate([0.1, 0.01, 0.001, 0.0001, 0.01])
    ]
    for job in jobs:
        copy_of(run, sweep / job["directory"])
    rows = [
        {"job": at, "status": status, "monitor": "ndcg@100", "valid": {"ndcg@100": value, "mrr@10": at}, "test": {},
         "lower_is_better": []}
        for at, (status, value) in enumerate(
            [("finished", 0.2), ("finished", 0.5), ("pruned", 0.1), ("finished", 0.3), ("finished", 0.4)]
        )
    ]  # fmt: skip
    plan = {"argv": ["recrun"], "jobs": jobs, "search": {"_target_": "x", "trials": 4}}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    results = {"jobs": rows, "importance": {"ndcg@100": {"trainer.lr": 0.75, HOSTILE: 0.25}}}
    (sweep / "results.json").write_text(json.dumps(results))
    return sweep


def test_the_page_of_a_search_has_its_three_charts(search):
    (section,) = search_sections(search)
    assert section.note == "4 trials, 1 of them stopped early."
    history, importance, parallel = section.charts
    assert history.title == "history: valid ndcg@100"
    best, done, stopped = history.lines
    heights = [float(point.split(",")[1]) for point in best.points.split()]
    assert heights[0] > heights[1] == heights[2]  # 0.2, then 0.5 stays the best
    assert (len(done.marks), len(stopped.marks)) == (3, 1)
    assert importance.lines[0].name == "trainer.lr: 0.7500"
    assert [line.colour for line in parallel.lines].count(BEST) == 1
    assert [line.colour for line in parallel.lines].count(STOPPED) == 1
    html = render(page_of(search))
    assert "<script" not in html
    (kept,), notes = find_runs([search])
    assert kept.directory == search / "0"  # the others have its config
    assert notes[0] == f"left out: {search / '1'} is {search / '0'} again"
    assert html.index("Search") < html.index("Learning curves")


def test_several_objectives_have_a_front(search, tmp_path):
    sweep = copy_of(search, tmp_path / "sweep")
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["search"]["objectives"] = ["ndcg@100", "mrr@10"]
    (sweep / "sweep.json").write_text(json.dumps(plan))
    results = json.loads((sweep / "results.json").read_text())
    (sweep / "results.json").write_text(json.dumps({**results, "front": [{"jobs": [1]}, {"jobs": [3]}]}))
    (section,) = search_sections(sweep)
    front = section.charts[0]
    assert front.title == "valid mrr@10 over valid ndcg@100"
    assert [(line.name, len(line.marks)) for line in front.lines] == [("Pareto front", 2), ("other trials", 2)]


@pytest.mark.parametrize(
    "change",
    [
        {"importance": []},
        {"importance": {"ndcg@100": {"trainer.lr": "many"}}},
        {"jobs": [3, {"job": "x"}, {"job": 0, "valid": []}]},
        {"jobs": None},
        {"front": [3]},
    ],
)
def test_results_that_are_damaged_are_no_error_of_the_page(search, tmp_path, change):
    sweep = copy_of(search, tmp_path / "sweep")
    results = json.loads((sweep / "results.json").read_text())
    (sweep / "results.json").write_text(json.dumps({**results, **change}))
    search_sections(sweep)


def test_another_sweep_has_no_such_section(search, tmp_path):
    sweep = copy_of(search, tmp_path / "sweep")
    plan = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**plan, "search": None}))
    assert search_sections(sweep) == []
