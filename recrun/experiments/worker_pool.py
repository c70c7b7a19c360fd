"""Worker processes of a sweep on this machine: one imports torch, the others are forked from it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from recrun.experiments import directories
from recrun.experiments.directories import Outcome
from recrun.experiments.job_request import died, job_request
from recrun.runtime.process import stop_signals

POLL_SECONDS = 0.2  # how often a wait for workers looks for a signal to stop


class Pool:
    """As many worker processes as there are environments; see Workers.

    They begin to import torch at once, so that they are ready when the jobs are.

    Args:
        environments: Variables of each worker, besides those of this process.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self.capacity = len(environments)
        self.idle: list[Worker] = start_workers(environments)
        self.origins = {worker.origin for worker in self.idle}
        self.busy: dict[Worker, Path] = {}
        self.interrupted = False
        self.signals = ExitStack()
        self.stop: Any = None

    def submit(self, directory: Path) -> None:
        """See Workers. From the first job on Ctrl-C is handed on to the workers."""
        if self.stop is None:
            self.stop = self.signals.enter_context(stop_signals())
        worker = self.idle.pop(0)
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
        """How a job ended: as its worker says, or with the worker's death, after which another takes its place."""
        reply = worker.reply()
        if isinstance(reply, Outcome):
            self.idle.append(worker)
            return reply
        worker.close()
        self.idle += start_workers([worker.environment])
        self.origins.add(self.idle[-1].origin)
        if self.interrupted:
            return Outcome(code=directories.INTERRUPTED)
        return died(directory, reply)

    def interrupt(self) -> None:
        """See Workers."""
        if not self.interrupted:
            self.interrupted = True
            for worker in self.busy:
                with suppress(OSError):
                    worker.interrupt()

    def close(self) -> None:
        """Ends all workers; one that still has a job is killed, and its job can be resumed from its last checkpoint."""
        self.signals.close()
        for worker in (*self.idle, *self.busy):
            worker.close()
        for process in self.origins:
            end(process, at_once=bool(self.busy))


@dataclass(frozen=True, eq=False)
class Worker:
    """A process that runs the run directories that it is sent; see recrun.experiments.job_process.

    Attributes:
        origin: The process that it was forked from, which says how it died.
        environment: Its variables besides those of this process.
        line: A socket with a JSON object per line: a request here, an Outcome back.
        replies: The lines that come back.
        words: What it writes to stderr.
    """

    origin: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    line: socket.socket
    replies: IO[bytes]
    words: IO[bytes]

    def fileno(self) -> int:
        """For `select`."""
        return self.line.fileno()

    def send(self, directory: Path) -> None:
        """Sends a job, and what the configs of run directories may name in this process."""
        self.line.sendall(json.dumps(job_request(directory)).encode() + b"\n")

    def interrupt(self) -> None:
        """Asks for the end of its job, which is saved."""
        self.line.sendall(b'{"interrupt": true}\n')

    def reply(self) -> Outcome | str:
        """How the job ended; in words how the process died, if it did."""
        try:
            values: dict[str, Any] = json.loads(self.replies.readline())
        except (OSError, ValueError):
            values = {"died": self.origin.wait() if self.origin.poll() is not None else 1}
        if "died" not in values:
            return Outcome(**values)
        self.words.seek(0)
        said = self.words.read().decode(errors="replace").strip().splitlines()
        return f"its worker process died ({how(values['died'])}){f': {said[-1]}' if said else ''}"

    def close(self) -> None:
        """Closes the socket, which tells the process to end."""
        self.replies.close()
        self.line.close()
        self.words.close()


def start_workers(environments: Sequence[Mapping[str, str]]) -> list[Worker]:
    """Starts a process that forks a worker for each environment, in a session of its own: Ctrl-C does not reach it."""
    pairs = [socket.socketpair() for _ in environments]
    words = [tempfile.TemporaryFile() for _ in environments]  # noqa: SIM115  # closed with the worker
    workers: list[dict[str, Any]] = [
        {"line": theirs.fileno(), "words": file.fileno(), "environment": dict(environment)}
        for (_, theirs), file, environment in zip(pairs, words, environments, strict=True)
    ]
    origin = subprocess.Popen(
        [sys.executable, "-P", "-m", "recrun.experiments.job_process", json.dumps(workers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=words[0],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environments[0]},
        pass_fds=[worker[name] for worker in workers for name in ("line", "words")],
        start_new_session=True,
    )
    found = []
    for (ours, theirs), file, environment in zip(pairs, words, environments, strict=True):
        theirs.close()
        found.append(Worker(origin, environment, ours, ours.makefile("rb"), file))
    return found


def end(origin: subprocess.Popen[bytes], at_once: bool) -> None:
    """Ends the process that workers were forked from, and with it those that are left."""
    try:
        origin.wait(timeout=0 if at_once else 10)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(origin.pid, signal.SIGKILL)  # the session that it leads
        origin.wait()


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    killed = " by signal SIGKILL, perhaps because memory ran out" if code == -signal.SIGKILL else ""
    return f"killed{killed or f' by signal {signal.Signals(-code).name}'}"
