"""The dictionary of title words, and word vectors in GloVe's text format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recrun.data.news_files import Names, News
from recrun.errors import DataError

Float32: TypeAlias = npt.NDArray[np.float32]


def word_counts(news: News) -> npt.NDArray[np.int64]:
    """How often each of a news file's words is in its titles."""
    return np.bincount(news.titles.items, minlength=len(news.words))


def dictionary(news: News, min_count: int) -> list[str]:
    """The words that occur at least `min_count` times in a file's titles, most frequent first, from 1 on.

    Word 0, "", is every unknown word.
    """
    counts = word_counts(news)
    order = np.argsort(-counts, kind="stable")
    return ["", *news.words[order[counts[order] >= min_count]]]


def given_dictionary(path: Path) -> list[str]:
    """A dictionary from a text file, a word a line; its words are numbered from 1 on.

    Raises:
        DataError: The file cannot be read or a word is repeated.
    """
    words = ["", *_read(path).split("\n")]
    words = words[:-1] if len(words) > 1 and not words[-1] else words
    seen: dict[str, int] = {}
    for number, word in enumerate(words):
        if word in seen:
            raise DataError(f"{path}:{number}: the word {word!r} is already in line {seen[word]}; words must differ")
        seen[word] = number
    return words


def word_numbers(words: Names, known: list[str]) -> npt.NDArray[np.int32]:
    """Each word's number in a dictionary, 0 if it is not there."""
    import pandas as pd

    return np.maximum(pd.Index(known).get_indexer(pd.Index(words)), 0).astype(np.int32)


def read_vectors(path: Path, wanted: Iterable[str]) -> dict[str, Float32]:
    """Vectors of the wanted words from a file with lines like `word 0.1 -0.2 ...`.

    Raises:
        DataError: The file cannot be read, or a vector has another width than the first or is not of numbers.
    """
    chosen = set(wanted) - {""}
    found: dict[str, Float32] = {}
    width: int | None = None
    for number, line in enumerate(_read(path).split("\n"), 1):
        word, _, numbers = line.partition(" ")
        if word not in chosen:
            continue
        try:
            vector = np.array(numbers.split(), np.float32)
        except ValueError:
            raise DataError(f"{path}:{number}: the vector of {word!r} holds something that is no number") from None
        width = width or len(vector)
        if len(vector) != width:
            raise DataError(f"{path}:{number}: the vector of {word!r} has {len(vector)} numbers, those before {width}")
        found[word] = vector
    if not found:
        raise DataError(f"{path}: no vector for any word of the titles; expected lines like: word 0.1 -0.2 …")
    return found


def vector_table(words: list[str], vectors: dict[str, Float32]) -> Float32:
    """A vector for each word, [words, width]; zeros for word 0.

    A word without one gets a random vector of the same mean and deviation, the same each time.
    """
    known = np.stack(list(vectors.values()))
    rng: Any = np.random.default_rng(0)
    table: Float32 = rng.normal(known.mean(), known.std(), (len(words), known.shape[1])).astype(np.float32)
    number = {word: at for at, word in enumerate(words)}
    table[[number[word] for word in vectors]] = known
    table[0] = 0
    return table


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start + 1})") from None
