"""`recrun compare` from the command line: numbers, words, formats, refusals."""

import csv
import io
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats
from worlds.stored_runs import NEXT, store_run

from recrun import cli
from recrun.evaluation import metrics as M

UNITS = 200
RNG = np.random.default_rng(11)
TASTE = RNG.beta(0.5, 1.5, UNITS)
NOISE = RNG.normal(0, 0.1, (6, UNITS))


@pytest.fixture
def runs(tmp_path):
    """Two models of three seeds, the second better by 0.1 in ndcg, in loss only by noise; a third of one seed."""
    for at in range(6):
        gain = 0.1 * (at >= 3)
        values = {"ndcg@10": TASTE + NOISE[at] + gain, "logloss": TASTE + NOISE[at]}
        store_run(tmp_path / str(at), values, model="ease" if at < 3 else "mult_vae", seed=at % 3)
    store_run(tmp_path / "6", {"ndcg@10": TASTE, "logloss": TASTE + 0.2}, model="popularity")
    return [str(tmp_path / str(at)) for at in range(7)]


def as_json(capsys, *words):
    assert cli.main(["compare", *words, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *words):
    assert cli.main(["compare", *words]) in (1, 2)
    told = capsys.readouterr()
    assert not told.out
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    return told.err.removeprefix("error: ").rstrip()


def test_the_numbers(runs, capsys):
    found = as_json(capsys, *runs)
    assert found["settings"] == ["ease", "mult_vae", "popularity"]
    assert found["metrics"] == ["ndcg@10", "logloss"]
    ease, vae = TASTE + NOISE[:3].mean(0), TASTE + NOISE[3:].mean(0) + 0.1
    summary = found["summaries"][1]
    assert (summary["setting"], summary["seeds"], summary["units"]) == ("mult_vae", 3, UNITS)
    assert summary["mean"] == pytest.approx(vae.mean(), rel=1e-12)
    assert summary["sd"] == pytest.approx((TASTE + NOISE[3:] + 0.1).mean(1).std(ddof=1), rel=1e-9)
    one = found["comparisons"][0]
    assert (one["setting"], one["baseline"], one["metric"]) == ("mult_vae", "ease", "ndcg@10")
    assert one["p"]["t"] == pytest.approx(stats.ttest_rel(vae, ease).pvalue, rel=1e-9)
    assert one["p"]["wilcoxon"] == pytest.approx(stats.wilcoxon(vae - ease).pvalue, rel=1e-9)
    assert one["p"]["permutation"] == 1 / 10_000
    assert one["difference"] == pytest.approx((vae - ease).mean(), rel=1e-9)
    assert one["d_z"] == pytest.approx((vae - ease).mean() / (vae - ease).std(ddof=1), rel=1e-9)
    assert one["better"] == np.mean(vae > ease)
    assert one["better"] + one["equal"] + one["worse"] == pytest.approx(1)
    assert one["interval"]["low"] < 0.1 < one["interval"]["high"]
    assert one["verdict"] == "better"


def test_every_p_value_is_corrected_over_all_comparisons(runs, capsys):
    for correction, whole in (("holm", holm_by_loop), ("bh", stats.false_discovery_control)):
        found = as_json(capsys, *runs, "--all-pairs", "--correction", correction)["comparisons"]
        assert len(found) == 6
        for test in ("t", "wilcoxon", "permutation", "decides"):
            p = [one["p"][test] for one in found]
            assert [one["corrected"][test] for one in found] == pytest.approx(list(whole(p)), rel=1e-9)


def holm_by_loop(p):
    """Holm as its paper says it: the k-th smallest times n - k, never below the one before."""
    found, least = [0.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = found[at] = max(least, min(1, p[at] * (len(p) - rank)))
    return found


def test_baselines_and_all_pairs(runs, capsys):
    def pairs(*words):
        found = as_json(capsys, *runs, "--metric", "ndcg@10", *words)["comparisons"]
        return [(one["setting"], one["baseline"]) for one in found]

    assert pairs() == [("mult_vae", "ease"), ("popularity", "ease")]
    assert pairs("--baseline", "mult_vae") == [("ease", "mult_vae"), ("popularity", "mult_vae")]
    assert pairs(f"--baseline={runs[6]}") == [("ease", "popularity"), ("mult_vae", "popularity")]
    assert pairs("--all-pairs") == [("mult_vae", "ease"), ("popularity", "ease"), ("popularity", "mult_vae")]


def test_a_loss_is_better_where_it_is_smaller(runs, capsys):
    two = as_json(capsys, runs[0], runs[6], "--metric", "logloss")["comparisons"][0]
    assert two["difference"] > 0
    assert two["verdict"] == "worse"
    assert two["worse"] > two["better"]
    assert all(map(M.greater_is_better, ("auc", "income/auc", "ndcg@10", "group_auc", "map@5")))
    assert not any(map(M.greater_is_better, ("income/logloss", "rmse", "mae", "warp", "bpr", "squared_error")))


def test_in_words(runs, capsys):
    assert cli.main(["compare", *runs, "--metric", "ndcg@10"]) == 0
    told = capsys.readouterr().out
    for words in (
        "ndcg@10: mult_vae differs from ease, better: +0.1",
        "no difference shown between popularity and ease: ",
        "95% interval ",
        "'No difference shown' is not equality",
        "One seed of popularity: nothing is said of what other seeds would give.",
        "Means over 200 users of the test split, ± standard deviation over seeds. * differs from ease",
        "corrected by Holm over 2 comparisons",
    ):
        assert words in told


def test_one_setting_has_a_table_and_nothing_to_compare(runs, capsys):
    assert cli.main(["compare", *runs[:3]]) == 0
    told = capsys.readouterr().out
    assert "Means over 200 users of the test split, ± standard deviation over seeds.\n" in told
    assert "differ" not in told


def test_equal_runs_show_no_difference(tmp_path, capsys):
    paths = [str(store_run(tmp_path / name, {"ndcg@10": TASTE}, model=name)) for name in ("a", "b")]
    one = as_json(capsys, *paths)["comparisons"][0]
    assert (one["difference"], one["d_z"], one["equal"], one["p"]["t"]) == (0, 0, 1, 1)
    assert one["interval"] == {"low": 0, "high": 0}
    assert one["verdict"] == "no difference shown"


def test_sessions_are_the_units_of_next_item_evaluation(tmp_path, capsys):
    """Sessions of 1 to 20 events: tests are of sums of events' differences, means are over events."""
    lengths = np.tile(np.arange(1, 21), 4)
    names = [f"s{at}:{position}" for at, length in enumerate(lengths) for position in range(1, length + 1)]
    rng = np.random.default_rng(0)
    one, other = rng.random((2, len(names)))
    order = rng.permutation(len(names))
    a = store_run(tmp_path / "a", {"mrr@20": one}, names, model="a", evaluator=NEXT)
    b = store_run(tmp_path / "b", {"mrr@20": other[order]}, np.array(names)[order], model="b", evaluator=NEXT)
    found = as_json(capsys, str(a), str(b))
    comparison = found["comparisons"][0]
    assert (comparison["unit"], comparison["units"]) == ("sessions", 80)
    assert found["summaries"][0]["mean"] == pytest.approx(one.mean(), rel=1e-12)
    ends = np.cumsum(lengths)[:-1]
    sums = np.array([part.sum() for part in np.split(other - one, ends)])
    assert comparison["p"]["t"] == pytest.approx(stats.ttest_1samp(sums, 0).pvalue, rel=1e-9)
    assert comparison["p"]["wilcoxon"] == pytest.approx(stats.wilcoxon(sums).pvalue, rel=1e-9)
    assert comparison["better"] == np.mean([part.mean() > 0 for part in np.split(other - one, ends)])


def test_groups_are_the_units_of_group_auc(tmp_path, capsys):
    paths = []
    for name, gain in (("a", 0.0), ("b", 0.1)):
        groups = {"group_auc": TASTE[:50] / 2 + gain * np.arange(50) / 50}
        groups |= {"group_auc:ids": np.array([f"g{at}" for at in range(50)]), "group_auc:weights": np.arange(1, 51)}
        paths.append(str(store_run(tmp_path / name, {"logloss": TASTE, **groups}, model=name)))
    one = as_json(capsys, *paths, "--metric", "group_auc,logloss")["comparisons"][0]
    assert (one["metric"], one["unit"], one["units"]) == ("group_auc", "groups", 50)
    assert one["difference"] == pytest.approx(np.average(0.1 * np.arange(50) / 50, weights=np.arange(1, 51)))


def test_csv_has_a_line_per_setting_and_per_comparison(runs, capsys):
    assert cli.main(["compare", *runs, "--format", "csv", "--metric", "ndcg@10"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["setting"], row["against"]) for row in rows] == [
        ("ease", ""),
        ("mult_vae", ""),
        ("popularity", ""),
        ("mult_vae", "ease"),
        ("popularity", "ease"),
    ]
    assert float(rows[3]["value"]) == pytest.approx(float(rows[1]["value"]) - float(rows[0]["value"]), rel=1e-9)
    assert rows[3]["verdict"] == "better"
    assert float(rows[3]["p_t_holm"]) >= float(rows[3]["p_t"])
    assert all(None not in row and None not in row.values() for row in rows)


def test_tables_for_a_paper(runs, capsys):
    words = ["compare", *runs, "--metric", "ndcg@10,logloss"]
    assert cli.main([*words, "--format", "markdown"]) == 0
    told = capsys.readouterr().out
    head, rule, _, vae, popularity, _, caption = told.splitlines()
    assert head == "|  | ndcg@10 | logloss |"
    assert rule == "| --- | ---: | ---: |"
    assert vae.startswith("| mult\\_vae | **0.3")
    assert vae.split(" | ")[1].endswith("<sup>\\*</sup>")
    assert (told.count("<u>"), told.count("**")) == (2, 4)
    assert popularity.split(" | ")[2].endswith("<sup>\\*</sup> |")
    assert caption.endswith("Best in bold, second underlined.")
    assert cli.main([*words, "--format", "latex", "--all-pairs"]) == 0
    told = capsys.readouterr().out
    assert "b mult\\_vae & \\textbf{0.3" in told
    assert "$^{ac}$ &" in told
    assert told.count("\\underline{") == 2
    assert told.count("{") == told.count("}")


def test_names_are_escaped(tmp_path, capsys):
    odd = "a_b&<i>|%$#{}~^\\*`"
    paths = [str(store_run(tmp_path / str(at), {"r@5": TASTE}, model=name)) for at, name in enumerate(("x", odd))]
    assert cli.main(["compare", *paths, "--format", "latex"]) == 0
    expected = r"a\_b\&\textless{}i\textgreater{}|\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}*`"
    assert f"\n{expected} & " in capsys.readouterr().out
    assert cli.main(["compare", *paths, "--format", "markdown"]) == 0
    assert "\n| a\\_b&amp;&lt;i&gt;\\|%$#{}~^\\\\\\*\\` | " in capsys.readouterr().out


def test_output_goes_to_a_file_and_nothing_into_runs(runs, tmp_path, capsys):
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")}
    output = tmp_path / "table.tex"
    assert cli.main(["compare", *runs, "--format", "latex", "--output", str(output)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"7 runs compared in {output}\n"
    assert "\\toprule" in output.read_text()
    output.unlink()
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")}
    assert after == before
    inside = f"{runs[0]}/table.tex"
    assert refusal(capsys, *runs, "--format=latex", f"--output={inside}") == (
        f"--output {inside} is inside {runs[0]}: nothing is written into runs"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "compare needs runs or sweeps: recrun compare outputs/… (recrun list runs shows them)"),
        (["nowhere"], "nowhere is neither a run nor a sweep: it has no config.yaml or sweep.json"),
        (["x", "--metrics", "a"], "compare: unknown option --metrics; did you mean '--metric'?"),
        (["x", "--metric"], "compare: --metric needs a value"),
        (["x", "--metric", "a", "--metric=b"], "compare: --metric is given twice; separate metrics by commas"),
        (["x", "--split", "train"], "--split train: expected valid, test"),
        (["x", "--correction", "bonferroni"], "--correction bonferroni: expected holm, bh"),
        (
            ["x", "--format", "latx"],
            "--format latx: expected terminal, csv, json, latex, markdown; did you mean 'latex'?",
        ),
        (["x", "--all-pairs", "--baseline", "a"], "compare: --baseline and --all-pairs exclude each other"),
        (["x", "--all-pairs=yes"], "compare: --all-pairs takes no value"),
        (["x", "--output", "y"], "--output needs --format csv, json, latex or markdown"),
    ],
)
def test_wrong_usage(capsys, words, message):
    assert refusal(capsys, *words).startswith(message)


def test_what_runs_lack(runs, tmp_path, capsys):
    assert refusal(capsys, *runs, "--metric", "ndcg@1") == (
        f"ndcg@1 has no values per unit in {runs[0]}; did you mean 'ndcg@10'? (there are: ndcg@10, logloss)"
    )
    assert "units/valid.npz is damaged or not what a run writes" in refusal(capsys, *runs, "--split", "valid")
    other = store_run(tmp_path / "other", {"recall@5": TASTE}, model="other")
    assert refusal(capsys, runs[0], str(other)) == "the runs have no metric in common in units/test.npz"
    fewer = store_run(tmp_path / "fewer", {"ndcg@10": TASTE[:150]}, model="fewer")
    assert "of the first one's 200 units the second lacks 50, and it has 0 others" in refusal(
        capsys, runs[0], str(fewer)
    )


def test_results_that_were_edited_are_refused(runs, tmp_path, capsys):
    path = tmp_path / "1" / "results.json"
    results = json.loads(path.read_text())
    results["test"]["ndcg@10"] += 0.01
    path.write_text(json.dumps(results))
    assert "units/test.npz: the mean of ndcg@10 is " in refusal(capsys, *runs)


def test_torch_is_not_imported(runs):
    script = "import sys; from recrun import cli; assert cli.main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script, "compare", *runs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_runs_give_the_same_table(runs, capsys):
    one, other = (as_json(capsys, *runs) for _ in range(2))
    assert one == other
    assert all(math.isfinite(comparison["interval"]["low"]) for comparison in one["comparisons"])


def test_two_runs_of_136_000_users_take_less_than_5_seconds(tmp_path, capsys):
    """MovieLens 20M has as many: 2 s of one core, and the ids are matched, for the files are in different orders."""
    rng = np.random.default_rng(0)
    taste, ids = rng.beta(0.5, 1.5, 136_000), np.arange(136_000).astype(str)
    paths = []
    for name in "ab":
        order = rng.permutation(136_000)
        values = {"ndcg@100": (taste + rng.normal(0, 0.1, 136_000))[order]}
        paths.append(str(store_run(tmp_path / name, values, ids[order], model=name)))
    started = time.process_time()
    found = as_json(capsys, *paths)
    assert time.process_time() - started < 5
    assert found["summaries"][0]["units"] == 136_000
    assert found["comparisons"][0]["verdict"] == "no difference shown"
