"""What a process does around a run: holds its directory, keeps its log, hears the signals to stop, tidies up less."""

from __future__ import annotations

import fcntl
import gc
import io
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from recrun.console import report
from recrun.errors import InUse, RecrunError
from recrun.runtime.run_files import open_plain


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds a run directory; a second process that wants it is refused."""
    with open_plain(directory / ".lock", os.O_RDWR | os.O_CREAT) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUse(f"{directory} is being run by another process") from None
        yield


def held(directory: Path) -> bool:
    """Whether a process holds a run directory; one that was killed does not."""
    try:
        with open_plain(directory / ".lock", os.O_RDONLY) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, RecrunError):
        return False
    except OSError:
        return True
    return False


class TerminalHandler(logging.Handler):
    """Shows log records on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """One note."""
        report.note(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def log_file(directory: Path) -> Iterator[None]:
    """Sends the log of everything under `recrun` to recrun.log, and its warnings to the terminal as well."""
    stream = io.TextIOWrapper(
        open_plain(directory / "recrun.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), encoding="utf-8", errors="replace"
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("recrun")
    terminal = TerminalHandler(logging.WARNING)
    logger.addHandler(handler)
    logger.addHandler(terminal)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(terminal)
        logger.removeHandler(handler)
        handler.close()
        stream.close()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM asks the run to stop after its step; a second one stops it at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Deadline:
    """When a time limit is over.

    Args:
        seconds: From now on; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.end = math.inf if seconds is None else time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.end


@contextmanager
def settled() -> Iterator[None]:
    """Spares the garbage collector what exists already; else it looks once through all of torch, for a tenth second."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
