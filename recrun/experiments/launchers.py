"""What runs the jobs of a sweep: this process, or several worker processes on this machine."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from recrun.config import targets
from recrun.errors import ConfigError, RecrunError
from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.run_record import RunRecord, now
from recrun.runtime.process import stop_signals
from recrun.types import Count

POLL_SECONDS = 0.2  # how often a wait for workers looks for a signal to stop


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
    """Worker processes on this machine. Each imports torch once and then runs one job after another.

    Attributes:
        workers: How many processes. Each computes with cores / workers threads, unless `threads` is set.
    """

    workers: Count | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise ConfigError(f"launcher.workers={self.workers}: expected a whole number >= 1 or null")

    @contextmanager
    def started(self) -> Iterator[Workers]:
        """A pool of processes, which end with the block, however that comes."""
        cores = len(os.sched_getaffinity(0))
        count = self.workers or max(1, cores // 2)
        with stop_signals() as stop:
            pool = Pool(count, max(1, cores // count), stop)
            try:
                yield pool
            finally:
                pool.close()


class Pool:
    """Worker processes: started when there is a job for them, and kept for the next one."""

    def __init__(self, capacity: int, threads: int, stop: threading.Event) -> None:
        self.capacity, self.threads, self.stop = capacity, threads, stop
        self.idle: list[Worker] = []
        self.busy: dict[Worker, Path] = {}
        self.interrupted = False

    def submit(self, directory: Path) -> None:
        """See Workers."""
        worker = self.idle.pop() if self.idle else Worker.start(self.threads)
        self.busy[worker] = directory
        with suppress(OSError):  # it died meanwhile: `wait` will see it
            worker.send(directory)

    def wait(self) -> tuple[Path, Outcome]:
        """See Workers. A signal to stop is handed on to the workers; a second one ends them."""
        while True:
            if self.stop.is_set():
                self.interrupt()
            ready, _, _ = select.select([*self.busy], [], [], POLL_SECONDS)
            if ready:
                worker: Worker = ready[0]
                directory = self.busy.pop(worker)
                return directory, self.outcome(worker, directory)

    def outcome(self, worker: Worker, directory: Path) -> Outcome:
        """How a job ended: as its worker says, or with the worker's death."""
        reply = worker.reply()
        if reply is not None:
            self.idle.append(worker)
            return reply
        why = worker.end()
        if self.interrupted:
            return Outcome(code=directories.INTERRUPTED)
        mark_failed(directory, why)
        return Outcome(error=why, code=1)

    def interrupt(self) -> None:
        """See Workers."""
        if not self.interrupted:
            self.interrupted = True
            for worker in self.busy:
                worker.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Ends all workers; one that still has a job is killed, and its job can be resumed from its last checkpoint."""
        for worker in (*self.idle, *self.busy):
            worker.end(kill=worker in self.busy)


@dataclass(frozen=True, eq=False)
class Worker:
    """A process that runs the run directories that it is sent; see recrun.experiments.job_process.

    Attributes:
        process: The process.
        line: A socket with a JSON object per line: a request here, an Outcome back.
        replies: The lines that come back.
        words: What it writes to stderr.
    """

    process: subprocess.Popen[bytes]
    line: socket.socket
    replies: IO[bytes]
    words: IO[bytes]

    @classmethod
    def start(cls, threads: int) -> Worker:
        """A process in a session of its own, so that Ctrl-C reaches this process alone."""
        ours, theirs = socket.socketpair()
        words = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `end`
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        }
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "recrun.experiments.job_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(process, ours, ours.makefile("rb"), words)

    def fileno(self) -> int:
        """For `select`."""
        return self.line.fileno()

    def send(self, directory: Path) -> None:
        """Sends a job, and what the configs of run directories may name in this process."""
        allowed = targets.granted()
        request = {
            "directory": str(directory),
            "packages": sorted(allowed.packages),
            "local": allowed.local,
            "checked": sorted(allowed.checked),
        }
        self.line.sendall(json.dumps(request).encode() + b"\n")

    def reply(self) -> Outcome | None:
        """How the job ended; None if the process died."""
        try:
            text = self.replies.readline()
            values: dict[str, Any] = json.loads(text)
            return Outcome(**values)
        except (OSError, ValueError):
            return None

    def end(self, kill: bool = False) -> str:
        """Ends the process; says how it died, if it did so by itself."""
        self.replies.close()
        self.line.close()  # which tells it to end
        if kill:
            self.process.kill()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.words.seek(0)
        said = self.words.read().decode(errors="replace").strip().splitlines()
        self.words.close()
        return f"its worker process died ({how(self.process.returncode)}){f': {said[-1]}' if said else ''}"


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    killed = " by signal SIGKILL, perhaps because memory ran out" if code == -signal.SIGKILL else ""
    return f"killed{killed or f' by signal {signal.Signals(-code).name}'}"


def mark_failed(directory: Path, error: str) -> None:
    """Writes into run.json that a run failed, where its process could not do so itself."""
    with suppress(OSError, RecrunError):
        record = RunRecord(directory)
        if record.values.get("status") == "running":
            record.update(status="failed", end=now(), error=error)
