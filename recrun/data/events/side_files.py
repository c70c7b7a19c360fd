"""Files of side tables."""

from __future__ import annotations

from dataclasses import dataclass

from recrun.data.events.side_tables import SideTable


@dataclass(frozen=True)
class SideFiles:
    """Tables of users and items whose first column is the id; None = there is none.

    Attributes:
        user_table, item_table: CSV, TSV or Parquet files, relative to `root`, else to the working directory.
        root: The data folder.
    """

    user_table: str | None
    item_table: str | None
    root: str | None

    def sides(self) -> tuple[SideTable | None, SideTable | None]:
        """Reads the tables.

        Raises:
            DataError: A file cannot be used; names the file and the line.
        """
        from recrun.data.events.side_reader import read_side  # here, so that logs without tables wait for no reader

        users = read_side(self.user_table, self.root, "user_table") if self.user_table else None
        return users, read_side(self.item_table, self.root, "item_table") if self.item_table else None
