"""Every key of the group `dataset` for news, by what it is about: folders, and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recrun.data.news.files import Behaviors, News
from recrun.data.news.splits import FILES
from recrun.data.news.vocabulary import dictionary, given_dictionary, numbered_vectors, read_vectors, vector_table
from recrun.errors import ConfigError, DataError
from recrun.types import Count


class NewsSource(Protocol):
    """Makes a folder of files in the MIND format."""

    def folder(self, cache: str | None) -> Path:
        """The folder, with train, valid and test in it; made if it is not there."""


@dataclass(kw_only=True)
class FolderSettings:
    """Where the files are.

    Attributes:
        path: Folder with the splits; relative to `root`, else to the working directory.
        root: The data folder.
        source: Makes the files instead of `path`.
        train, valid, test: Folders of the splits, in `path` or by themselves, each with news.tsv and behaviors.tsv.
            The test split may be absent, and may have no labels or, as a placeholder, equal ones.
        cache: Folder of prepared data; None = none.
    """

    path: str | None = None
    root: str | None = None
    source: NewsSource | None = None
    train: str = "train"
    valid: str = "valid"
    test: str = "test"
    cache: str | None = None

    def folders(self) -> dict[str, Path]:
        """The folder of each split that there is.

        Raises:
            ConfigError: It is not clear where the files come from.
            DataError: A folder or a file is missing.
        """
        if (self.source is None) == (self.path is None):
            raise ConfigError("give dataset.path, a folder in the MIND format, or dataset.source, not both or neither")
        base = self.source.folder(self.cache) if self.source is not None else existing(str(self.path), self.root)
        found = {name: split_folder(base, given) for name, given in (("train", self.train), ("valid", self.valid))}
        if (base / self.test).is_dir() or Path(self.test).is_dir():
            found["test"] = split_folder(base, self.test)
        elif self.test != "test":
            raise missing(base / self.test)
        return found


@dataclass(kw_only=True)
class WordSettings:
    """Which words are known.

    Attributes:
        word_dict: The known words: a text file, a word a line, or MIND's word_dict.pkl, from which nothing but text and
            numbers is read; None = the words of the training titles.
        min_word_count: Fewest times that a word is in the training titles, to be known.
        word_vectors: File of word vectors in GloVe's text format; words of all splits that are in it are known too.
            Or a .npy table like MIND's embedding.npy, which has a row for each word of `word_dict`.
    """

    word_dict: str | None = None
    min_word_count: Count = 1
    word_vectors: str | None = None

    def known_words(self, read: Mapping[str, tuple[News, Behaviors, str]]) -> tuple[list[str], Any]:
        """The dictionary of some splits and, if there are word vectors, a row of them for each of its words."""
        given, vectors = self.word_dict, self.word_vectors
        words = (
            given_dictionary(Path(given)) if given is not None else dictionary(read["train"][0], self.min_word_count)
        )
        if vectors is None:
            return words, None
        if vectors.endswith(".npy"):
            if given is None:
                raise ConfigError(
                    f"dataset.word_vectors={vectors} has a row for each word of a dictionary: "
                    "give it as dataset.word_dict"
                )
            return words, numbered_vectors(Path(vectors), words, given)
        others = {word for news, _, _ in read.values() for word in news.words} if given is None else set()
        found = read_vectors(Path(vectors), others | set(words))
        words += sorted(found.keys() - set(words))
        return words, vector_table(words, found)


def existing(path: str, root: str | None) -> Path:
    """The data folder."""
    looked = list(dict.fromkeys([Path(root or ".").expanduser() / path, Path(path).expanduser()]))
    for folder in looked:
        if folder.is_dir():
            return folder
    raise missing(*looked)


def missing(*looked: Path) -> DataError:
    """The error of folders that are not there."""
    folders = " and ".join(str(folder.absolute()) for folder in looked)
    return DataError(
        f"no MIND data: looked for the folder {folders}. Nothing is downloaded (the publisher's address is gone); put "
        "the files there as train/, valid/ (the publisher's dev) and, if you have it, test/, each with news.tsv and "
        "behaviors.tsv; dataset.root or RECRUN_DATA names the folder above"
    )


def split_folder(base: Path, name: str) -> Path:
    """Folder of one split, with both files in it."""
    folder = base / name if (base / name).is_dir() else Path(name)
    if not folder.is_dir():
        raise missing(base / name)
    lacking = [file for file in FILES if not (folder / file).is_file()]
    if lacking:
        raise DataError(f"{folder}: {' and '.join(lacking)} missing; a split needs {' and '.join(FILES)}")
    return folder
