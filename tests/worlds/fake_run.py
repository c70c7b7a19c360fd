"""A run that only pretends."""

import json
import sys
from types import ModuleType

import pytest

from recrun import experiments
from recrun.errors import Interrupted


class FakeRun(ModuleType):
    """Stands for recrun.experiments.run and load: does what `ends` says and notes what it was asked for."""

    def __init__(self):
        super().__init__("recrun.experiments.run")
        self.ends = {}
        self.seen = []
        self.evaluated = None

    def execute(self, directory):
        self.seen.append(directory)
        assert (directory / "config.yaml").is_file()
        end = self.ends.get(len(self.seen) - 1, self.ends.get("all"))
        status = {None: "finished", Interrupted: "interrupted"}.get(type(end) if end else None, "failed")
        (directory / "run.json").write_text(json.dumps({"status": status, "start": "2030-01-02T03:04:05"}))
        if end:
            raise end
        results = {"test": {"ndcg@100": 0.1 * len(self.seen)}, "valid": {}, "stages": {}}
        results |= {"monitor": "ndcg@100", "greater_is_better": True, "unit": "users", "peak_memory_mb": 1.0}
        (directory / "results.json").write_text(json.dumps(results))
        return results

    def evaluate(self, directory, config):
        self.evaluated = directory, config
        return {"stage": "finetune", "epoch": 3, "valid": {"ndcg@10": 0.5}, "test": {"ndcg@10": 0.25}}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An empty working directory and a pretended run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    fake = FakeRun()
    monkeypatch.setitem(sys.modules, "recrun.experiments.run", fake)
    monkeypatch.setattr(experiments, "run", fake, raising=False)
    monkeypatch.setitem(sys.modules, "recrun.experiments.load", fake)
    monkeypatch.setattr(experiments, "load", fake, raising=False)
    return fake
