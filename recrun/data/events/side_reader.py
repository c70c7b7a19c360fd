"""Side tables from files."""

from __future__ import annotations

from recrun.data.events.side_tables import SideTable
from recrun.data.io import chunks
from recrun.data.io.files import existing
from recrun.data.io.formats import data_file
from recrun.data.tables import join
from recrun.errors import DataError


def read_side(path: str, root: str | None, key: str) -> SideTable:
    """Reads a table whose first column holds the ids, by the rules of `recrun.data.tables`.

    Args:
        path: Of any kind of table, perhaps with typed headers (`age:token`); relative to `root`, else to the working
            directory.
        root: The data folder.
        key: The config key that names the file, for messages.

    Raises:
        DataError: The file cannot be used, a row has not as many values as the header, an id occurs twice.
    """
    table = data_file(existing(path, root, key), skip_blanks=True)
    own, *others = table.header()
    if not others:
        raise DataError(f"{table.location(-1)}: the header needs the name of the ids and of one value at least")
    found = join.JoinTable.read(own, table, chunks.Wanted(frozenset(others), frozenset(), {}), set())
    if not len(found.index):
        raise DataError(f"{table.location(-1)}: no rows behind the header")
    texts = {name.partition(":")[0].strip(): found.rows.texts[name] for name in others}
    return SideTable(
        table.location(-1), found.index.to_numpy(), {name: cell.values[cell.codes] for name, cell in texts.items()}
    )
