"""A page: sections of charts, tables and facts, written as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recrun.errors import ConfigError
from recrun.experiments.reports.charts import Chart
from recrun.experiments.run_record import write_text

TEMPLATE = "report.html.jinja"
MARK = "<!-- recrun report -->"  # in the first line of a page: a file with it may be written anew


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; all columns but the first are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading and what is below it.

    Attributes:
        lines: Sentences, a line each.
        facts: Names and values.
        text: Shown as it is, in lines: a command, a config.
    """

    title: str
    note: str = ""
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    facts: tuple[tuple[str, str], ...] = ()
    text: str = ""
    lines: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing but a heading."""
        return not (self.note or self.charts or self.table or self.facts or self.text or self.lines)


@dataclass(frozen=True)
class Page:
    """What a report shows."""

    title: str
    subtitle: str
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML. Every text is escaped; it names no host and loads nothing.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise ConfigError('a report needs jinja2: pip install "recrun[report]"') from None
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections = [section for section in page.sections if not section.empty]
    return environment.get_template(TEMPLATE).render(page=page, sections=sections, mark=MARK)


def write(page: Page, path: Path) -> None:
    """Writes a page, whole or not at all.

    Raises:
        ConfigError: There is another file, which is no report.
    """
    if path.exists() and not is_report(path):
        raise ConfigError(f"--output {path}: there is a file that is no report; give another name")
    if not path.parent.is_dir():
        raise ConfigError(f"--output {path}: {path.parent} is not a folder")
    write_text(path, render(page))


def is_report(path: Path) -> bool:
    """Whether a file is a report, which may be written anew."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.readline(200)
