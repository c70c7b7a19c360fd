"""What a page of the documentation tells people to type, in order, and what it says comes out."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = {  # pages whose commands are typed by every test run; those of the others are checked, and typed by test-all
    *("start.md", "write_a_model.md", "architecture.md", "data.md", "retrieval.md", "python.md"),
    *("catalogue.md", "news.md", "sessions.md", "clicks.md", "tasks.md"),
}
COMMAND = re.compile(r"recrun( |$)")


@dataclass(frozen=True)
class Step:
    """A command with the lines that are shown below it, a file that the page shows, or Python code."""

    kind: str
    text: str
    name: str = ""
    output: tuple[str, ...] = ()


def blocks(text):
    """Name (of a file, if a line before says it), language and content of the code blocks of a page."""
    found = re.findall(r"(?:^`(\S+)`:\n\n)?^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\S.*\n?)+", rest, re.MULTILINE)
    return [*found, *(("", "", re.sub(r"^ {4}", "", block, flags=re.MULTILINE)) for block in indented)]


def steps(page):
    """What a reader of the page does, from top to bottom."""
    for name, language, block in blocks(page.read_text(encoding="utf-8")):
        if name:
            yield Step("file", block, name)
        elif language == "python":
            yield Step("python", block)
        elif language in ("", "text"):
            yield from commands(block)


def commands(block):
    """The commands of a block, with what is shown below each."""
    lines = block.replace("\\\n", " ").splitlines()
    typed = [number for number, line in enumerate(lines) if COMMAND.match(line.removeprefix("$ ").strip())]
    for begin, end in pairwise([*typed, len(lines)]):
        yield Step("command", lines[begin].removeprefix("$ ").strip(), output=tuple(lines[begin + 1 : end]))
