"""Which column of an event log holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from recrun.errors import DataError, did_you_mean

Role: TypeAlias = Literal["user", "item", "rating", "time", "session"]
TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]

ID_ROLES: tuple[Role, ...] = ("user", "item", "session")
NONE = "none"  # says that a file has no column of a role, whatever its columns are called

# Names that are recognised, best first, compared without case, "_", "-" and blanks.
COMMON_NAMES: Mapping[Role, tuple[str, ...]] = {
    "user": ("userid", "user", "uid"),
    "item": ("itemid", "item", "iid", "movieid", "movie", "productid", "bookid", "trackid"),
    "rating": ("rating", "score", "stars"),
    "time": ("timestamp", "time", "unixtime", "date"),
    "session": ("sessionid", "session", "visitorid", "sid"),
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None = recognised by the names that data sets commonly use, "none" = there is none.

    Attributes:
        user, item, rating, time, session: Names. A log has items, and users or sessions or both.
        header: Names of all columns of a text file that has no header line; its separator may be a run of blanks.
        time_unit: Of times that are numbers; None = recognised by their size. Dates are read as ISO 8601.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    session: str | None = None
    header: Sequence[str] | None = None
    time_unit: TimeUnit | None = None

    def find(self, header: Sequence[str], path: Path, rated: bool = False) -> dict[Role, str]:
        """The name of the column of each role that a file has; the rating only if it is asked for.

        Args:
            header: Names of the file's columns.
            path: The file, for messages.
            rated: Whether ratings are needed.

        Raises:
            DataError: A named or needed column is not in the header.
        """
        found = {role: name for role in COMMON_NAMES if (name := self._find(role, header, path)) is not None}
        if "user" not in found and "session" not in found:
            raise self._missing("user or session", ("user", "session"), header, path)
        if "item" not in found:
            raise self._missing("item", ("item",), header, path)
        if not rated:
            found.pop("rating", None)
        elif "rating" not in found:
            raise self._missing("rating", ("rating",), header, path, " (dataset.threshold needs one)")
        return found

    def _find(self, role: Role, header: Sequence[str], path: Path) -> str | None:
        named: str | None = getattr(self, role)
        if named == NONE and NONE not in header:
            return None
        if named is not None:
            if named not in header:
                hint = did_you_mean(named, header)
                raise DataError(
                    f"{path}: no column {named!r} (dataset.{role}_column); the header has {', '.join(header)}{hint}"
                )
            return named
        plain = {_plain(name): name for name in reversed(header)}
        return next((plain[name] for name in COMMON_NAMES[role] if name in plain), None)

    def _missing(self, what: str, roles: Sequence[Role], header: Sequence[str], path: Path, why: str = "") -> DataError:
        names = ", ".join(name for role in roles for name in COMMON_NAMES[role])
        keys = " or ".join(f"dataset.{role}_column=NAME" for role in roles)
        headless = (
            "" if self.header else ". dataset.columns=[user, item, …] names the columns of a file without a header"
        )
        if len(header) == 1 and " " in header[0]:
            headless += "; dataset.format=sequences reads lines of a user and items"
        return DataError(
            f"{path}: no {what} column{why}; the header has {', '.join(header)}. It is recognised by the names "
            f"{names}; {keys} names it{headless}"
        )


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "_- "))
