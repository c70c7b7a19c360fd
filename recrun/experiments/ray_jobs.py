"""Jobs of a sweep as tasks of Ray."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from recrun.errors import ConfigError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.job_request import carry_out, died, job_request
from recrun.runtime.process import stop_signals

POLL_SECONDS = 0.2


class RayJobs:
    """See Workers.

    Args:
        capacity: How many jobs run at a time.
        address: Of a running cluster; None to start one on this machine.
        cpus, gpus: What a job takes.

    Raises:
        ConfigError: The cluster cannot be reached.
    """

    def __init__(self, capacity: int, address: str | None, cpus: float, gpus: float) -> None:
        ray: Any = importlib.import_module("ray")
        self.capacity, self.ray = capacity, ray
        own = {"num_cpus": max(1, round(capacity * cpus)), "include_dashboard": False} if address is None else {}
        path = os.pathsep.join(filter(None, sys.path))
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": str(max(1, int(cpus)))}},
                **own,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"launcher=ray: {' '.join(str(error).split())}") from None
        self.task = ray.remote(carry_out).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self.jobs: dict[Any, Path] = {}
        self.interrupted = False
        self.signals = ExitStack()
        self.stop = self.signals.enter_context(stop_signals())

    def submit(self, directory: Path) -> None:
        """See Workers."""
        self.jobs[self.task.remote(job_request(directory))] = directory

    def wait(self) -> tuple[Path, Outcome]:
        """See Workers. A signal to stop is handed on."""
        while True:
            if self.stop.is_set():
                self.interrupt()
            ready, _ = self.ray.wait([*self.jobs], timeout=POLL_SECONDS)
            if ready:
                directory = self.jobs.pop(ready[0])
                return directory, self.outcome(directory, ready[0])

    def outcome(self, directory: Path, job: Any) -> Outcome:
        """How a job ended: as it says, or why it said nothing."""
        try:
            return Outcome(**self.ray.get(job))
        except Exception as error:  # Ray has several, and passes on those of the job
            if self.interrupted:
                return Outcome(code=directories.INTERRUPTED)
            lines = str(error).splitlines() or [""]
            what = f"its task died: {type(error).__name__}: {lines[0]}"
        return died(directory, what)

    def interrupt(self) -> None:
        """See Workers. Ray interrupts the main thread of a task, at which a run saves and stops."""
        if self.interrupted:
            return
        self.interrupted = True
        for job in self.jobs:
            with suppress(Exception):
                self.ray.cancel(job, force=False)

    def close(self) -> None:
        """Cancels the tasks that are left, and ends the connection, or the cluster that was started here."""
        self.interrupt()
        self.signals.close()
        self.ray.shutdown()
