"""The dictionary of title words and their vectors: GloVe's text format, or the files of MIND's utility bundle."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from recrun.data.io.positions import positions
from recrun.data.news.files import Names, News
from recrun.errors import DataError
from recrun.runtime.run_files import DAMAGED

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
    """A dictionary from a text file, a word a line, or from a pickled dict of words and numbers; numbered from 1 on.

    Raises:
        DataError: The file cannot be read, a word is repeated, or numbers are not 1, 2, 3, ...
    """
    if path.suffix == ".pkl":
        return ["", *_pickled_words(path)]
    seen: dict[str, int] = {"": 0}
    for number, line in _lines(path):
        if line in seen:
            what = f"the word {line!r} is already in line {seen[line]}" if line else "no word"
            raise DataError(f"{path}:{number}: {what}; expected a word a line, each once")
        seen[line] = number
    return list(seen)


def word_numbers(words: Names, known: list[str]) -> npt.NDArray[np.int32]:
    """Each word's number in a dictionary, 0 if it is not there."""
    return np.maximum(positions(words, known), 0).astype(np.int32)


def read_vectors(path: Path, wanted: Iterable[str]) -> dict[str, Float32]:
    """Vectors of the wanted words from a file with lines like `word 0.1 -0.2 ...`.

    Raises:
        DataError: The file cannot be read, or a vector has another width than the first or is not of numbers.
    """
    chosen = set(wanted) - {""}
    found: dict[str, Float32] = {}
    width: int | None = None
    for number, line in _lines(path):
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


def numbered_vectors(path: Path, words: list[str], dictionary: str) -> Float32:
    """A vector for each word of a dictionary, [words, width], from a .npy file; row 0 is the unknown word's.

    Raises:
        DataError: The file is no table of numbers, or not one with as many rows as the dictionary has words, and one.
    """
    try:
        table = np.load(path, allow_pickle=False)
    except DAMAGED as error:
        raise DataError(f"{path}: not a table of numbers in NumPy's format ({error})") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != "f":
        raise DataError(f"{path}: expected one table of float numbers, a row for each word")
    if len(table) != len(words):
        raise DataError(
            f"{path} has {len(table):,} rows, but {dictionary} has {len(words) - 1:,} words, and row 0 is the unknown "
            "word's: they belong to different bundles; use the dictionary that came with the vectors"
        )
    return table.astype(np.float32)


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


class _Plain(pickle.Unpickler):
    """Reads text, numbers and containers; refuses whatever would import or call something."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuses."""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only text and numbers are read from a pickle")


def _pickled_words(path: Path) -> list[str]:
    """The words of a pickled dict {word: number}, by number."""
    try:
        with path.open("rb") as file:
            numbers = _Plain(file).load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{path}: not a pickled dictionary: {error}; a text file with a word a line does too") from None
    if not isinstance(numbers, dict) or any(type(w) is not str or type(n) is not int for w, n in numbers.items()):
        raise DataError(f"{path}: expected a pickled dict of words (text) and their numbers")
    by_number = {number: word for word, number in numbers.items()}
    if by_number.keys() != set(range(1, len(numbers) + 1)):
        raise DataError(f"{path}: the {len(numbers):,} words must have the numbers 1 to {len(numbers):,}, each once")
    return [by_number[number] for number in range(1, len(numbers) + 1)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 text file with their numbers, one at a time: files of word vectors are large."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 text (byte {error.start + 1} of the line)") from None
