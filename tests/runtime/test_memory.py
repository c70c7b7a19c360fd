"""The peak of memory is a run's own, also of the second run of a process."""

import subprocess
import sys

import pytest

from recrun.runtime import memory

SCRIPT = """
import torch
from recrun.runtime import memory
cpu = torch.device("cpu")
memory.begin_run(cpu)
large = torch.ones(50 * 2**20)  # 200 MiB
peaks = [memory.peak_memory_mb()]
del large
memory.begin_run(cpu)
small = torch.ones(5 * 2**20)
print(*peaks, memory.peak_memory_mb())
"""


@pytest.mark.skipif(not memory.RESET.exists(), reason="this system does not reset the peak")
def test_a_later_run_has_a_peak_of_its_own():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, second = map(float, done.stdout.split())
    assert 150 < first - second < 210


def test_without_the_file_the_peak_is_that_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert memory.peak_memory_mb() > 20
