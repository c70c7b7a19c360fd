"""Damaged files and odd words, and what whoever reads them must do: read them, or say in one line why not."""

import os
import resource
import signal
import sys
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from recrun.errors import RecrunError

SECONDS = 5.0  # of the processor, that any case may take; twelve times as many by the clock, on a busy machine
MEMORY_FACTOR, MEMORY_FLOOR = 20, 48 << 20  # of a file's size, and bytes that any file may need, added to the peak


def fuzzed(cases, share=1.0):
    """Settings for a test of `cases` cases; `make fuzz` gives RECRUN_FUZZ, the number that all tests have together."""
    wanted = int(float(os.environ.get("RECRUN_FUZZ", 0)) * share)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=wanted or cases, deadline=None, derandomize=not wanted, suppress_health_check=checks)


@st.composite
def damaged(draw, content):
    """Bytes with some flipped, taken out, repeated or put in; or cut."""
    found = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        match draw(st.sampled_from(["flip", "out", "again", "in", "cut", "number"])):
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "out":
                del found[at : at + draw(st.integers(1, 9))]
            case "again":
                found[at:at] = found[at : at + draw(st.integers(1, 40))]
            case "in":
                found[at:at] = draw(st.sampled_from(SIGNS))
            case "cut":
                del found[at:]
            case "number":
                found[at:at] = draw(st.sampled_from(NUMBERS))
    return bytes(found)


SIGNS = [b'"', b"'", b"\0", b"\r", b"\n", b"\r\n", b"\t", b",", b"::", b"|", b";", b" ", b"\xff", b"\xc3"]
SIGNS += [
    b"\xef\xbb\xbf",
    "\u2028".encode(),
    b"\x85",
    b"\x1c",
    b"\x1a",
    b"#",
    b"\\",
    b"{",
    b"[",
    b"${",
    b"=",
    b"\x1b[2J",
    b"PK\x03\x04",
]
NUMBERS = [b"nan", b"inf", b"-0", b"007", b"1e400", b"9" * 30, b"0x1f", b"1_000", b"-", b"+", b"1e", b"true", b"None"]


@contextmanager
def one_line_or_fine(size=0):
    """What is in it ends, in time and memory, or raises an error of one line for the user.

    Args:
        size: Bytes of the file that is read.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = {number: signal.signal(number, too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)
    try:
        yield
    except RecrunError as error:
        text = str(error)
        assert text
        assert "\n" not in text.strip() or len(text.splitlines()) <= 2, text
        assert "Traceback" not in text
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit <= max(MEMORY_FLOOR, MEMORY_FACTOR * size)


def too_long(number, frame):
    raise AssertionError(f"a case takes more than {SECONDS} seconds")
