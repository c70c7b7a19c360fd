"""What the pages tell people to type is typed, from top to bottom, on small data and for few steps."""

import importlib
import os
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from worlds import doc_data
from worlds.doc_pages import PAGES, QUICK, ROOT, steps

from recrun import cli
from recrun.api import start, sweep
from recrun.api.overrides import words_of
from recrun.config import schema
from recrun.console.usage import VERBS

LONG = os.environ.get("RECRUN_TEST_ALL") == "1"
LOOKS = ("--cfg", "--dry-run", "--help")
FEWER = {  # of what takes long
    "step_limit": "2",
    "search.trials": "2",
    "search.refit_seeds": "1",
    "launcher.workers": "1",
    "devices": "2",
    "seed": "0,1",
}
RUN = re.compile(r"(?<![^=])RUN$")
STAMP = re.compile(r"outputs/([\w/]+)/(?:\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d|…|\.\.\.)")


@pytest.fixture(scope="session")
def public(tmp_path_factory):
    """A data folder with small stand-ins for public sets."""
    root = tmp_path_factory.mktemp("public")
    doc_data.write_public(root)
    return root


@pytest.fixture
def project(tmp_path, public, monkeypatch):
    """A working directory of a reader."""
    doc_data.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for key, value in {"RECRUN_DATA": public, "RECRUN_CACHE": public / "cache", "COLUMNS": "160"}.items():
        monkeypatch.setenv(key, str(value))
    return tmp_path


class Reader:
    """Types what a page says; knows which runs and sweeps there are by now."""

    def __init__(self, capsys):
        self.capsys = capsys
        self.stamps = {}

    def runs(self):
        """Run directories, the latest first."""
        found = [path.parent for path in Path("outputs").rglob("results.json") if (path.parent / "run.json").is_file()]
        return [str(path) for path in sorted(found, key=lambda path: (path / "run.json").stat().st_mtime, reverse=True)]

    def sweeps(self):
        """Directories of sweeps, the first one first."""
        return [str(path) for path in sorted(Path("outputs/multirun").glob("*"), key=lambda path: path.stat().st_ctime)]

    def typed(self, line):
        """The command with the directories of this reader."""
        line = line.replace("SWEEP", self.sweeps()[-1]) if "SWEEP" in line else line
        new = [found[0] for found in STAMP.finditer(line) if found[0] not in self.stamps]
        for place, stamp in enumerate(dict.fromkeys(new)):
            folder = Path(STAMP.fullmatch(stamp)[1])
            unused = [sweep for sweep in self.sweeps() if sweep not in self.stamps.values()]
            if folder.name == "multirun" and unused:
                self.stamps[stamp] = unused[place if len(new) > 1 else -1]
            elif folder.name == "multirun":
                self.stamps[stamp] = self.sweeps()[-1]
            else:
                self.stamps[stamp] = self.run_in(folder)
        return STAMP.sub(lambda found: self.stamps[found[0]], line)

    def run_in(self, folder):
        """A run of a model on a data set, trained now if there is none."""
        if not any(Path("outputs", folder).glob("*")):
            assert cli.main(fewer([f"model={folder.parts[0]}", f"dataset={folder.parts[1]}"])) == 0
        return str(sorted(Path("outputs", folder).glob("*"))[-1])

    def type(self, step):
        """Runs a command; with RUN in it, on the latest run for which it can be done."""
        words = fewer(shlex.split(self.typed(step.text), comments=True)[1:])
        if "pip" in words:
            return
        wanted = 2 if step.output and step.output[0].startswith("error: ") else 0
        for run in self.runs() if any(RUN.search(word) for word in words) else [""]:
            self.capsys.readouterr()
            importlib.invalidate_caches()  # a command is a process of its own, which sees the files that are there now
            schema.forget()
            code = cli.main([RUN.sub(run, word) for word in words])
            if code == wanted:
                break
        said = self.capsys.readouterr()
        assert code == wanted, (words, said.err)
        if wanted:
            assert masked(said.err).startswith(masked(self.typed(step.output[0]))), words
        else:
            assert not headings(step.output) - set(re.split(r"\s+", said.out)), words


def fewer(words):
    """A command that takes less long: a smaller number of steps, trials, seeds and processes."""
    keys = {word.partition("=")[0] for word in words}
    verb = words[0] if words and words[0] in VERBS else ""
    short = [
        f"{key}={FEWER[key]}" if (key := word.partition("=")[0]) in FEWER and "," not in key else word for word in words
    ]
    short = [word if not re.match(r"seed=\w+$", old) else old for word, old in zip(short, words, strict=True)]
    if verb == "resume":
        return [re.sub(r"^epochs=.*", "epochs=2", word) for word in short]
    if "--from" in words:
        return [*short, "eval_limit=2"]  # as the runs that it is compared with
    if verb or keys & {*LOOKS}:
        return short
    short = [word for word in short if not re.match(r"(trainer\.)?epochs=|step_limit=", word)]
    kept = [] if "keep_state" in keys else ["keep_state=last"]  # pages go on with finished runs
    return [*short, "epochs=1", "step_limit=2", "threads=1", *kept]


def shortened(words, tables):
    """The words of a call from Python, as `fewer` has them."""
    return fewer(words), tables


def masked(text):
    """A message without its fingerprints."""
    return re.sub(r"[0-9a-f]{12}…", "…", text)


def headings(lines):
    """The words above the line of each table in an output."""
    heads = [line for line, below in pairwise(lines) if re.fullmatch(r"\s*─+\s*", below)]
    return {word for line in heads for word in line.split()}


def test_there_are_pages():
    assert {page.name for page in PAGES} >= QUICK


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(page, project, capsys, monkeypatch):
    if page.name not in QUICK and not LONG:
        pytest.skip("takes longer: make test-all")
    reader, names = Reader(capsys), doc_data.tables()
    for module in (start, sweep):
        monkeypatch.setattr(module, "words_of", lambda *given: shortened(*words_of(*given)))
    for step in steps(page):
        if step.kind == "file":
            path = project / step.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
        elif step.kind == "python":
            exec(compile(step.text, str(page), "exec"), names)
        else:
            reader.type(step)
