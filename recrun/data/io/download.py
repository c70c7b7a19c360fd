"""Public data sets on first use: resumed where it stopped, checked by its checksum, put in place in one step."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from recrun.errors import DataError

log = logging.getLogger("recrun")

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte


class Download(Protocol):
    """Where a file can be had."""

    def fetch(self, root: Path) -> Path:
        """Puts the file into the data folder and returns its path, or says in a DataError what to do."""


class Archive:
    """A zip file on the web and the files of it that are needed."""

    def __init__(self, url: str, md5: str, member: str, others: Sequence[str] = ()) -> None:
        """Sets up, without downloading.

        Args:
            url: Address of the zip file.
            md5: Checksum of the zip file, in hexadecimal, as its publisher gives it.
            member: Path of the wanted file in the zip file, and under the data folder.
            others: Of further files.
        """
        self.url, self.md5, self.member, self.others = url, md5, member, others

    def fetch(self, root: Path) -> Path:
        """Puts the file at `root / member`, and the others, if they are not there, and returns its path.

        An interrupted download is continued by the next call. Two processes may call this at the same time.

        Raises:
            DataError: It cannot be downloaded, written or trusted; says what to do by hand.
        """
        root = root.expanduser()
        target = root / self.member
        part = root / (Path(urlsplit(self.url).path).name + ".part")
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _locked(part.with_name(f".{part.stem}.lock")):
                if not all((root / member).is_file() for member in (self.member, *self.others)):
                    self._download(part, target)
                    self._verify(part)
                    for member in (*self.others, self.member):
                        self._extract(part, member, root / member)
                    part.unlink()
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error}); {self._by_hand(target)}") from None
        return target

    def _download(self, part: Path, target: Path) -> None:
        """Appends to `part` what is missing of it."""
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={have}-"} if have else {})
        log.info("downloading %s to %s%s", self.url, target, f", from byte {have}" if have else "")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
                with part.open("ab" if resumed else "wb") as file:
                    _copy(response, file, have if resumed else 0)
        except urllib.error.HTTPError as error:
            if not (have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):  # it is whole already
                raise self._failed(f"HTTP {error.code} {error.reason}", target) from None
        except urllib.error.URLError as error:
            raise self._failed(str(error.reason), target) from None
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise self._failed(f"{error or type(error).__name__}; run again to go on", target) from None

    def _verify(self, part: Path) -> None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != self.md5:
            part.unlink()
            raise DataError(
                f"{self.url}: the download has the MD5 checksum {found}, expected {self.md5}; it was removed. "
                "Run again; if it happens again, a proxy changes it or the publisher has replaced the file"
            )

    def _extract(self, part: Path, member: str, target: Path) -> None:
        """Writes a member beside its place, then moves it there: names in the archive are not trusted."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".part")
        try:
            with zipfile.ZipFile(part) as archive, archive.open(member) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, BLOCK)
        except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise DataError(f"{self.url}: not a zip file with {member} in it ({error})") from None
        temporary.replace(target)

    def _failed(self, reason: str, target: Path) -> DataError:
        return DataError(f"cannot download {self.url} ({reason}); {self._by_hand(target)}")

    def _by_hand(self, target: Path) -> str:
        wanted = " and ".join((self.member, *self.others))
        return (
            f"without a connection, get that file elsewhere, take {wanted} out of it and put it at "
            f"{target.absolute()}, or set dataset.root (or RECRUN_DATA) to the folder that holds {self.member}"
        )


class ByHand:
    """A file that only a person can get, behind a login or a licence to agree to."""

    def __init__(self, url: str, file: str, how: str) -> None:
        """Sets up.

        Args:
            url: Where the publisher gives the data.
            file: Path of the wanted file under the data folder.
            how: What to do with what is found there.
        """
        self.url, self.file, self.how = url, file, how

    def fetch(self, root: Path) -> Path:
        """Never fetches.

        Raises:
            DataError: Says where to get the file and where to put it.
        """
        target = (root.expanduser() / self.file).absolute()
        raise DataError(f"{target} does not exist and cannot be downloaded without you: see {self.url}. {self.how}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. The lock goes with the process; its empty file stays, since others may wait on it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(response: http.client.HTTPResponse, file: BinaryIO, have: int) -> None:
    """Copies to the end; says in the log at each tenth how far it is."""
    rest = response.length
    total = have + (rest or 0)
    shown = 0
    while block := response.read(BLOCK):
        file.write(block)
        have += len(block)
        if total and (tenth := 10 * have // total) > shown:
            shown = tenth
            log.info("%d %% of %.1f MB", 10 * tenth, total / 1e6)
    if rest is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")
