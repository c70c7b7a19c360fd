"""YAML by libyaml holds what omegaconf's own reader and writer give."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from recrun.config import yaml_text
from recrun.config.search_path import conf_dir

FILES = sorted(conf_dir().rglob("*.yaml"))
WORDS = [
    *("1e-3", "1.", ".5", "0x1f", "0o17", "017", "1_000", "1:30", "yes", "no", "on", "off", "true", "null", "~"),
    *("2020-01-01", ".inf", ".nan", "-", "=", "<<", "a:b", ""),
]
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_reads_our_files_as_omegaconf_does(path):
    text = path.read_text(encoding="utf-8")
    assert (yaml_text.parse(text) or {}) == OmegaConf.to_container(OmegaConf.create(text))


@pytest.mark.parametrize("word", WORDS)
def test_reads_a_word_as_omegaconf_does(word):
    text = f"a: {word}"
    try:
        theirs = OmegaConf.to_container(OmegaConf.create(text))
    except Exception:
        with pytest.raises(yaml.YAMLError):
            yaml_text.parse(text)
        return
    assert str(yaml_text.parse(text)) == str(theirs)  # nan is not itself


@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=4))
def test_what_is_written_is_read_back(values):
    assert yaml_text.parse(yaml_text.to_text(values)) == values


def test_an_interpolation_stays():
    node = OmegaConf.create({"a": 1, "b": "${a}", "c": "1e-3", "d": 1e-3})
    assert yaml_text.to_text(node) == OmegaConf.to_yaml(node) == "a: 1\nb: ${a}\nc: '1e-3'\nd: 0.001\n"


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: {b: 1, b: 2}"])
def test_a_key_twice_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="duplicate key"):
        yaml_text.parse(text)
