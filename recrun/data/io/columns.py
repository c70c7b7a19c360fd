"""Which column of a file holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from recrun.errors import DataError

Role: TypeAlias = Literal["user", "item", "rating", "time"]

# Names that are recognised, best first, compared without case, "_", "-" and blanks.
COMMON_NAMES: Mapping[Role, tuple[str, ...]] = {
    "user": ("userid", "user", "uid"),
    "item": ("itemid", "item", "iid", "movieid", "movie", "productid", "bookid", "trackid"),
    "rating": ("rating", "score", "stars"),
    "time": ("timestamp", "time", "unixtime", "date"),
}
SESSION_NAMES = ("sessionid", "session", "visitorid", "sid")  # before the names of users, where sessions are read


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None = recognised by the names that data sets commonly use.

    With `sessions` the column of the role "user" holds sessions; users count as sessions where there are none.
    `time_unit` is the length in seconds of the unit of times that are numbers; text is read as ISO 8601.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    sessions: bool = False
    time_unit: float = 1.0

    def find(self, header: Sequence[str], path: Path, needed: Sequence[Role]) -> dict[Role, int]:
        """The place of each column that the file has.

        A rating is optional unless it is named or `needed`; a time that is not needed is left out.

        Raises:
            DataError: A named or needed column is not in the header.
        """
        places = {role: self._place(role, header, path) for role in COMMON_NAMES if role in ("rating", *needed)}
        for role in needed:
            if places[role] is None:
                raise DataError(
                    f"{path}:1: no {self.called(role)} column; the header has {', '.join(header)}. It is recognised by "
                    f"the names {', '.join(self._names(role))}; dataset.{self.called(role)}_column=NAME names it"
                )
        return {role: place for role, place in places.items() if place is not None}

    def _place(self, role: Role, header: Sequence[str], path: Path) -> int | None:
        named: str | None = getattr(self, role)
        if named is not None:
            if named not in header:
                raise DataError(
                    f"{path}:1: no column {named!r} (dataset.{self.called(role)}_column); "
                    f"the header has {', '.join(header)}"
                )
            return list(header).index(named)
        plain = [_plain(name) for name in header]
        return next((plain.index(name) for name in self._names(role) if name in plain), None)

    def called(self, role: Role) -> str:
        """What a person calls the role."""
        return "session" if self.sessions and role == "user" else role

    def _names(self, role: Role) -> tuple[str, ...]:
        return (*SESSION_NAMES, *COMMON_NAMES[role]) if self.called(role) == "session" else COMMON_NAMES[role]


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "_- "))
