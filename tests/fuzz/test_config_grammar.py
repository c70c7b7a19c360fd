"""Words of a command line and YAML files of all sorts: composed, or refused in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds.fuzzing import damaged, fuzzed, one_line_or_fine

from recrun.config import stored
from recrun.config.compose import compose, conf_dir
from recrun.config.validate import check

TEXT = """model dataset split loader evaluator trainer objective optimizer stage experiment tracker seed epochs devices
plugins trainer.lr trainer.batch_size model.latent_dimension dataset.path split.seed dataset.source.n_users a.b -m ~
dataset.filters.repeats evaluator.ks stage.train model.mlp_hidden_size dataset.tasks.a hydra.run.dir output_dir"""
KEYS = [*TEXT.split(), "pre_model_path", ""]
TEXT = """mult_vae ease sasrec deepfm ml_100k synthetic_sessions table random train [train] x 1 -1 0 1e3 1e400 nan null
true [1,2] [] {} a,b glob(*) range(3)
tag(a,b) interval(0,1) _ ${seed} ${x ${oc.env:HOME} ${model} 'a " ../x = a=b [ ]"""
ODD = ["a b", "é\u2028", "\x1b[2J", "\0", "{", "x" * 5000, "[" * 50 + "]" * 50, "{a: 1}", "{a: {b: [c]}}", ""]
VALUES = [*TEXT.split(), *ODD]

WORDS = st.builds(
    lambda sign, key, equals, value: f"{sign}{key}{equals}{value}",
    st.sampled_from(["", "", "", "", "+", "++", "~", " "]),
    st.sampled_from(KEYS) | st.text(max_size=4),
    st.sampled_from(["=", "=", "=", "=", "", ":", "=="]),
    st.sampled_from(VALUES) | st.text(max_size=5),
)


@fuzzed(15, share=0.05)
@given(st.lists(WORDS, max_size=4))
def test_words(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    with one_line_or_fine():
        check(compose(words))


@pytest.mark.parametrize("name", ["model/mult_vae.yaml", "dataset/_events.yaml", "experiment/ract_ml100k.yaml"])
@fuzzed(3, share=0.02)
@given(st.data())
def test_yaml_files_of_ones_own(tmp_path, monkeypatch, name, data):
    monkeypatch.chdir(tmp_path)
    content = data.draw(damaged((conf_dir() / name).read_bytes()))
    group, _, file = name.partition("/")
    folder = tmp_path / "conf" / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"my_{file.strip('_')}").write_bytes(content)
    with one_line_or_fine(len(content)):
        check(compose([f"{group}=my_{file.strip('_').removesuffix('.yaml')}"]))


CONFIG = b"""seed: 0
model: {_target_: recrun.models.autoencoder.MultVAE, mlp_hidden_size: [6], latent_dimension: &a 3}
dataset: {_target_: recrun.data.event_dataset.EventDataset, path: x.csv, cache: null, root: '${oc.env:HOME}'}
trainer: {_target_: recrun.training.trainer.Trainer, lr: 0.001, epochs: *a}
stage: {train: {}}
"""


@fuzzed(40, share=0.1)
@given(st.data())
def test_configs_of_run_directories(tmp_path, data):
    content = data.draw(damaged(CONFIG))
    (tmp_path / "config.yaml").write_bytes(content)
    with one_line_or_fine(len(content)):
        stored.refuse_untrusted(stored.load(tmp_path))
