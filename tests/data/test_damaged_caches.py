"""Prepared data whose files were damaged are made anew, with a warning, and are what they were."""

import logging
import shutil

import numpy as np
import pytest

from recrun.config.compose import compose
from recrun.experiments.build import build_dataset

EVENTS = ["model=popularity", "dataset=interactions", "split=random", "dataset.path=log.csv"]
TABLE = ["model=deepfm", "dataset=table", "dataset.path=table.csv", "dataset.sparse=[c]", "dataset.dense=[x]"]
TABLE += ["dataset.sequences={s: {separator: '|'}}", "dataset.tasks={y: classification}"]
NEWS = ["model=nrms", "dataset=synthetic_news", "dataset.source.n_news=60", "dataset.source.n_users=20"]
NEWS += ["dataset.source.n_impressions=60", "dataset.source.n_eval_impressions=20"]
KINDS = {"events": EVENTS, "table": TABLE, "news": NEWS}


@pytest.fixture(params=KINDS)
def prepared(request, tmp_path, monkeypatch):
    """Builds a data set with a cache, and says what it holds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"u{n % 9},i{n * 7 % 13}\n" for n in range(90)))
    rows = "".join(f"{n % 2},c{n % 3},{n},a{n % 4}|b\n" for n in range(60))
    (tmp_path / "table.csv").write_text("y,c,x,s\n" + rows)
    config = compose([*KINDS[request.param], f"dataset.cache={tmp_path / 'cache'}", "dataset.root=."]).config

    def build():
        dataset = build_dataset(config)
        batches = [*dataset.train_batches(16, np.random.default_rng(0)), *dataset.eval_batches("test", 16)]
        cells = [{name: value.tolist() for name, value in batch.items()} for batch in batches]
        return dict(dataset.fingerprints), cells

    return build


def damages(content, rng):
    """A byte flipped, in the middle and anywhere; cut; emptied."""
    for at in (len(content) // 2, int(rng.integers(len(content)))):
        yield content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
    yield content[: len(content) // 2]
    yield b""


def test_each_file_in_turn(prepared, tmp_path, caplog):
    cache, kept = tmp_path / "cache", tmp_path / "kept"
    whole = prepared()
    files = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.stat().st_size]
    assert files
    shutil.copytree(cache, kept)
    rng = np.random.default_rng(0)
    for path in files:
        content = path.read_bytes()
        for damaged in damages(content, rng):
            path.write_bytes(damaged)
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert prepared() == whole
            assert "made anew" in caplog.text, path
            shutil.rmtree(cache)
            shutil.copytree(kept, cache)
    assert prepared() == whole
