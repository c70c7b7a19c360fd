"""MIND's two files, news.tsv and behaviors.tsv, as integer arrays. A title may hold quotation marks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recrun.data.news.tsv import NEWLINE, Bytes, TsvBlock, strings, tsv_blocks
from recrun.data.ragged import Ragged, offsets_of
from recrun.data.types import Int32, Int64
from recrun.errors import DataError

Names: TypeAlias = npt.NDArray[np.object_]

NEWS_COLUMNS = ("news id", "category", "subcategory", "title", "abstract", "url", "title entities", "abstract entities")
BEHAVIORS_COLUMNS = ("impression id", "user id", "time", "history", "impressions")
TOKEN = re.compile(r"\w+|[.,!?;|]|\n")
SPACE, DASH, ZERO, ONE = b" -01"


@dataclass(frozen=True)
class News:
    """A news file. Row 0 is every unknown news: no title, no category.

    News are numbered by the length of their titles, so that a sorted set of them is sorted by length.

    Attributes:
        ids: News ids by number, "" for row 0.
        categories: Names of the categories.
        category: int32 [news], -1 for row 0.
        words: The different words of the titles, lower case.
        titles: Of each news, numbers of words.
    """

    ids: Names
    categories: Names
    category: Int32
    words: Names
    titles: Ragged


@dataclass(frozen=True)
class Behaviors:
    """A behaviors file.

    Attributes:
        ids: Impression ids, or line numbers from 1 where the file has none.
        users: User ids.
        history: int32 [impressions], a row of `histories`.
        histories: The different histories, oldest click first, without unknown news; numbered by length.
        candidates: Of each impression, numbers of news; 0 if unknown.
        labels: int8 [candidates], 1 = clicked; empty if the file has no labels.
        unknown_clicks: Entries of the different histories that the news file does not know.
    """

    ids: Names
    users: Names
    history: Int32
    histories: Ragged
    candidates: Ragged
    labels: npt.NDArray[np.int8]
    unknown_clicks: int


def read_news(path: Path) -> News:
    """Reads a news file.

    Raises:
        DataError: A row has not 8 columns, an id is repeated or empty, or the text is not UTF-8.
    """
    ids: list[str] = []
    categories: list[str] = []
    titles: list[str] = []
    for block in tsv_blocks(path):
        block.refuse_width((len(NEWS_COLUMNS),), NEWS_COLUMNS)
        ids += strings(block.column(8))
        categories += strings(block.column(7))
        titles.append(block.column(5).tobytes().decode().lower())
    _refuse_bad_ids(path, ids)
    words, flat, lengths = _cut_titles("".join(titles))
    order = np.argsort(lengths, kind="stable")
    names, category = _numbered(categories)
    whole = Ragged(offsets_of(lengths), flat)
    sorted_words, sorted_offsets = whole.gather(order)
    return News(
        ids=np.array(["", *(ids[at] for at in order)], object),
        categories=names,
        category=np.concatenate([[-1], category[order]]).astype(np.int32),
        words=words,
        titles=Ragged(np.concatenate([[0], sorted_offsets]), sorted_words.astype(np.int32)),
    )


def read_behaviors(path: Path, news: News) -> Behaviors:
    """Reads a behaviors file against its own news file.

    Raises:
        DataError: A row has neither 4 nor 5 columns or no candidates, a label is neither 0 nor 1 or is missing in a
            file that has labels, or the text is not UTF-8.
    """
    import pandas as pd

    known = pd.Index([name.encode() for name in news.ids])
    ids: list[str] = []
    users: list[str] = []
    histories: list[Names] = []
    history: list[Int64] = []
    candidates: list[tuple[Int32, Int64, npt.NDArray[np.int8]]] = []
    seen = 0
    labelled: bool | None = None
    for block in tsv_blocks(path):
        block.refuse_width((4, 5), BEHAVIORS_COLUMNS)
        ids += _impression_ids(block)
        users += strings(block.column(4))
        codes, uniques = pd.factorize(np.array(strings(block.column(2)), object))
        history.append(codes + seen)
        histories.append(uniques)
        seen += len(uniques)
        labelled = _has_labels(block) if labelled is None else labelled
        candidates.append(_candidates(block, known, labelled))
    distinct, number = _distinct_histories(path, histories, known)
    flat, lengths, labels = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    unknown = int((distinct.items == 0).sum())
    kept, order = _without_unknown(distinct)
    position = np.empty(len(order), np.int32)
    position[order] = np.arange(len(order))
    return Behaviors(
        ids=np.array(ids, object),
        users=np.array(users, object),
        history=position[number[np.concatenate(history)]],
        histories=kept,
        candidates=Ragged(offsets_of(lengths), flat),
        labels=labels,
        unknown_clicks=unknown,
    )


def _refuse_bad_ids(path: Path, ids: list[str]) -> None:
    if len(set(ids)) == len(ids) and "" not in ids:
        return
    first: dict[str, int] = {}
    for number, name in enumerate(ids, 1):
        if not name:
            raise DataError(f"{path}:{number}: the news id is empty")
        if name in first:
            raise DataError(f"{path}:{number}: news id {name} is already in line {first[name]}; ids must differ")
        first[name] = number


def _cut_titles(text: str) -> tuple[Names, Int32, Int64]:
    """Words, flat numbers of words and title lengths of lower-case titles that end with newlines."""
    import pandas as pd

    codes, uniques = pd.factorize(np.array(TOKEN.findall(text), object))
    newline = int(np.flatnonzero(uniques == "\n")[0])
    is_end = codes == newline
    lengths = np.diff(np.flatnonzero(is_end), prepend=-1) - 1
    flat = codes[~is_end]
    return np.delete(uniques, newline), (flat - (flat > newline)).astype(np.int32), lengths


def _numbered(names: list[str]) -> tuple[Names, Int64]:
    import pandas as pd

    codes, uniques = pd.factorize(np.array(names, object), sort=True)
    return uniques, codes


def _impression_ids(block: TsvBlock) -> list[str]:
    """The first column of five, or the line number."""
    fields = block.fields()
    numbers = [str(block.line + row) for row in range(len(fields))]
    if (fields == 4).all():
        return numbers
    first = strings(block.column(5)) if (fields == 5).all() else None
    if first is None:  # rows of both widths: the fifth field from the right would reach into the row before
        rows = block.text.tobytes().decode().split("\n")[:-1]
        first = [row.split("\t")[0] if row.count("\t") == 4 else numbers[at] for at, row in enumerate(rows)]
    return first


def _tokens(column: Bytes) -> tuple[Int64, Int64]:
    """Space-separated tokens of a column: where the last byte of each is, and how many a row has."""
    inside = column > SPACE
    is_end = inside[:-1] & ~inside[1:]
    so_far = np.concatenate([[0], np.cumsum(is_end)])
    counts = np.diff(so_far[column == NEWLINE], prepend=0)
    return np.flatnonzero(is_end), counts


def _has_labels(block: TsvBlock) -> bool:
    column = block.column(1)
    ends, _ = _tokens(column)
    return len(ends) > 0 and bool(column[ends[0] - 1] == DASH)


def _candidates(block: TsvBlock, known: Any, labelled: bool) -> tuple[Int32, Int64, npt.NDArray[np.int8]]:
    """Numbers of news, candidates of each row, and labels."""
    column = block.column(1)
    ends, counts = _tokens(column)
    block.refuse(counts == 0, "an impression without candidates; it needs at least one, like N1-0 N2-1")
    labels = np.zeros(0, np.int8)
    wrong = (column[ends - 1] == DASH) != labelled
    rule = "the file's first candidate has no label, so none may have one"
    if labelled:
        labels = (column[ends] == ONE).astype(np.int8)
        wrong |= (column[ends] != ONE) & (column[ends] != ZERO)
        rule = "every candidate needs a label that is 0 or 1, like N1-0 N2-1"
        column[ends] = column[ends - 1] = SPACE
    block.refuse(np.bincount(np.repeat(np.arange(len(counts)), counts), wrong) > 0, rule)
    names = column.tobytes().split()
    if len(names) != len(ends):
        raise DataError(f"{block.path}: a candidate is a label without a news id, or holds control characters")
    return _lookup(known, names), counts, labels


def _lookup(known: Any, names: list[bytes]) -> Int32:
    """Numbers of news; 0 for those that are unknown."""
    found: Int64 = known.get_indexer(np.array(names, object)) if names else np.zeros(0, np.int64)
    return np.maximum(found, 0).astype(np.int32)


def _distinct_histories(path: Path, parts: list[Names], known: Any) -> tuple[Ragged, Int64]:
    """The different histories of all blocks, and which of them each entry of `parts` is."""
    import pandas as pd

    number, uniques = pd.factorize(np.concatenate(parts))
    column = np.frombuffer("".join(f"{text}\n" for text in uniques).encode(), np.uint8)
    _, counts = _tokens(column)
    names = column.tobytes().split()
    if len(names) != counts.sum():
        raise DataError(f"{path}: a history holds control characters; news ids are separated by blanks")
    return Ragged(offsets_of(counts), _lookup(known, names)), number


def _without_unknown(histories: Ragged) -> tuple[Ragged, Int64]:
    """Histories without news 0, by length, and their order."""
    row = np.repeat(np.arange(len(histories.offsets) - 1), histories.lengths())
    known = histories.items != 0
    lengths = np.bincount(row[known], minlength=len(histories.offsets) - 1)
    order = np.argsort(lengths, kind="stable")
    items, offsets = Ragged(offsets_of(lengths), histories.items[known]).gather(order)
    return Ragged(offsets, items.astype(np.int32)), order
