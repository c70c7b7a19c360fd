"""What a comparison looks like: on a terminal, for a program (CSV, JSON), in a paper (LaTeX, Markdown)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from string import ascii_lowercase

from recrun.console import report
from recrun.console.tables import Column, show
from recrun.experiments.compare.bootstrap import LEVEL
from recrun.experiments.compare.result import ALPHA, Comparison, ComparisonResult, Summary
from recrun.types import lower_is_better

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
DIGITS = 4
LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)
MARKDOWN_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{character: f"\\{character}" for character in "\\|`*_[]"}}
)


def terminal(table: ComparisonResult) -> None:
    """Prints the settings, the comparisons, and in words what they show."""
    summaries = [[table.summary(setting, metric) for setting in table.settings] for metric in table.metrics]
    show(
        [
            Column("setting", table.settings, words=True),
            Column("seeds", [str(one.seeds) for one in summaries[0]]),
            *(
                Column(f"{table.split}\n{metric}", [f"{value(one)}{marks(table, one)}" for one in column])
                for metric, column in zip(table.metrics, summaries, strict=True)
            ),
        ],
        explanation(table),
    )
    if table.comparisons:
        show(comparison_columns(table), columns_explained(table))
        for comparison in table.comparisons:
            report.text(sentence(comparison, table))
        for note in notes(table):
            report.text(note)


def comparison_columns(table: ComparisonResult) -> list[Column]:
    """A line for each comparison."""
    comparisons = table.comparisons
    return [
        Column("comparison", [title(one, table) for one in comparisons], words=True),
        Column("difference", [signed(one.difference) for one in comparisons]),
        Column(
            f"{LEVEL:.0%} interval", [f"{signed(one.interval.low)} {signed(one.interval.high)}" for one in comparisons]
        ),
        Column("p\ncorrected", [p_value(one.corrected["decides"]) for one in comparisons]),
        Column("d_z", [f"{one.d_z:+.3f}" for one in comparisons]),
        Column("better", [f"{one.better:.1%}" for one in comparisons]),
        Column("worse", [f"{one.worse:.1%}" for one in comparisons]),
        *(Column(f"p\n{test}", [p_value(one.p[test]) for one in comparisons]) for test in tests_shown(comparisons)),
    ]


def title(comparison: Comparison, table: ComparisonResult) -> str:
    """What is compared in what."""
    against = "" if table.baseline is not None else f" - {comparison.baseline}"
    return f"{comparison.metric}: {comparison.setting}{against}"


def tests_shown(comparisons: Sequence[Comparison]) -> list[str]:
    """The tests; "decides" only where it is another one than t."""
    same = all(math.isclose(one.p["t"], one.p["decides"], rel_tol=1e-9) for one in comparisons)
    return [test for test in comparisons[0].p if test != "decides" or not same]


def limits(comparison: Comparison) -> tuple[str, str]:
    """The ends of the interval of a difference."""
    return signed(comparison.interval.low), signed(comparison.interval.high)


def sentence(comparison: Comparison, table: ComparisonResult) -> str:
    """What a comparison shows, or does not."""
    low, high = limits(comparison)
    corrected = f"p {p_value(comparison.corrected['decides'])}"
    if len(table.comparisons) > 1:
        corrected += f" ({CORRECTIONS[table.correction]})"
    if comparison.verdict == "no difference shown":
        words = f"no difference shown between {comparison.setting} and {comparison.baseline}"
    else:
        words = f"{comparison.setting} differs from {comparison.baseline}, {comparison.verdict}"
    estimate = f"{signed(comparison.difference)}, {LEVEL:.0%} interval {low} to {high}"
    return f"{comparison.metric}: {words}: {estimate}, {corrected}"


def explanation(table: ComparisonResult) -> str:
    """The caption of the table of settings."""
    several = any(one.seeds > 1 for one in table.summaries)
    units = " and ".join(dict.fromkeys(f"{one.units:,} {one.unit}" for one in table.summaries))
    text = f"Means over {units} of the {table.split} split{', ± standard deviation over seeds' if several else ''}."
    if not table.comparisons:
        return text
    return f"{text} {marks_explained(table)}"


def marks_explained(table: ComparisonResult) -> str:
    """What the marks stand for, and by which test."""
    unit = "units and seeds" if any(max(one.seeds) > 1 for one in table.comparisons) else "units"
    test = f"t test over {unit}, p < {ALPHA} {correction(table)}"
    if table.baseline is not None:
        return f"* differs from {table.baseline} ({test})."
    letters = ", ".join(f"{letter(at)} {setting}" for at, setting in enumerate(table.settings))
    return f"Letters: better than that setting ({test}); {letters}."


def correction(table: ComparisonResult) -> str:
    """How p-values were corrected."""
    count = len(table.comparisons)
    return f"corrected by {CORRECTIONS[table.correction]} over {count} comparison{'s' if count > 1 else ''}"


def columns_explained(table: ComparisonResult) -> str:
    """What the columns of the table of comparisons are."""
    units = " or ".join(dict.fromkeys(one.unit for one in table.comparisons))
    seeds = any(max(one.seeds) > 1 for one in table.comparisons)
    decides = "decides" in tests_shown(table.comparisons)
    against = "" if table.baseline is None else f"Differences from {table.baseline}; "
    extent = "the variance over seeds too" if seeds else "the variance that the interval has"
    return (
        f"{against}better, worse: shares of {units}. p: paired t, Wilcoxon and sign-flip permutation tests over {units}"
        f"{', averaged over seeds first' if seeds else ''}{f'; decides: t with {extent}' if decides else ''}; "
        f"{correction(table)}."
    )


def notes(table: ComparisonResult) -> list[str]:
    """What a reader may think is shown and is not."""
    found = []
    if any(one.verdict == "no difference shown" for one in table.comparisons):
        found.append("'No difference shown' is not equality: the interval says how large a difference may be.")
    single = [s for s in table.settings if table.summary(s, table.metrics[0]).seeds == 1]
    if single:
        found.append(f"One seed of {', '.join(single)}: nothing is said of what other seeds would give.")
    if any(one.unit == "rows" for one in table.comparisons):
        found.append("Rows are taken as independent: where a user has several, intervals are too short.")
    return found


def as_json(table: ComparisonResult) -> str:
    """Everything, unrounded."""
    values = asdict(table)
    for stored, comparison in zip(values["comparisons"], table.comparisons, strict=True):
        stored["verdict"] = comparison.verdict
    return json.dumps({"level": LEVEL, **values}, indent=2) + "\n"


def as_csv(table: ComparisonResult) -> str:
    """A line per setting and metric, `against` nothing, and one per comparison; unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    tests = list(table.comparisons[0].p) if table.comparisons else []
    columns = ("setting", "against", "metric", "split", "unit", "units", "seeds", "value", "sd", "low", "high")
    more = ("d_z", "better", "equal", "worse", *(f"p_{test}" for test in tests))
    corrections = [f"p_{test}_{table.correction}" for test in tests]
    writer.writerow([*columns, *more, *corrections, "verdict"])
    for one in table.summaries:
        row = [one.setting, "", one.metric, table.split, one.unit, one.units, one.seeds, one.mean, one.sd]
        writer.writerow([*row, one.interval.low, one.interval.high, *[""] * (len(more) + len(corrections) + 1)])
    for two in table.comparisons:
        row = [two.setting, two.baseline, two.metric, table.split, two.unit, two.units, two.seeds[0], two.difference]
        shares = [two.d_z, two.better, two.equal, two.worse]
        p = [*two.p.values(), *two.corrected.values()]
        writer.writerow([*row, None, two.interval.low, two.interval.high, *shares, *p, two.verdict])
    return text.getvalue()


@dataclass(frozen=True)
class Markup:
    """How a format writes text, and what stands out."""

    escape: Callable[[str], str]
    bold: str
    underlined: str
    raised: str
    plus_minus: str


LATEX = Markup(lambda text: text.translate(LATEX_ESCAPES), r"\textbf{%s}", r"\underline{%s}", "$^{%s}$", r" $\pm$ ")
MARKDOWN = Markup(lambda text: text.translate(MARKDOWN_ESCAPES), "**%s**", "<u>%s</u>", "<sup>%s</sup>", " ± ")


def as_latex(table: ComparisonResult) -> str:
    """A table for a paper; needs the package booktabs."""
    head, *body = cells(table, LATEX)
    caption = LATEX.escape(paper_caption(table)).replace("±", r"$\pm$")
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def as_markdown(table: ComparisonResult) -> str:
    """A table for a README or a paper in Markdown."""
    head, *body = cells(table, MARKDOWN)
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *body)]
    return "\n".join([*lines, "", MARKDOWN.escape(paper_caption(table))]) + "\n"


def paper_caption(table: ComparisonResult) -> str:
    """What a reader must know of a table in a paper."""
    best = " Best in bold, second underlined." if len(table.settings) > 1 else ""
    return explanation(table) + best


def cells(table: ComparisonResult, markup: Markup) -> list[list[str]]:
    """The table of settings with its head: best bold, second underlined, marks of significance."""
    rows = [["", *(markup.escape(metric) for metric in table.metrics)]]
    for setting in table.settings:
        row = [markup.escape(setting_name(table, setting))]
        for metric in table.metrics:
            summary = table.summary(setting, metric)
            style = styles(table, metric, markup).get(summary.mean, "%s")
            sd = "" if summary.sd is None else f"{markup.plus_minus}{summary.sd:.{DIGITS}f}"
            mark = marks(table, summary)
            raised = markup.raised % markup.escape(mark) if mark else ""
            row.append(f"{style % f'{summary.mean:.{DIGITS}f}'}{sd}{raised}")
        rows.append(row)
    return rows


def setting_name(table: ComparisonResult, setting: str) -> str:
    """A setting; of all pairs with the letter that marks stand for it."""
    return setting if table.baseline is not None else f"{letter(table.settings.index(setting))} {setting}"


def styles(table: ComparisonResult, metric: str, markup: Markup) -> dict[float, str]:
    """How the best and the second value of a metric are written."""
    values = {table.summary(setting, metric).mean for setting in table.settings}
    best = sorted(values, reverse=not lower_is_better(metric))[:2]
    return dict(zip(best, (markup.bold, markup.underlined), strict=False)) if len(table.settings) > 1 else {}


def marks(table: ComparisonResult, summary: Summary) -> str:
    """Against a baseline `*` where a difference is shown; of all pairs the letters of settings that are worse."""
    shown = [one for one in table.comparisons if one.metric == summary.metric and one.verdict != "no difference shown"]
    if table.baseline is not None:
        return "*" if any(one.setting == summary.setting for one in shown) else ""
    beaten = {one.baseline if one.verdict == "better" else one.setting for one in shown if won(one) == summary.setting}
    return "".join(letter(at) for at, setting in enumerate(table.settings) if setting in beaten)


def won(comparison: Comparison) -> str:
    """The better setting of a shown difference."""
    return comparison.setting if comparison.verdict == "better" else comparison.baseline


def letter(at: int) -> str:
    """a, b, …, z, then 27, 28, …"""
    return ascii_lowercase[at] if at < len(ascii_lowercase) else f"({at + 1})"


def value(summary: Summary) -> str:
    """A mean with its deviation over seeds."""
    sd = "" if summary.sd is None else f" ± {summary.sd:.{DIGITS}f}"
    return f"{summary.mean:.{DIGITS}f}{sd}"


def signed(difference: float) -> str:
    """A difference, with its sign."""
    return f"{difference:+.{DIGITS}f}"


def p_value(p: float) -> str:
    """A p-value to three digits; what is smaller says so."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
