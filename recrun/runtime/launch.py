"""Starts and ends the other ranks of a run on this machine; see recrun.runtime.distributed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch.distributed import FileStore, Store  # type: ignore[attr-defined]  # exported at run time

from recrun.errors import RecrunError
from recrun.runtime.distributed import RankLost, group
from recrun.runtime.ranks import Ranks


@contextmanager
def started(size: int, device: torch.device, command: Sequence[str]) -> Iterator[Ranks]:
    """Starts ranks 1 to `size` - 1 and ends them afterwards, however that comes.

    Args:
        size: How many ranks, this one included, at least 2.
        device: This rank's.
        command: Arguments for Python; each rank gets `rank size meeting` after them and calls `joined` with them.

    Raises:
        RecrunError: One of them ended before its time.
    """
    with tempfile.TemporaryDirectory(prefix="recrun-") as private:  # which no other user can enter: no open port
        meeting = str(Path(private) / "meeting")
        store = FileStore(meeting)
        others = [Other.start([*command, str(rank), str(size), meeting], rank) for rank in range(1, size)]
        try:
            await_all(store, others)
            with group(store, 0, size, device) as ranks:
                yield ranks
        except RankLost as error:
            raise why_lost(others) or error from None
        finally:
            for other in others:
                other.end()


@contextmanager
def joined(rank: int, size: int, meeting: str, device: torch.device) -> Iterator[Ranks]:
    """Takes part as one of the ranks that `started` started, which meet in the file `meeting`."""
    store = FileStore(meeting)
    store.set(ready(rank), "yes")
    with group(store, rank, size, device) as ranks:
        yield ranks


@dataclass(frozen=True)
class Other:
    """Another rank's process, and what it says when it fails."""

    rank: int
    process: subprocess.Popen[bytes]
    words: IO[bytes]

    @classmethod
    def start(cls, arguments: Sequence[str], rank: int) -> Other:
        """Python in a session of its own, so that Ctrl-C reaches rank 0 alone."""
        words = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `end`
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],  # the working directory is not searched for modules
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            env=environment,
            start_new_session=True,
        )
        return cls(rank, process, words)

    def failure(self) -> str | None:
        """Why it ended, if it did not end well."""
        if self.process.poll() in (None, 0):
            return None
        self.words.seek(0)
        said = self.words.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return f"rank {self.rank} ended with exit code {self.process.returncode}: {said[-1]}"

    def end(self) -> None:
        """Ends it if it has not."""
        self.process.kill()
        self.process.wait()
        self.words.close()


def ready(rank: int) -> str:
    """The key under which a rank says that it can begin."""
    return f"rank {rank} is ready"


def await_all(store: Store, others: Sequence[Other]) -> None:
    """Waits until every rank has its data and model."""
    while not store.check([ready(other.rank) for other in others]):
        failures = [failure for other in others if (failure := other.failure())]
        if failures:
            raise RecrunError(failures[0])
        time.sleep(0.02)


def why_lost(others: Sequence[Other], seconds: float = 5.0) -> RecrunError | None:
    """The error of a rank that ended, as soon as it shows."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for other in others:
            if failure := other.failure():
                return RecrunError(f"{failure}. What was saved is whole: resume the run")
        time.sleep(0.05)
    return None
