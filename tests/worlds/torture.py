"""Faults of machines, put into a process of its own: killed, interrupted, out of disk, at a chosen file operation."""

import errno
import json
import os
import random
import resource
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from recrun import cli

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")
KINDS = ("kill", "kill", "kill later", "torn", "cut", "full", "broken", "interrupt", "terminate", "twice")
SECONDS = 120  # that a process may take, on a busy machine
VOLATILE = ("seconds", "samples_per_second", "train_seconds", "eval_seconds", "peak_memory_mb", "time")


@dataclass(frozen=True)
class Fault:
    """What happens, and where: at the n-th file operation, in some byte of a file, or after some milliseconds."""

    kind: str
    at: int

    def begin(self, base):
        """Puts the fault into this process; `base` is the folder whose files count."""
        if self.kind in ("torn", "cut"):
            limit = 1 + self.at * 37
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if self.kind == "torn" else signal.SIG_IGN)
        elif self.kind == "kill later":
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, at any instruction
            signal.setitimer(signal.ITIMER_REAL, 0.002 * (1 + self.at))
        else:
            sys.addaudithook(self.hook(str(base)))

    def hook(self, base):
        """Counts the operations on files below `base`, and acts."""
        count = 0

        def act(event, arguments):
            nonlocal count
            if not counts(event, arguments, base):
                return
            count += 1
            if count < self.at + 1:
                return
            writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if self.kind == "full" and writes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if count > self.at + 1 and not (self.kind == "twice" and count == self.at + 4):
                return
            match self.kind:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "broken":
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                case "interrupt" | "twice":
                    os.kill(os.getpid(), signal.SIGINT)
                case "terminate":
                    os.kill(os.getpid(), signal.SIGTERM)

        return act


def counts(event, arguments, base):
    """Whether something happens to a file below `base`, where the process is."""
    if event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
        return False
    path = str(arguments[0])
    return not path.startswith("/") or path.startswith(base)


def drawn(rng, operations):
    """A fault, of which some leave everything as it would have been: those that come after the end."""
    return Fault(rng.choice(KINDS), rng.randrange(max(operations, 1)))


def in_process(base, work, fault=None):
    """Runs something in a process of its own; returns its exit code, below 0 a signal's, and what it said."""
    return ended(*begun(base, work, fault))


def together(base, *works):
    """The same for some at once."""
    return [ended(*process) for process in [begun(base, work) for work in works]]


def begun(base, work, fault=None):
    """A process that does something, and what it says."""
    reading, writing = os.pipe()  # to which no limit of files applies
    os.set_blocking(writing, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside threads, which wait
        child = os.fork()
    if not child:
        code = 70
        try:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(writing, number)
                setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))
            if fault is not None:
                fault.begin(base / "files")
            code = work()
        except KeyboardInterrupt:
            code = 130
        except BaseException as error:
            os.write(2, f"Traceback of {error!r}".encode())
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child, reading):
    """How a process ended."""
    until = time.monotonic() + SECONDS
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError("a process hangs")
        time.sleep(0.003)
    with os.fdopen(reading, "rb") as said:
        return os.waitstatus_to_exitcode(found[1]), said.read().decode(errors="replace")


def command(base, *words):
    """A `recrun` command, in the folder of the files."""

    def work():
        os.chdir(base / "files")
        return cli.main([str(word) for word in words])

    return work


def operations(base, work):
    """How many file operations something has, and what it makes."""
    with (base / "count.txt").open("w") as file:

        def counted():
            seen = 0

            def note(event, arguments):
                nonlocal seen
                seen += counts(event, arguments, str(base / "files"))

            sys.addaudithook(note)
            code = work()
            file.write(str(seen))
            file.flush()
            return code

        code, said = in_process(base, counted)
    assert code == 0, said
    return int((base / "count.txt").read_text())


def outcome(directory):
    """What a run found, without times: the kept weights, rows, results and values of units."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.suffix == ".safetensors":
            found[name] = {key: (value.dtype.str, value.tobytes()) for key, value in load_file(path).items()}
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays.files}
        elif path.name == "metrics.jsonl":
            found[name] = [steady(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "results.json":
            found[name] = steady(json.loads(path.read_text()))
        elif path.parent.name == "vocabulary":
            found[name] = path.read_bytes()
    return found


def steady(value):
    """Values without those that differ from one time to the next."""
    if isinstance(value, dict):
        return {key: steady(part) for key, part in value.items() if key not in VOLATILE}
    return [steady(part) for part in value] if isinstance(value, list) else value


def told_in_one_line(code, said):
    """Whether a process that was not killed said how it ended."""
    return code < 0 or (code in (0, 1, 2, 130) and "Traceback" not in said)


def only(folder, name):
    """The directories that hold a file of some name."""
    return sorted(path.parent for path in Path(folder).rglob(name))


def generator(*seed):
    """Random choices that are the same each time."""
    return random.Random(repr(seed))
