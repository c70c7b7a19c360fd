"""The report: one file without links, whose numbers are the run's and whose texts are escaped."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from worlds.pages import Elements, refuse_links_and_code
from worlds.small_run import WORDS, copy_of, finished, snapshot

from recrun import cli
from recrun.errors import ConfigError, RecrunError
from recrun.experiments.compare.bootstrap import spread
from recrun.experiments.compare.compare import compare
from recrun.experiments.compare.runs import Setting, read_run
from recrun.experiments.reports import estimates
from recrun.experiments.reports.charts import Estimate, Points, histogram, interval_chart, line_chart, ticks
from recrun.experiments.reports.page import Page, Section, render
from recrun.experiments.reports.report import page_of, write_report

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), "epochs=3")


def test_the_page_has_the_metrics_the_kept_epoch_and_the_command(run):
    path = write_report(run)
    html, results = path.read_text(), json.loads((run / "results.json").read_text())
    refuse_links_and_code(html)
    rows = {row[0]: row for row in Elements(html).rows if row}
    assert rows["metric"] == ["metric", "valid", "test"]
    for at, split in enumerate(("valid", "test"), 1):
        assert rows["ndcg@100"][at].startswith(f"{results[split]['ndcg@100']:.4f} [")
        assert rows["coverage@10"][at] == f"{results[split]['coverage@10']:.4f}"  # has no value per unit
    setting = Setting("", (read_run(run),))
    expected = compare([setting], ["ndcg@100"], "test", 0, "holm").summaries[0].interval
    assert rows["ndcg@100"][2].endswith(f" [{expected.low:.4f},\N{NO-BREAK SPACE}{expected.high:.4f}]")
    stage = results["stages"]["train"]
    assert rows["train"][2] == str(stage["best_epoch"])
    assert f"kept: epoch {stage['best_epoch']}, {results['valid']['ndcg@100']:.4f}" in html
    for loss in ("nll", "kl"):
        assert f"train: {loss}" in html
    assert "recrun model=mult_vae" in html


def test_a_report_is_written_again_and_changes_nothing_else(run, tmp_path):
    copy = copy_of(run, tmp_path / "run")
    (copy / "report.html").unlink(missing_ok=True)
    before = snapshot(copy)
    write_report(copy)
    write_report(copy)
    assert snapshot(copy) == {**before, "report.html": (copy / "report.html").read_bytes()}


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "units/x.html", "report.html/x"])
def test_files_of_the_run_are_not_replaced(run, name):
    before = snapshot(run)
    with pytest.raises(ConfigError, match="--output"):
        write_report(run, run / name)
    assert snapshot(run) == before


def test_another_file_is_not_replaced(run, tmp_path, capsys):
    mine = tmp_path / "thesis.html"
    mine.write_text("mine")
    assert cli.main(["report", str(run), "--output", str(mine)]) == 2
    assert "there is a file that is no report" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert cli.main(["report", str(run), "--output", str(tmp_path / "new.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "new.html")


def test_every_text_of_a_hostile_run_is_escaped(run, tmp_path):
    copy = copy_of(run, tmp_path / "<b>x'&\"")
    record = json.loads((copy / "run.json").read_text())
    record |= {"platform": HOSTILE, "start": HOSTILE, "device": HOSTILE, "dataset": {HOSTILE: HOSTILE}}
    record["versions"] = {HOSTILE: HOSTILE}
    record["git"] = {"commit": HOSTILE, "dirty": True}
    (copy / "run.json").write_text(json.dumps(record))
    results = json.loads((copy / "results.json").read_text())
    results["test"] |= {HOSTILE: 0.5}
    results["stages"][HOSTILE] = results["stages"]["train"]
    results["unit"] = HOSTILE
    (copy / "results.json").write_text(json.dumps(results))
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["losses"] = {HOSTILE: 1.0, "odd": "text", "inf": float("inf")}
    rows += [{**row, "stage": HOSTILE} for row in rows]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (copy / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"model={HOSTILE}"]))
    (copy / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": {"model": HOSTILE}}}}))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["seed"] = HOSTILE
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    html = render(page_of(copy))
    refuse_links_and_code(html)
    assert html.count("&lt;script&gt;alert(1)") > 12


def test_addresses_in_a_config_are_text(run, tmp_path):
    copy = copy_of(run, tmp_path / "run")
    with (copy / "config.yaml").open("a") as file:
        file.write("address: https://example.org/a.zip\n")
    html = render(page_of(copy))
    refuse_links_and_code(html)
    assert "https://example.org/a.zip" in html.split("<pre>")[-1]


def test_an_unfinished_run_has_a_report_too(run, tmp_path):
    copy = copy_of(run, tmp_path / "run")
    (copy / "results.json").unlink()
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    html = render(page_of(copy))
    assert "interrupted" in html
    assert "Nothing was evaluated yet" in html
    assert "train: valid ndcg@100" in html
    for name in ("run.json", "metrics.jsonl"):
        (copy / name).unlink()
    assert "prepared" in render(page_of(copy))


def test_a_damaged_run_is_refused_with_its_file(run, tmp_path, capsys):
    copy = copy_of(run, tmp_path / "run")
    (copy / "run.json").write_text("{")
    with pytest.raises(RecrunError, match=r"run\.json is damaged"):
        write_report(copy)
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "neither a run nor a sweep" in capsys.readouterr().err
    assert cli.main(["report"]) == 2


def sweep_of(run, folder, count):
    """A sweep of copies of a run, each a setting of its own; every second one with another seed of the one before."""
    folder.mkdir()
    jobs = []
    for number in range(count):
        copy = copy_of(run, folder / str(number))
        (copy / "report.html").unlink(missing_ok=True)
        shutil.rmtree(copy / "train")
        words = [f"model.dropout=0.{number // 2:02}", f"seed={number % 2}"]
        config = yaml.safe_load((copy / "config.yaml").read_text())
        config["model"]["dropout"], config["seed"] = number // 2, number % 2
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        (copy / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
        jobs.append({"number": number, "overrides": words, "directory": str(number)})
    (folder / "sweep.json").write_text(json.dumps({"argv": ["recrun", "-m", HOSTILE], "jobs": jobs}))
    return folder


def test_fifty_runs_fit_into_two_megabytes(run, tmp_path):
    path = write_report(sweep_of(run, tmp_path / "sweep", 50))
    html = path.read_text()
    refuse_links_and_code(html)
    assert path.stat().st_size < 2_000_000
    rows = Elements(html).rows
    settings = [row for row in rows if row[0].startswith("mult_vae model.dropout=")]
    assert len(settings) == 25
    results = json.loads((run / "results.json").read_text())
    at = rows[0].index("test ndcg@100")
    assert {row[1] for row in settings} == {"2"}
    (cell,) = {row[at] for row in settings}
    assert cell.startswith(f"{results['test']['ndcg@100']:.4f} ± 0.0000 [")
    assert len([row for row in rows if re.match(r"\d+: ", row[0])]) == 50


def test_a_sweep_with_an_unfinished_job(run, tmp_path):
    sweep = sweep_of(run, tmp_path / "sweep", 4)
    record = json.loads((sweep / "3" / "run.json").read_text())
    (sweep / "3" / "run.json").write_text(json.dumps({**record, "status": "failed"}))
    (sweep / "3" / "results.json").unlink()
    html = render(page_of(sweep))
    assert "4 jobs, 3 finished" in html
    assert [row[1] for row in Elements(html).rows if row[0].startswith("3: ")] == ["failed"]


def test_runs_that_cannot_be_compared_are_only_listed(run, tmp_path):
    sweep = sweep_of(run, tmp_path / "sweep", 2)
    record = json.loads((sweep / "1" / "run.json").read_text())
    (sweep / "1" / "run.json").write_text(json.dumps({**record, "split_fingerprint": "another"}))
    html = render(page_of(sweep))
    assert "No table of means" in html
    assert "cannot be compared: split_fingerprint" in html


def test_the_key_report_writes_it_at_the_end(tmp_path, capsys):
    words = [word for word in WORDS if not word.startswith("model=")]
    assert (
        cli.main(
            ["model=popularity", *[w for w in words if "model." not in w], "report=true", f"output_dir={tmp_path}"]
        )
        == 0
    )
    (path,) = tmp_path.rglob("report.html")
    assert "popularity" in path.read_text()
    assert f"report: {path}" in capsys.readouterr().err


# ---- charts


def test_a_line_by_hand():
    chart = line_chart("t", "epoch", [Points("a", [1, 2, 3], [0.0, np.nan, 1.0], marked=2, mark="kept")])
    assert chart.lines[0].points == "54.0,164.0 330.0,10.0"  # from the left edge to the right, floor to top
    assert (chart.lines[0].marks[0].x, chart.lines[0].marks[0].y) == (330.0, 10.0)
    assert [tick.text for tick in chart.x_ticks] == ["1", "2", "3"]
    assert [tick.text for tick in chart.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert line_chart("t", "epoch", [Points("a", [1], [float("nan")])]) is None


def test_a_single_point_is_in_the_middle():
    (line,) = line_chart("t", "epoch", [Points("a", [1], [0.5])]).lines
    assert line.points == "192.0,87.0"


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.153, 0.158, False, [0.153, 0.154, 0.155, 0.156, 0.157, 0.158]),
        (1, 3, True, [1, 2, 3]),
        (1, 200, True, [50, 100, 150, 200]),
        (-3e6, 3e6, False, [-2e6, 0, 2e6]),
        (7, 7, False, [7]),
    ],
)
def test_ticks_are_round(low, high, whole, expected):
    assert ticks(low, high, whole) == pytest.approx(expected)


def test_a_histogram_counts_every_unit():
    values = np.array([0.0] * 7 + [1.0] * 3)
    chart = histogram("t", "ndcg", values)
    assert len(chart.bars) == 20
    assert [chart.bars[0].text, chart.bars[-1].text] == ["0 to 0.05: 7", "0.95 to 1: 3"]
    assert chart.bars[0].height / chart.bars[-1].height == pytest.approx(7 / 3)
    assert chart.bars[5].height == 0


def test_intervals_by_hand():
    chart = interval_chart("t", "ndcg", [Estimate("a", 0.5, 0.0, 1.0), Estimate("b", 0.25, 0.25, 0.25)])
    assert chart.lines[0].points == "10.0,34.0 330.0,34.0"
    assert chart.lines[0].marks[0].x == 170.0
    assert chart.lines[1].points == "90.0,68.0 90.0,68.0"
    assert interval_chart("t", "ndcg", []) is None
    (name,) = interval_chart("t", "ndcg", [Estimate("x" * 99, 0.5, 0.0, 1.0)]).y_ticks
    assert name.text == "x" * 31 + "…" + "x" * 12 + ": 0.5000"


def test_many_units_have_normal_intervals(run, monkeypatch):
    setting = Setting("", (read_run(run),))
    (resampled,) = estimates.values_of([setting], "test", ["mrr@20"])
    monkeypatch.setattr(estimates, "MOST_RESAMPLED", 1)
    (normal,) = estimates.values_of([setting], "test", ["mrr@20"])
    with np.load(run / "units" / "test.npz") as units:
        values = units["mrr@20"]
    half = 1.959964 * values.std(ddof=1) / len(values) ** 0.5
    interval = normal["mrr@20"].interval
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert normal["mrr@20"].mean == pytest.approx(resampled["mrr@20"].mean)
    assert interval.low == pytest.approx(resampled["mrr@20"].interval.low, abs=half / 2)
    assert spread(values, np.ones(len(values)), values[None]).variance == pytest.approx(half**2 / 1.959964**2)


def test_an_empty_section_is_left_out():
    html = render(Page("a", "b", [Section("nothing"), Section("something", text="x")]))
    assert "<h2>nothing" not in html
    assert "<h2>something" in html


def test_runs_from_before_there_was_the_key_can_be_used(run, tmp_path):
    copy = copy_of(run, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    del config["report"]
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "config": config, "config_sha256": None}))
    assert cli.main(["predict", str(copy), "--output", str(tmp_path / "top.tsv")]) == 0
