"""MovieLens 100K with what is known of its users and films, from its publisher's archive."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from recrun.data.io.download import Archive
from recrun.errors import DataError

FOLDER = "ml-100k"
RATINGS, USERS, FILMS = f"{FOLDER}/{FOLDER}.inter", f"{FOLDER}/{FOLDER}.user", f"{FOLDER}/{FOLDER}.item"
GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
YEAR = re.compile(r"\s*\((\d{4})\)")

Row = Sequence[str]


class MovieLens100K:
    """The archive's three tables, which have neither names nor a common form, as tab-separated files with headers.

    They are as those that RecBole offers, but for the two films whose titles do not end with a year.
    """

    def __init__(self, url: str, md5: str) -> None:
        """Sets up, without downloading.

        Args:
            url: Address of the archive.
            md5: Its checksum, in hexadecimal.
        """
        self.archive = Archive(url, md5, f"{FOLDER}/u.data", [f"{FOLDER}/u.user", f"{FOLDER}/u.item"])

    def fetch(self, root: Path) -> Path:
        """Puts ml-100k.inter, .user and .item into `root / ml-100k` and returns the first one's path.

        Raises:
            DataError: As of `Archive`; or the archive does not hold what it should.
        """
        root = root.expanduser()
        self.archive.fetch(root)
        users = ["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"]
        _write(root / USERS, users, _rows(root / FOLDER / "u.user", "|", len(users)))
        films = ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]
        _write(root / FILMS, films, map(_film, _rows(root / FOLDER / "u.item", "|", 5 + len(GENRES))))
        ratings = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        _write(root / RATINGS, ratings, _rows(root / FOLDER / "u.data", "\t", len(ratings)))
        return root / RATINGS


def _film(row: Row) -> Row:
    """Number, title, year and genres; of number, title with the year, two dates, address and a flag for each genre."""
    item, title, _, _, _, *flags = row
    year = YEAR.search(title)
    genres = (genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1")
    return item, YEAR.sub("", title), year[1] if year else "", " ".join(genres)


def _rows(path: Path, separator: str, width: int) -> Iterator[Row]:
    with path.open(encoding="latin-1", newline="") as file:
        for number, line in enumerate(file, 1):
            row = line.rstrip("\r\n").split(separator)
            if len(row) != width:
                raise DataError(
                    f"{path}:{number}: {len(row)} columns instead of {width}; remove the file and run again"
                )
            yield row


def _write(path: Path, header: Row, rows: Iterable[Row]) -> None:
    """Beside its place first, under a name of this process: whoever finds the file finds all of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines("\t".join(row) + "\n" for row in [header, *rows])
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
