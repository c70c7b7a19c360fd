"""The life of a worker process of a sweep: run directories come in, outcomes go out, torch is imported once."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recrun.config import local_code, targets
from recrun.experiments import directories


def main(descriptor: int) -> None:
    """Runs the jobs that come over a socket until it is closed.

    A thread reads the socket, so that a worker whose sweep was killed saves its job and stops.
    """
    local_code.install()
    requests: queue.Queue[bytes] = queue.Queue()
    with socket.socket(fileno=descriptor) as line:
        threading.Thread(target=receive, args=(line, requests), daemon=True).start()
        with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
            while True:
                outcome = carry_out(json.loads(requests.get()))
                line.sendall(json.dumps(asdict(outcome)).encode() + b"\n")


def receive(line: socket.socket, requests: queue.Queue[bytes]) -> None:
    """Hands on the lines that come; at their end the main thread is interrupted."""
    with suppress(OSError), line.makefile("rb") as lines:
        for request in lines:
            requests.put(request)
    os.kill(os.getpid(), signal.SIGINT)


def carry_out(request: dict[str, Any]) -> directories.Outcome:
    """One job."""
    checked = frozenset((name, tuple(kinds)) for name, kinds in request["checked"])
    targets.grant(targets.Permission(frozenset(request["packages"]), request["local"], checked))
    return directories.attempt(Path(request["directory"]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
