"""The bytes of a file: decompressed, behind a byte order mark, in blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recrun.data.io.files import compression
from recrun.errors import DataError

BLOCK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
MAGIC = {
    b"\x1f\x8b": "gzip (.gz)",
    b"\xfd7zXZ\0": "xz (.xz)",
    b"PK\x03\x04": "a zip archive (.zip, .npz, .xlsx)",
    b"\x28\xb5\x2f\xfd": "zstandard (.zst), which is not read",
    b"PAR1": "Parquet (.parquet)",
}
MAGIC_BYTES = 6


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file.

    Raises:
        DataError: It cannot be read, or is not compressed as its ending says.
    """
    try:
        with path.open("rb") as file:
            stream = io.BufferedReader(_plain(path, file), BLOCK_BYTES)
            _refuse_binary(path, stream.peek(MAGIC_BYTES)[:MAGIC_BYTES])
            if stream.peek(len(BOM))[: len(BOM)] == BOM:
                stream.read(len(BOM))
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise _broken(path, error) from None
    except OSError as error:
        if compression(path) and error.errno is None:  # what bz2 raises
            raise _broken(path, error) from None
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _plain(path: Path, file: Any) -> Any:
    kind = compression(path)
    if kind == ".gz":
        return gzip.GzipFile(fileobj=file)
    if kind == ".bz2":
        return bz2.BZ2File(file)
    if kind == ".xz":
        return lzma.LZMAFile(file)
    if kind == ".zip":
        archive = zipfile.ZipFile(file)
        members = [info for info in archive.infolist() if not info.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: {len(members)} files in the archive, expected one; unpack it")
        if members[0].flag_bits & 1:
            raise DataError(f"{path}: the archive asks for a password; unpack it")
        try:
            return archive.open(members[0])
        except RuntimeError as error:  # a method or an encryption that is not supported
            raise zipfile.BadZipFile(str(error)) from None
    return file


def _refuse_binary(path: Path, begin: bytes) -> None:
    """Raises DataError for content that another ending would say."""
    for magic, what in MAGIC.items():
        if begin.startswith(magic):
            raise DataError(f"{path}: holds {what}, which its name does not say; rename or decompress it")


def _broken(path: Path, error: Exception) -> DataError:
    kind = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip"}[compression(path)]
    return DataError(f"{path}: broken {kind} file ({error}); copy or download it again")


def line_blocks(path: Path, size: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """A text file without quoting: the number of a block's first line, and its whole lines, each ended by a newline.

    Raises:
        DataError: The file cannot be read, is empty, is not UTF-8, or holds a carriage return within a line.
    """
    line = 1
    with open_bytes(path) as stream:
        while block := stream.read(size):
            block = whole_lines(block, stream)
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n")
            refuse_carriage_return(path, line, block)
            decoded(path, line, block)
            yield line, block
            line += block.count(b"\n")
    if line == 1:
        raise DataError(f"{path}: the file is empty")


def whole_lines(block: bytes, stream: io.BufferedReader) -> bytes:
    """A block as far as the end of its last line, ended by a newline."""
    block += stream.readline()
    return block if block.endswith(b"\n") else block + b"\n"


def refuse_carriage_return(path: Path, line: int, block: bytes) -> None:
    """Raises DataError for the first carriage return in lines that begin with number `line`."""
    if b"\r" in block:
        number = line + block.count(b"\n", 0, block.index(b"\r"))
        raise DataError(f"{path}:{number}: {CARRIAGE_RETURN}")


CARRIAGE_RETURN = "lines end with a carriage return alone, or one is within a line; end lines with \\n or \\r\\n"


def decoded(path: Path, line: int, block: bytes) -> str:
    """Text of lines that begin with number `line`. Raises DataError if it is not UTF-8, naming the line."""
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        number = line + block.count(b"\n", 0, error.start)
        byte = error.start - block.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{number}: not UTF-8 text (byte {byte} of the line); convert the file to UTF-8"
        ) from None
