"""What a run imports: large packages only where they are used."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from recrun.cli import main
assert main(sys.argv[1:]) == 0
packages = {".".join(name.split(".")[:2]) if name.startswith("torch.") else name.split(".")[0] for name in sys.modules}
print(*sorted(packages & {"torch._dynamo", "torch._inductor", "sympy", "pandas", "scipy", "pyarrow"}))
"""
LOG = ["dataset.source.n_users=60", "dataset.source.n_items=30", "dataset.source.n_interactions=600"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["model=mult_vae", *LOG, "scheduler=cosine"], id="adam"),
        pytest.param(["model=mult_vae", *LOG, "optimizer=sgd", "trainer.clip_norm=1"], id="sgd"),
        pytest.param(["model=deepfm", "dataset.source.n_rows=2000"], id="row_adam"),
        pytest.param(["model=nrms", "model.word_emb_dim=8", "model.head_num=2", "model.head_dim=4"], id="news"),
    ],
)
def test_a_run_of_generated_data_imports_neither_the_compiler_nor_readers_of_files(words, tmp_path):
    limits = ["step_limit=2", "epochs=1", "eval_limit=1", "device=cpu", "threads=1", f"output_dir={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words, *limits], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
