"""The page of a comparison has what `recrun compare` prints, and is a report like the others."""

import json

import numpy as np
import pytest
from worlds.pages import Elements, refuse_links_and_code
from worlds.small_run import snapshot
from worlds.stored_runs import store_run

from recrun import cli

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
RNG = np.random.default_rng(5)
TASTE = RNG.random(120)


@pytest.fixture
def runs(tmp_path):
    """Three models, the first with two seeds; the second better by 0.2, the third by nothing."""
    found = []
    for at, (model, seed, gain) in enumerate([("ease", 0, 0), ("ease", 1, 0), ("mult_vae", 0, 0.2), ("lists", 0, 0)]):
        values = {"ndcg@10": TASTE + RNG.normal(gain, 0.1, 120), "logloss": TASTE}
        found.append(store_run(tmp_path / "runs" / str(at), values, model=model, seed=seed))
    return [str(path) for path in found]


def page(capsys, output, *words):
    assert cli.main(["report", *words, "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    html = output.read_text()
    refuse_links_and_code(html)
    return html


def text_of(html):
    """The page without tags, spaces made one."""
    return " ".join(Elements(html).text.split())


@pytest.mark.parametrize("words", [[], ["--all-pairs"], ["--baseline", "mult_vae", "--metric", "ndcg@10"]])
def test_the_page_says_what_the_terminal_says(runs, tmp_path, capsys, words):
    assert cli.main(["compare", *runs, *words]) == 0
    printed = capsys.readouterr().out
    text = text_of(page(capsys, tmp_path / "page.html", *runs, *words))
    sentences = [line.strip() for line in printed.splitlines() if "95% interval +" in line or "95% interval -" in line]
    assert len(sentences) == {0: 4, 1: 6, 4: 2}[len(words)]
    for sentence in sentences:
        assert sentence in text
    note = "'No difference shown' is not equality"
    assert (note in text) == (note in printed)
    (caption,) = [line for line in printed.splitlines() if line.startswith("Means over")]
    assert caption in text


def test_the_tables_have_the_numbers_of_compare(runs, tmp_path, capsys):
    assert cli.main(["compare", *runs, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = Elements(page(capsys, tmp_path / "page.html", *runs)).rows
    head = next(row for row in rows if row[0] == "setting")
    for summary in found["summaries"]:
        (row,) = (row for row in rows if row[0] == summary["setting"] and len(row) == len(head) and "[" in row[2])
        cell = row[head.index(f"test {summary['metric']}")]
        ends = summary["interval"]
        assert cell.startswith(f"{summary['mean']:.4f}")
        assert cell.endswith(f"[{ends['low']:.4f},\N{NO-BREAK SPACE}{ends['high']:.4f}]")
        marked = any(
            (one["setting"], one["metric"]) == (summary["setting"], summary["metric"])
            and one["verdict"] != "no difference shown"
            for one in found["comparisons"]
        )
        assert ("*" in cell) == marked
    for one in found["comparisons"]:
        (row,) = (row for row in rows if row[0] == f"{one['metric']}: {one['setting']}")
        assert row[1] == f"{one['difference']:+.4f}"
        assert row[2] == f"{one['interval']['low']:+.4f} {one['interval']['high']:+.4f}"
        assert row[4] == f"{one['d_z']:+.3f}"
    listed = [row for row in rows if row[-1] in runs]
    assert [(row[0], row[1]) for row in listed] == [("ease", "0"), ("ease", "1"), ("mult_vae", "0"), ("lists", "0")]


def test_all_pairs_are_marked_with_letters(runs, tmp_path, capsys):
    rows = Elements(page(capsys, tmp_path / "page.html", *runs, "--all-pairs")).rows
    (row,) = (row for row in rows if row[0] == "b mult_vae")
    assert "\N{NO-BREAK SPACE}ac [" in row[2]


def test_a_sweep_with_an_option_of_compare_is_compared(runs, tmp_path, capsys):
    jobs = [{"number": at, "overrides": [], "directory": str(at)} for at in range(4)]
    sweep = tmp_path / "runs"
    (sweep / "sweep.json").write_text(json.dumps({"argv": ["recrun"], "jobs": jobs}))
    html = page(capsys, tmp_path / "page.html", str(sweep), "--baseline", "lists")
    assert "comparison of 3 settings" in html
    assert "recrun report" in html


def test_nothing_is_written_into_runs_and_nothing_is_replaced(runs, tmp_path, capsys):
    before = snapshot(tmp_path / "runs")
    assert cli.main(["report", *runs]) == 2
    assert "--output FILE" in capsys.readouterr().err
    assert cli.main(["report", *runs, "--output", f"{runs[0]}/page.html"]) == 2
    assert "nothing is written into runs" in capsys.readouterr().err
    mine = tmp_path / "thesis.html"
    mine.write_text("mine")
    assert cli.main(["report", *runs, "--output", str(mine)]) == 2
    assert "no report" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert snapshot(tmp_path / "runs") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "csv"], "report: unknown option --format"),
        (["--metrics", "x"], "did you mean '--metric'"),
        (["--split", "train"], "--split train: expected valid, test"),
        (["--baseline", "a", "--all-pairs"], "report: --baseline and --all-pairs exclude each other"),
    ],
)
def test_options_that_there_are_not(runs, tmp_path, capsys, words, said):
    assert cli.main(["report", *runs, *words, "--output", str(tmp_path / "page.html")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_runs_of_other_data_are_refused(runs, tmp_path, capsys):
    other = store_run(tmp_path / "other", {"ndcg@10": TASTE}, split_fingerprint="e" * 64)
    assert cli.main(["report", runs[0], str(other), "--output", str(tmp_path / "page.html")]) == 2
    assert "cannot be compared: split_fingerprint" in capsys.readouterr().err


def test_every_text_of_hostile_runs_is_escaped(runs, tmp_path, capsys):
    hostile = store_run(tmp_path / HOSTILE.replace("/", "-"), {"ndcg@10": TASTE}, model=HOSTILE, seed=HOSTILE)
    html = page(capsys, tmp_path / "page.html", runs[0], str(hostile))
    assert html.count("&lt;script&gt;alert(1)") > 5
