"""The life of the worker processes of a sweep: torch is imported once, then a process is forked for each worker, to
which run directories come and from which outcomes go."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from recrun.config import local_code
from recrun.experiments.job_request import carry_out


def main(workers: Sequence[Mapping[str, Any]]) -> None:
    """Forks the workers and says of each that dies how it did.

    Args:
        workers: Of each the descriptors of its socket, `line`, and of its stderr, `words`, and its `environment`.
    """
    local_code.install()
    load()
    lines: dict[int, int] = {}
    for worker in workers:
        pid = fork()
        if pid == 0:
            for other in workers:
                if other is not worker:
                    os.close(other["line"])
            os.dup2(worker["words"], 2)
            os.environ.update(worker["environment"])
            serve(worker["line"])
            os._exit(0)
        lines[pid] = worker["line"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while lines:
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        with socket.socket(fileno=lines.pop(pid)) as line, suppress(OSError):
            if code:
                line.sendall(json.dumps({"died": code}).encode() + b"\n")


def load() -> None:
    """Imports what every run needs. Nothing is computed: threads of this process would not be in those forked."""
    import recrun.experiments.run  # noqa: F401


def fork() -> int:
    """os.fork, without Python's warning of threads: those of the numeric libraries start anew after a fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def serve(descriptor: int) -> None:
    """Runs the jobs that come over a socket until it is closed.

    A thread reads the socket, so that a worker whose sweep was killed saves its job and stops.
    """
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    with socket.socket(fileno=descriptor) as line:
        threading.Thread(target=receive, args=(line, requests), daemon=True).start()
        with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
            while True:
                outcome = carry_out(requests.get())
                line.sendall(json.dumps(outcome).encode() + b"\n")


def receive(line: socket.socket, requests: queue.Queue[dict[str, Any]]) -> None:
    """Hands on the jobs that come; at their end, and where it is asked for, the main thread is interrupted."""
    with suppress(OSError), line.makefile("rb") as lines:
        for text in lines:
            request = json.loads(text)
            if "interrupt" in request:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                requests.put(request)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
