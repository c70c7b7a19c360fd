"""The MIND files: read exactly, refused with file and line, turned into batches that a slow reader agrees with."""

import gzip
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.news import NEWS, TRAIN, VALID, first_batch, mind, news_lines, write_part, write_world

from recrun.data.news import tsv
from recrun.data.news.dataset import Mind
from recrun.data.news.files import read_behaviors, read_news
from recrun.data.news.splits import draw
from recrun.data.news.synthetic import TopicNews
from recrun.errors import ConfigError, DataError
from recrun.evaluation.impressions import GroupedByImpression
from recrun.runtime.device import Device


def tokens(title):
    return re.findall(r"[\w]+|[.,!?;|]", title.lower())


def impressions_of(folder):
    """Every impression as ids, read back from the arrays."""
    news = read_news(folder / "news.tsv")
    found = read_behaviors(folder / "behaviors.tsv", news)
    histories = [list(news.ids[row]) for row in np.split(found.histories.items, found.histories.offsets[1:-1])]
    candidates = [list(news.ids[row]) for row in np.split(found.candidates.items, found.candidates.offsets[1:-1])]
    return [
        (name, user, histories[history], shown)
        for name, user, history, shown in zip(found.ids, found.users, found.history, candidates, strict=True)
    ], found.labels.tolist()


def test_titles_are_cut_as_published_without_any_quoting(tmp_path):
    news = read_news(write_part(tmp_path, TRAIN) / "news.tsv")
    assert sorted(news.ids) == ["", *NEWS]
    titles = np.split(news.titles.items, news.titles.offsets[1:-1])
    assert {name: list(news.words[title]) for name, title in zip(news.ids, titles, strict=True)} == {
        "": [],
        **{name: tokens(title) for name, (_, title) in NEWS.items()},
    }
    assert (news.titles.lengths() == np.sort(news.titles.lengths())).all()
    assert {name: news.categories[at] for name, at in zip(news.ids[1:], news.category[1:], strict=True)} == {
        name: category for name, (category, _) in NEWS.items()
    }


@pytest.mark.parametrize("block", [40, 1 << 20])
def test_impressions_come_back_as_they_were_written(tmp_path, monkeypatch, block):
    monkeypatch.setattr(tsv, "BLOCK_BYTES", block)
    found, labels = impressions_of(write_part(tmp_path, TRAIN))
    assert found == [
        ("1", "U1", ["N1", "N2", "N3"], ["N4", "N5"]),
        ("2", "U2", [], ["N1", "N2", "N3", "N4", "N5"]),
        ("3", "U1", ["N1", "N2", "N3"], ["N2", "N3", "N1"]),
    ]
    assert labels == [1, 0, 0, 1, 0, 0, 0, 1, 1, 0]


def test_legal_oddities(tmp_path):
    """A byte order mark, rows of four columns, no labels, carriage returns, unknown news, blanks too many."""
    lines = ["9\tU1\tt\tN1  N9 N2 \tN1 N8\r", "U2\tt\t\t N5\r", "\tU3\tt\tN9\tN2 N3\r"]
    folder = write_part(tmp_path, lines)
    path = folder / "news.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found, labels = impressions_of(folder)
    assert found == [
        ("9", "U1", ["N1", "N2"], ["N1", ""]),
        ("2", "U2", [], ["N5"]),
        ("", "U3", [], ["N2", "N3"]),
    ]
    assert labels == []


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(list(NEWS)), max_size=4),
            st.lists(st.tuples(st.sampled_from(list(NEWS)), st.integers(0, 1)), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 300),
)
@settings(max_examples=50, deadline=None)
def test_any_impressions_in_any_blocks(tmp_path_factory, impressions, block):
    lines = [
        f"{at}\tU{at}\tt\t{' '.join(history)}\t{' '.join(f'{name}-{label}' for name, label in shown)}"
        for at, (history, shown) in enumerate(impressions)
    ]
    folder = write_part(tmp_path_factory.mktemp("part"), lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsv, "BLOCK_BYTES", block)
        found, labels = impressions_of(folder)
    assert [(history, shown) for _, _, history, shown in found] == [
        (history, [name for name, _ in shown]) for history, shown in impressions
    ]
    assert labels == [label for _, shown in impressions for _, label in shown]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3\tU1\tN1-1", r"behaviors\.tsv:4: the row has 3 tab-separated columns, expected 4 or 5: impression id"),
        ("3\tU1\tt\t\tN1-1\tx", r"behaviors\.tsv:4: the row has 6 tab-separated columns"),
        ("", r"behaviors\.tsv:4: the row has 1 tab-separated columns"),
        ("3\tU1\tt\tN1\t", r"behaviors\.tsv:4: an impression without candidates; it needs at least one"),
        ("3\tU1\tt\tN1\tN1-2 N2-0", r"behaviors\.tsv:4: every candidate needs a label that is 0 or 1"),
        ("3\tU1\tt\tN1\tN1-1 N2", r"behaviors\.tsv:4: every candidate needs a label that is 0 or 1"),
    ],
)
def test_bad_impressions_are_refused_with_their_line(tmp_path, line, message):
    folder = write_world(tmp_path, train=[*TRAIN, line, TRAIN[0]])
    with pytest.raises(DataError, match=message):
        mind(folder)


def test_labels_in_a_file_that_begins_without(tmp_path):
    with pytest.raises(DataError, match=r"behaviors\.tsv:2: the file's first candidate has no label"):
        mind(write_world(tmp_path, test=["1\tU\tt\t\tN1 N2", "2\tU\tt\t\tN1-0 N2"]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("N6\tsports\tsub\tTitle", r"news\.tsv:6: the row has 4 tab-separated columns, expected 8: news id, category"),
        (news_lines()[1], r"news\.tsv:6: news id N2 is already in line 2"),
        ("\ta\tb\tc\td\te\tf\tg", r"news\.tsv:6: the news id is empty"),
    ],
)
def test_bad_news_are_refused_with_their_line(tmp_path, line, message):
    folder = write_world(tmp_path)
    write_part(folder / "train", TRAIN, [*news_lines(), line])
    with pytest.raises(DataError, match=message):
        mind(folder)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    folder = write_world(tmp_path)
    path = folder / "valid" / "news.tsv"
    path.write_bytes(path.read_bytes().replace(b"Stocks", b"St\xf6cks"))
    with pytest.raises(DataError, match=r"valid/news\.tsv:3: not UTF-8"):
        mind(folder)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"looked for the folder .*/nowhere.*train/, valid/ .*news\.tsv and"):
        Mind(GroupedByImpression(), path="nowhere", root=str(tmp_path))
    folder = write_world(tmp_path)
    (folder / "valid" / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"valid: news\.tsv missing"):
        mind(folder)
    with pytest.raises(DataError, match=r"no MIND data.*elsewhere"):
        mind(write_world(tmp_path / "whole"), test="elsewhere")
    with pytest.raises(ConfigError, match=r"dataset\.path"):
        Mind(GroupedByImpression())
    (folder / "train" / "behaviors.tsv").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_behaviors(folder / "train" / "behaviors.tsv", read_news(folder / "train" / "news.tsv"))


def test_nothing_to_learn_from_and_nothing_to_judge(tmp_path):
    with pytest.raises(DataError, match="no impression has both a click"):
        mind(write_world(tmp_path / "a", train=["1\tU\tt\t\tN1-0 N2-0"]))
    data = mind(write_world(tmp_path / "b", valid=["1\tU\tt\t\tN1-0 N2-0", *VALID]))
    with pytest.raises(DataError, match="the valid split has no impression with both"):
        GroupedByImpression(batch_size=1)(popular(), data, "valid", Device.named("cpu", "fp32"), limit=1)


def popular():
    """A model that scores candidates by their place in the batch's list of titles."""
    import torch

    class Model(torch.nn.Module):
        def forward(self, batch):
            return batch["candidates"].float()

    return Model()


def test_one_class_impressions_are_left_out_and_counted(tmp_path):
    data = mind(write_world(tmp_path))
    found = data.evaluator(popular(), data, "valid", Device.named("cpu", "fp32"))
    assert found.metrics["one_class_impressions"] == 1
    assert found.ids.tolist() == ["7"]
    assert all(len(values) == 1 for values in found.units.values())


def test_a_part_of_one_class_cannot_judge(tmp_path, caplog):
    alike = ["7\tU3\tt\tN2\tN1-0 N3-0"]
    data = mind(write_world(tmp_path / "test of one class", test=alike))
    assert not len(data.units("test"))
    assert "test/behaviors.tsv: no impression has both a click (-1) and a non-click (-0): it is taken" in caplog.text
    assert len(next(data.eval_batches("test", 5))["candidates"]) == 2, "there are predictions all the same"
    with pytest.raises(DataError, match=r"valid/behaviors\.tsv: no impression has both .* nothing to evaluate"):
        mind(write_world(tmp_path / "valid of one class", valid=alike))


def test_unknown_news_and_missing_titles_are_counted_and_told(tmp_path, caplog):
    folder = write_world(tmp_path, valid=["7\tU3\tt\tN2 N77\tN1-1 N99-0 N98-0 N3-0"])
    counts = mind(folder).describe()
    assert counts["valid_unknown_candidates"] == 2
    assert counts["valid_unknown_clicks_in_histories"] == 1
    assert counts["train_news_without_title"] == 1
    assert "valid/behaviors.tsv: 2 of 4 candidates (50.0 %) are not in its news.tsv" in caplog.text
    assert "train/news.tsv: 1 news without a title" in caplog.text


def words_of(data, batch, number):
    title = batch["titles"][batch["titles_offsets"][number] : batch["titles_offsets"][number + 1]]
    return [data.vocabulary()["words"][word] for word in batch["words"][title]]


def test_an_evaluation_batch_says_what_the_file_says(tmp_path):
    data = mind(write_world(tmp_path), title_size=3, his_size=2)
    batch = next(data.eval_batches("valid", 10))
    titles = {name: tokens(title)[:3] or [""] for name, (_, title) in NEWS.items()}
    shown = [words_of(data, batch, number) for number in batch["candidates"]]
    assert shown == [titles[name] for name in ("N1", "N3", "N5", "N2")]
    assert batch["candidates_offsets"].tolist() == [0, 2, 4]
    assert batch["label"].tolist() == [1, 0, 0, 0]
    for user, clicked in zip(batch["user"], [["N2"], ["N2"], ["N2", "N3"], ["N2", "N3"]], strict=True):
        row = batch["history"][batch["history_offsets"][user] : batch["history_offsets"][user + 1]]
        assert [words_of(data, batch, number) for number in row] == [titles[name] for name in clicked]
    lengths = batch["titles_offsets"].diff()
    assert [n for n, length in batch["titles_groups"].tolist() for _ in range(n)] == [
        n for n, length in batch["titles_groups"].tolist() for _ in range(n)
    ]
    assert [length for n, length in batch["titles_groups"].tolist() for _ in range(n)] == lengths.tolist()


def test_parts_are_judged_with_their_own_news(tmp_path):
    folder = write_world(tmp_path, test=VALID)
    changed = {**NEWS, "N1": ("sports", "stocks stocks")}
    write_part(folder / "test", VALID, news_lines(changed))
    data = mind(folder)
    for split, title in (("valid", tokens(NEWS["N1"][1])), ("test", ["stocks", "stocks"])):
        batch = next(data.eval_batches(split, 10))
        assert words_of(data, batch, batch["candidates"][0]) == title


@given(st.lists(st.integers(0, 7), min_size=1, max_size=20), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_negatives_are_drawn_without_replacement(counts, k):
    places, present = draw(np.array(counts), k, np.random.default_rng(0))
    for count, row, there in zip(counts, places, present, strict=True):
        chosen = row[there]
        assert len(set(chosen)) == len(chosen) == min(count, k)
        assert (chosen < count).all()


def test_every_set_of_negatives_is_equally_likely():
    places, _ = draw(np.full(20_000, 5), 2, np.random.default_rng(0))
    found = Counter(tuple(sorted(row)) for row in places.tolist())
    assert len(found) == 10
    assert max(abs(count - 2000) for count in found.values()) < 5 * np.sqrt(2000)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    source = TopicNews(n_news=150, n_users=40, n_impressions=120, n_eval_impressions=60)
    return Mind(GroupedByImpression(), source=source, cache=str(tmp_path_factory.mktemp("cache")))


def test_an_epoch_has_every_click_once_with_non_clicks_of_its_impression(tmp_path):
    data = mind(write_world(tmp_path), npratio=2)
    batch = first_batch(data)
    ids = data._parts["train"].news_ids
    assert data.train_size() == len(batch["candidates"]) == 4
    title = {" ".join(tokens(text)): name for name, (_, text) in NEWS.items()}
    names = [[title[" ".join(words_of(data, batch, c))] for c in row] for row in batch["candidates"]]
    shown = {"N4": {"N5"}, "N2": {"N1", "N3", "N4", "N5"}, "N3": {"N1"}}
    assert sorted(row[0] for row in names) == ["N2", "N2", "N3", "N4"]
    for row, mask in zip(names, batch["label_mask"].tolist(), strict=True):
        others = {name for name, there in zip(row[1:], mask[1:], strict=True) if there}
        assert others <= shown[row[0]] | {"N1"}
    assert set(ids) == {"", *NEWS}


def test_the_rest_of_an_epoch_equals_what_was_left(synthetic):
    whole = list(synthetic.train_batches(16, np.random.default_rng(5)))
    rest = list(synthetic.train_batches(16, np.random.default_rng(5), start=3))
    assert len(whole) == len(rest) + 3 == -(-synthetic.train_size() // 16)
    for one, other in zip(whole[3:], rest, strict=True):
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)
    every_third = list(synthetic.train_batches(16, np.random.default_rng(5), start=1, stride=3))
    for one, other in zip(whole[1::3], every_third, strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    other = next(synthetic.train_batches(16, np.random.default_rng(6)))
    assert other["candidates"].shape == whole[0]["candidates"].shape
    assert not all((whole[0][name].shape == other[name].shape) for name in other)


def test_from_the_cache_it_is_the_same(tmp_path):
    folder, cache = write_world(tmp_path / "data"), tmp_path / "cache"
    first, again = mind(folder, cache=str(cache)), mind(folder, cache=str(cache))
    assert len(list(cache.glob("news-*.npz"))) == 2
    assert first.fingerprints == again.fingerprints == mind(folder).fingerprints
    assert first.describe() == again.describe()
    one, other = next(first.eval_batches("valid", 9)), next(again.eval_batches("valid", 9))
    assert all((one[name] == other[name]).all() for name in one)
    write_part(folder / "valid", VALID[:1])
    assert mind(folder, cache=str(cache)).fingerprints != first.fingerprints


def test_a_given_dictionary_and_word_vectors(tmp_path):
    folder = write_world(tmp_path)
    (tmp_path / "words.txt").write_text("red\nstocks\n")
    assert mind(folder, word_dict=str(tmp_path / "words.txt")).vocabulary()["words"].tolist() == ["", "red", "stocks"]
    vectors = tmp_path / "glove.txt"
    vectors.write_text("red 1 2\nunseen 3 4\nwind 5 6\n")
    data = mind(folder, word_vectors=str(vectors))
    words, table = list(data.vocabulary()["words"]), data.sizes["word_vectors"]
    assert "unseen" not in words
    assert table[words.index("red")].tolist() == [1, 2]
    assert table[words.index("wind")].tolist() == [5, 6]
    assert table.shape == (len(words), 2)
    assert not table[0].any()
    vectors.write_text("red 1 2\nwind 5\n")
    with pytest.raises(DataError, match=r"glove\.txt:2: the vector of 'wind' has 1 numbers, those before 2"):
        mind(folder, word_vectors=str(vectors))


@pytest.fixture
def bundle(tmp_path):
    """A data set with MIND's utility bundle beside it, whose dictionary is not in any order."""
    write_world(tmp_path)
    (tmp_path / "word_dict.pkl").write_bytes(pickle.dumps({"stocks": 2, "red": 1, "wind": 3}))
    np.save(tmp_path / "embedding.npy", np.arange(8.0).reshape(4, 2))
    return {"word_dict": str(tmp_path / "word_dict.pkl"), "word_vectors": str(tmp_path / "embedding.npy")}


def test_the_utility_bundle_gives_words_and_vectors(tmp_path, bundle):
    data = mind(tmp_path, **bundle)
    assert data.vocabulary()["words"].tolist() == ["", "red", "stocks", "wind"]
    assert data.sizes["word_vectors"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert data.sizes["word_vectors"].dtype == np.float32
    batch = next(data.eval_batches("valid", 1))
    assert words_of(data, batch, batch["candidates"][1]) == ["stocks", ""]


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_runs_something_is_not_read(tmp_path, bundle):
    Path(bundle["word_dict"]).write_bytes(pickle.dumps({"red": Trap(tmp_path / "sprung")}))
    with pytest.raises(
        DataError, match=r"asks for \w+\.mkdir, and only text and numbers are read from a pickle; a text"
    ):
        mind(tmp_path, **bundle)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"red": 1, "stocks": 3}, r"the 2 words must have the numbers 1 to 2, each once"),
        ({"red": 1, "stocks": 1}, r"the numbers 1 to 2, each once"),
        (["red", "stocks"], r"expected a pickled dict of words \(text\) and their numbers"),
        ({"red": [1]}, r"expected a pickled dict"),
        ({"red": 1}, r"embedding\.npy has 4 rows, but .*word_dict\.pkl has 1 words.*different bundles"),
    ],
)
def test_a_bundle_that_does_not_fit_itself_is_refused(tmp_path, bundle, words, told):
    Path(bundle["word_dict"]).write_bytes(pickle.dumps(words))
    with pytest.raises(DataError, match=told):
        mind(tmp_path, **bundle)


def test_files_of_words_that_are_none_are_refused(tmp_path, bundle):
    with pytest.raises(ConfigError, match=r"a row for each word of a dictionary: give it as dataset\.word_dict"):
        mind(tmp_path, word_vectors=bundle["word_vectors"])
    Path(bundle["word_vectors"]).write_bytes(b"no array")
    with pytest.raises(DataError, match=r"embedding\.npy: not a table of numbers in NumPy's format"):
        mind(tmp_path, **bundle)
    Path(bundle["word_dict"]).write_bytes(b"no pickle")
    with pytest.raises(DataError, match=r"word_dict\.pkl: not a pickled dictionary: .*a text file with a word a line"):
        mind(tmp_path, **bundle)
    words = tmp_path / "words.txt"
    for text, told in (
        (b"red\nstocks\nred\n", r"words\.txt:3: the word 'red' is already in line 1"),
        (b"red\n\nwind\n", r"words\.txt:2: no word; expected a word a line"),
        (b"red\nst\xffocks\n", r"words\.txt:2: not UTF-8 text \(byte 3 of the line\)"),
    ):
        words.write_bytes(text)
        with pytest.raises(DataError, match=told):
            mind(tmp_path, word_dict=str(words))
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        mind(tmp_path, word_dict=str(tmp_path / "none.txt"))


def test_rare_words_are_unknown(tmp_path):
    words = mind(write_world(tmp_path), min_word_count=2).vocabulary()["words"]
    assert words.tolist() == ["", "red"]


def test_synthetic_news_are_the_same_each_time_and_topics_show(tmp_path):
    settings = {"n_news": 200, "n_users": 30, "n_impressions": 50, "n_eval_impressions": 20}
    one, other = (TopicNews(**settings).folder(str(tmp_path / name)) for name in "ab")
    for part in ("train", "valid", "test"):
        for name in ("news.tsv", "behaviors.tsv"):
            assert (one / part / name).read_bytes() == (other / part / name).read_bytes()
    different = TopicNews(**settings, seed=1).folder(str(tmp_path / "a"))
    assert different != one
    news = read_news(one / "train" / "news.tsv")
    assert len(news.ids) == 201
    assert len(news.categories) == 5
    assert len(gzip.compress((one / "train" / "behaviors.tsv").read_bytes())) > 1000


SLICE = Path(__file__).resolve().parents[4] / "shared" / "data" / "mind-slice"


@pytest.mark.data
def test_a_real_cut_with_most_titles_missing(mind_slice, caplog):
    data = Mind(GroupedByImpression(), path=str(mind_slice))
    counts = data.describe()
    assert (counts["train_impressions"], counts["valid_impressions"]) == (4032, 968)
    assert (counts["train_clicks"], counts["valid_clicks"]) == (6053, 1489)
    assert "are not in its news.tsv" in caplog.text
    lines = (mind_slice / "valid" / "behaviors.tsv").read_text().splitlines()
    batch = next(data.eval_batches("valid", 1000))
    assert batch["candidates_offsets"].diff().tolist() == [len(line.split("\t")[4].split()) for line in lines]
    labels = [int(shown[-1]) for line in lines for shown in line.split("\t")[4].split()]
    assert batch["label"].tolist() == labels


@pytest.fixture
def mind_slice():
    import os

    folder = Path(os.environ.get("RECRUN_DATA") or SLICE.parent) / "mind-slice"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder
