"""Every key of the config has a sentence: in a docstring, or in a comment beside it."""

import re

import pytest
import yaml

from recrun.config import docs
from recrun.config.composition import Settings
from recrun.config.schema import signature
from recrun.config.search_path import GROUPS, conf_dir, options, targets_in
from recrun.config.validate import GIVEN

FILES = [path for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]
OURS = sorted(target for target in targets_in([conf_dir()]) if target.startswith("recrun."))
GIVEN_BY_PROGRAM = {name for names in GIVEN.values() for name in names}


def comments(path):
    """The keys of a YAML file that have a comment on their line, by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {found[1] for line in lines if (found := re.match(r"\s*(\w+):[^#]*#\s*\S", line))}


def nodes(value):
    """The nodes of a YAML file that name a class."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for inner in value.values():
            yield from nodes(inner)


@pytest.mark.parametrize("target", OURS)
def test_a_key_of_one_of_our_classes_has_a_sentence(target):
    said = docs.sentences(target)
    keys = [field.name for field in signature(target).fields.values() if not field.from_data]
    silent = [name for name in keys if name not in GIVEN_BY_PROGRAM and not said.get(name, "").strip()]
    assert not silent


@pytest.mark.parametrize("target", OURS)
def test_a_sentence_does_not_only_name_another_place(target):
    for name, sentence in docs.sentences(target).items():
        assert not re.fullmatch(r"See [`\w. ]+\.", sentence), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_key_of_a_class_of_torch_has_a_comment(path):
    theirs = [node for node in nodes(yaml.safe_load(path.read_text(encoding="utf-8"))) if "torch" in node["_target_"]]
    keys = {key for node in theirs if not node["_target_"].startswith("recrun.") for key in node}
    assert keys - {"_target_", "_partial_"} <= comments(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_option_says_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    about = [line for line in lines[:2] if line.startswith("# ") and not line.startswith("# @package")]
    assert about, "the first line, or the one after # @package, is what `recrun list` shows"


def test_a_key_at_the_top_has_a_comment():
    assert set(Settings.__dataclass_fields__) <= comments(conf_dir() / "config.yaml")


@pytest.mark.parametrize("group", GROUPS)
def test_the_readme_names_every_option(group):
    named = set(re.findall(r"`(\w+)`", (conf_dir().parent / "README.md").read_text(encoding="utf-8")))
    assert set(options(group, [conf_dir()])) - named <= {
        "mind_demo",
        "mind_small",
        "mind_large",
    }  # "mind and its sizes"
