"""Jobs of a sweep on Slurm, or in processes that submitit starts on this machine."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from recrun.errors import ConfigError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.job_request import carry_out, died, job_request
from recrun.runtime.process import stop_signals

POLL_SECONDS = {"local": 0.2, "slurm": 5.0}


class SubmititJobs:
    """See Workers.

    Args:
        capacity: How many jobs are submitted at a time.
        folder: For submitit's files.
        cluster: `slurm`, `local`, or None for Slurm where there is one.
        parameters: Of submitit.

    Raises:
        ConfigError: There is no such cluster, or it has no such parameter.
    """

    def __init__(self, capacity: int, folder: str, cluster: str | None, parameters: Mapping[str, Any]) -> None:
        submitit: Any = importlib.import_module("submitit")
        self.capacity = capacity
        try:
            self.executor = submitit.AutoExecutor(Path(folder).absolute(), cluster=cluster)
            self.executor.update_parameters(name="recrun", **parameters)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise ConfigError(f"launcher=submitit: {' '.join(str(error).split())}") from None
        self.jobs: dict[Path, Any] = {}
        self.interrupted = False
        self.signals = ExitStack()
        self.stop = self.signals.enter_context(stop_signals())

    def submit(self, directory: Path) -> None:
        """See Workers."""
        self.jobs[directory] = self.executor.submit(carry_out, job_request(directory))

    def wait(self) -> tuple[Path, Outcome]:
        """See Workers. A signal to stop is handed on."""
        while True:
            if self.stop.is_set():
                self.interrupt()
            for directory, job in self.jobs.items():
                if job.done():
                    del self.jobs[directory]
                    return directory, self.outcome(directory, job)
            time.sleep(POLL_SECONDS.get(self.executor.cluster, 1.0))

    def outcome(self, directory: Path, job: Any) -> Outcome:
        """How a job ended: as it says, or why it said nothing."""
        try:
            return Outcome(**job.result())
        except Exception as error:  # submitit has several, and passes on those of the job
            if self.interrupted:
                return Outcome(code=directories.INTERRUPTED)
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            what = f"its job {job.job_id} died: {lines[-1].strip()} (its log: {job.paths.stderr})"
        return died(directory, what)

    def interrupt(self) -> None:
        """See Workers. Slurm, like this, sends SIGTERM, at which a run saves and stops."""
        if self.interrupted:
            return
        self.interrupted = True
        for job in self.jobs.values():
            if self.executor.cluster == "local":
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)
            else:
                job.cancel()

    def close(self) -> None:
        """Cancels the jobs that are left."""
        self.interrupt()
        self.signals.close()
