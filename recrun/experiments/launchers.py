"""What runs the jobs of a sweep: this process, worker processes on this machine, a cluster of Slurm's or of Ray's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from recrun.errors import ConfigError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.runtime import gpus
from recrun.types import Count, Index, NonNegative, Positive


class Workers(Protocol):
    """Runs prepared run directories, at most `capacity` at a time."""

    @property
    def capacity(self) -> int:
        """How many jobs run at the same time."""

    def submit(self, directory: Path) -> None:
        """Starts a job; there must be room for it."""

    def wait(self) -> tuple[Path, Outcome]:
        """The next job that ends, and how; at least one must be running."""

    def interrupt(self) -> None:
        """Asks all running jobs to save their state and stop."""


class Launcher(Protocol):
    """Option of the group `launcher`."""

    def started(self) -> AbstractContextManager[Workers]:
        """Workers for as long as the block lasts."""


@dataclass(frozen=True)
class Serial:
    """One job after another in this process."""

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """The process itself."""
        yield InProcess()


class InProcess:
    """Runs a job when it is waited for."""

    capacity = 1

    def __init__(self) -> None:
        self.jobs: list[Path] = []

    def submit(self, directory: Path) -> None:
        """See Workers."""
        self.jobs.append(directory)

    def wait(self) -> tuple[Path, Outcome]:
        """See Workers."""
        directory = self.jobs.pop(0)
        return directory, directories.attempt(directory)

    def interrupt(self) -> None:
        """Nothing runs between two calls of `wait`."""


@dataclass(frozen=True)
class Local:
    """Worker processes on this machine. Torch is imported once, and each runs one job after another.

    Attributes:
        workers: How many processes. Each computes with cores / workers threads, unless `threads` is set.
        gpu_per_worker: Whether, of several GPUs, each worker sees one alone; for jobs with devices=N, false.
    """

    workers: Count | None = None
    gpu_per_worker: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise ConfigError(f"launcher.workers={self.workers}: expected a whole number >= 1 or null")

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """A pool of processes, which end with the block, however that comes."""
        from recrun.experiments.worker_pool import Pool

        pool = Pool(self.environments(len(os.sched_getaffinity(0)), gpus.visible()))
        try:
            yield pool
        finally:
            pool.close()

    def environments(self, cores: int, visible: list[str]) -> list[dict[str, str]]:
        """Variables of each worker: its threads and, where there are several GPUs, its own."""
        each = len(visible) if len(visible) > 1 and self.gpu_per_worker else 0
        count = self.workers or each or max(1, cores // 2)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))
        own = [{"CUDA_VISIBLE_DEVICES": visible[number % each]} if each else {} for number in range(count)]
        return [{"OMP_NUM_THREADS": threads, **gpu} for gpu in own]


@dataclass(frozen=True)
class Submitit:
    """Jobs of Slurm, each in a process of its own (pip install "recrun[submitit]").

    Attributes:
        workers: How many jobs are submitted at a time.
        cluster: `slurm`, or `local` for processes on this machine; null = Slurm where there is one.
        folder: For submitit's files; the machines of the cluster must share it, and the run directories.
        minutes: Longest time of a job, after which Slurm kills it; with a shorter `time_limit` it saves before.
        cpus: Processors of a job.
        gpus: GPUs of a job.
        memory_gb: Memory of a job; null = the cluster's default.
        partition: Slurm's; null = the default one.
        more: Further parameters of submitit by name, for example slurm_account.
    """

    package: ClassVar[str] = "submitit"

    workers: Count = 8
    cluster: Literal["slurm", "local"] | None = None
    folder: str = ".submitit"
    minutes: Count = 60
    cpus: Count = 1
    gpus: Index = 0
    memory_gb: Positive | None = None
    partition: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """An executor of submitit; jobs that are left when the block ends are cancelled."""
        from recrun.experiments.submitit_jobs import SubmititJobs

        wanted = {
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus,
            "mem_gb": self.memory_gb,
            "slurm_partition": self.partition,
            **self.more,
        }
        parameters = {name: value for name, value in wanted.items() if value is not None}
        jobs = SubmititJobs(self.workers, self.folder, self.cluster, parameters)
        try:
            yield jobs
        finally:
            jobs.close()


@dataclass(frozen=True)
class Ray:
    """Tasks of Ray, on this machine or on a cluster (pip install "recrun[ray]"); its processes import torch once.

    Attributes:
        workers: How many jobs run at a time; on this machine also how many processors Ray is started with.
        address: Of a cluster that is running, `auto` for the one of this machine; null = one is started here.
        cpus: Processors that a job takes, and its threads unless `threads` is set.
        gpus: GPUs that a job takes; a share such as 0.5 lets two jobs have one together.
    """

    package: ClassVar[str] = "ray"

    workers: Count = 2
    address: str | None = None
    cpus: Positive = 1.0
    gpus: NonNegative = 0.0

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """A connection to Ray; tasks that are left when the block ends are cancelled."""
        from recrun.experiments.ray_jobs import RayJobs

        jobs = RayJobs(self.workers, self.address, self.cpus, self.gpus)
        try:
            yield jobs
        finally:
            jobs.close()
