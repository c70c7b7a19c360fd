"""What the documentation tells people to type: every command composes and passes the checks, every key exists."""

import re
import shlex
from itertools import pairwise

import pytest
from worlds.doc_pages import PAGES, QUICK, ROOT, blocks

from recrun import cli, train
from recrun.config.compose import compose, composer
from recrun.config.schema import signature
from recrun.config.search_path import conf_dir, options, search_path, target_in, targets_in
from recrun.config.validate import check
from recrun.console.usage import VERBS
from recrun.errors import ConfigError
from recrun.experiments import search, sweep

SECTIONS = ("model", "dataset", "split", "loader", "evaluator", "trainer", "stage", "search", "launcher")
NODES = {
    "trainer": ("objective", "optimizer", "scheduler", "weighting"),
    "search": ("pruner",),
}  # keys that hold a class
LOOKS = ("--cfg", "job", "-p", "dataset", "--help", "--version")
FILE_ENDINGS = ("pth", "json", "yaml", "safetensors")  # `model.json` is no key
INLINE = re.compile(r"`([^`\n]+)`")
KEY = re.compile(rf"(?:^|[\s~+])({'|'.join(SECTIONS)})\.([\w.]+)")


def commands():
    """Page, command and the line that comes after it, of all commands that can be typed as they are."""
    for page in PAGES:
        if page.name in QUICK:
            continue
        for _, language, block in blocks(page.read_text(encoding="utf-8")):
            if language in ("python", "yaml"):
                continue
            lines = [*block.replace("\\\n", " ").splitlines(), ""]
            for line, after in pairwise(lines):
                line = line.removeprefix("$ ").strip()
                if can_be_typed(line):
                    yield pytest.param(line, after, id=f"{page.name}: {line.partition('  ')[0]}")
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(r"`(recrun [^`]+\s[^`]+)`", text):
            line = " ".join(line.split()).replace(r"\|", "|")
            if can_be_typed(line):
                yield pytest.param(line, "", id=f"{page.name}, in a sentence: {line}")


def can_be_typed(line):
    """Whether a line is a command without anything to fill in."""
    return re.match(r"recrun( |$)", line) and not re.search(r"…|\.\.\.|VERB|KEY|=RUN|=N\b|\|", line.partition(" #")[0])


COMMANDS = [*commands()]
CAPTIONED = re.compile(r"^`(\S+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = dict(CAPTIONED.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with the files that docs/architecture.md shows."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recrun.config.validate.installed", lambda package: True)  # a tracker's may be absent
    return tmp_path


def fault(words):
    """What a run with these words is refused with; nothing if it is not."""
    try:
        check(compose(words))
    except ConfigError as error:
        return str(error)
    return ""


def test_there_is_something_to_test():
    assert len(COMMANDS) > 30
    assert {"mine.py", "conf/model/linear.yaml", "conf/split/every_nth.yaml"} <= FILES.keys()


@pytest.mark.parametrize(("line", "after"), COMMANDS)
def test_a_command_of_the_documentation_can_be_typed(line, after, project):
    words = shlex.split(line, comments=True)[1:]
    verb = words[0] if words and words[0] in VERBS else ""
    if not verb and after.startswith("error: "):
        assert fault(words) == after.removeprefix("error: ")
    elif verb in ("list", "explain"):
        (project / "outputs" / "multirun").mkdir(parents=True)
        assert cli.main(words) == 0
    elif "-m" in words:
        typed = [word for word in words if not word.startswith("-")]
        listed = [word for word in typed if not sweep.for_sweep(word)]
        with composer() as compose_one:
            searched = sweep.settings_of(typed, compose_one)["search"]
            for job in [] if searched else compose_one.jobs(listed):
                check(compose_one(job))
        if searched:
            search.checked(search.with_file(listed, searched.get("space"), search_path()), ())
    elif verb:
        options = [word for word in words if word.startswith("--")]
        assert not [option for option in options if option not in VERBS[verb]]
        assert not fault([word for word in words[1:] if re.match(r"~?[\w.]+=", word)])
    else:
        assert not fault([word for word in words if word not in LOOKS])


def known_keys():
    """The keys of every section, over all options of its group; of a trainer's nodes those too."""
    keys = {section: {"_target_"} for section in SECTIONS}
    for section in SECTIONS:
        for group in (section, *NODES.get(section, ())):
            for path in options(group, [conf_dir()]).values():
                keys[section].update(signature(target).fields if (target := target_in(path)) else ())
    for target in targets_in([conf_dir()]):
        if target.startswith("recrun.data"):  # source, filters, download
            keys["dataset"].update(signature(target).fields)
    keys["trainer"] |= {*signature("recrun.training.regularization.Regularization").fields, "follows"}
    return keys


KEYS = known_keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_key_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    spans = [*INLINE.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))]
    spans += [
        line for _, _, block in blocks(text) for line in block.splitlines() if "recrun " in line and "$" not in line
    ]
    own = {
        name for _, language, block in blocks(text) if language == "python" for name in re.findall(r"(\w+): \w", block)
    }
    unknown = []
    for section, name in (found for span in spans for found in KEY.findall(span)):
        parts = name.rstrip(".").split(".")
        if section == "stage":
            section, parts = "trainer", parts[1:]
        if parts and parts[0] in ("tasks", "sequences", "join", "share", "histories", "buckets", "part_lr", "weights"):
            parts = parts[:1]  # what is in it, the user names
        unknown += [f"{section}.{name}" for part in parts if part and part not in {*KEYS[section], *own, *FILE_ENDINGS}]
    assert not unknown


def test_what_the_architecture_page_adds_can_be_trained(project):
    """A model, a loss, a split and a metric, from outside the package."""
    source = [f"dataset.source.{key}" for key in ("n_users=60", "n_items=40", "n_interactions=900", "n_groups=4")]
    words = ["model=linear", "split=every_nth", "evaluator=with_novelty", "epochs=1", "threads=1", *source]
    results = train(*words, "evaluator.monitor=novelty@10", "evaluator.ks=[10]")
    assert 4 < results["test"]["novelty@10"] < 8  # bits; equal shares of 40 items would be log2(40) = 5.3
    assert results["monitor"] == "novelty@10"
