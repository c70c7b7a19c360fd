"""TIGER: codes of items by hand, scores by brute force, beams by another search; files of vectors, and two stages."""

import itertools
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds.event_data import data_of, file_of

from recrun.config.compose import compose
from recrun.config.validate import check
from recrun.errors import ConfigError, DataError
from recrun.experiments.build import build_model
from recrun.experiments.directories import prepare
from recrun.experiments.predict import embed
from recrun.experiments.run import execute, load_config
from recrun.models.layers.code_trie import CodeTrie
from recrun.models.layers.item_vectors import collaborative_vectors, vectors_from_file
from recrun.models.layers.residual_kmeans import digits, residual_kmeans, told_apart
from recrun.models.tiger import NOT_FOUND, TIGER

SETS = [np.random.default_rng(unit).permutation(20)[: 5 + unit % 7].tolist() for unit in range(30)]
SMALL = ["model.embedding_dim=16", "model.n_layers=1", "model.head_num=2", "model.codebook_size=6", "model.levels=2"]
WORDS = ["dataset.order=file", "split=leave_last_out", "loader.his_size=4", *SMALL]


def made(tmp_path, *words, sets=SETS):
    data, config = data_of(file_of(tmp_path, sets), "model=tiger", *WORDS, *words)
    return build_model(config, data).eval(), data


def inputs_of(data):
    found = data.rankings("test")
    return data.inputs(found.inputs, found.unit)


def row_alone(batch, row):
    """One history of a batch."""
    first, last = batch["items_offsets"][row : row + 2].tolist()
    items = batch["items"][first:last]
    offsets = torch.tensor([0, last - first])
    return {"items": items, "items_offsets": offsets, "longest": torch.arange(last - first)}


def by_brute_force(model, batch, codes):
    """log P of some codes after one history: code after code, each from a decoder that reads one beginning alone."""
    memory, _ = model.encode(batch)
    total = 0.0
    for depth, code in enumerate(codes):
        x = [model.start, *(model.table[at, c] * math.sqrt(model.table.shape[2]) for at, c in enumerate(codes[:depth]))]
        x = torch.stack(x) + model.write_position[: depth + 1]
        mask = torch.ones(depth + 1, depth + 1).triu(1).bool()
        last = model.decoder(x[None], memory, tgt_mask=mask)[0, -1]
        total += (model.table[depth] @ last).log_softmax(0)[code].item()
    return total


@torch.no_grad()
def test_scores_of_a_catalogue_are_those_of_brute_force(tmp_path):
    model, data = made(tmp_path)
    model.solve(data.training_events())
    batch = inputs_of(data)
    scores = model(batch)
    assert scores.shape == (len(data.rankings("test")), 20)
    for row in range(3):
        expected = [by_brute_force(model, row_alone(batch, row), codes) for codes in model.codes.tolist()]
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_probabilities_of_all_codes_add_up_to_one():
    """Where every sequence of codes is an item, nothing is lost to codes that no item has."""
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "n_layers": 1, "head_num": 2, "codebook_size": 3, "levels": 2}
    model = TIGER(27, 4, [*range(27)], **sizes).eval()
    assert sorted(map(tuple, model.codes.tolist())) == sorted(itertools.product(range(3), repeat=3))
    batch = {"items": torch.tensor([3, 9, 26]), "items_offsets": torch.tensor([0, 1, 3]), "longest": torch.arange(2)}
    torch.testing.assert_close(model(batch).exp().sum(1), torch.ones(2))


def beams_by_hand(model, batch, width):
    """{codes: log P} of a beam search over lists of Python, of the beginnings that some item has."""
    items = [tuple(codes) for codes in model.codes.tolist()]
    beams = {(): 0.0}
    for depth in range(model.codes.shape[1]):
        longer = {codes[: depth + 1] for codes in items if codes[:depth] in beams}
        scores = {codes: by_brute_force(model, batch, codes) for codes in longer}
        beams = dict(sorted(scores.items(), key=lambda pair: -pair[1])[:width])
    return beams


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 3, 7])
def test_a_narrow_beam_finds_what_a_plain_search_finds(tmp_path, beam):
    model, data = made(tmp_path, f"model.beam={beam}")
    model.solve(data.training_events())
    batch = inputs_of(data)
    scores = model(batch)
    for row in range(4):
        expected = torch.full([20], NOT_FOUND)
        for codes, score in beams_by_hand(model, row_alone(batch, row), beam).items():
            expected[(model.codes == torch.tensor(codes)).all(1)] = score
        torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_more_beams_than_valid_codes_lose_nothing_and_invent_nothing(tmp_path):
    """20 items, 19 beams: the last level is searched; every item found has its exact score."""
    model, data = made(tmp_path, "model.beam=19")
    model.solve(data.training_events())
    batch = inputs_of(data)
    scores, exact = model(batch), torch.stack([model.predict(batch, torch.full([30], item)) for item in range(20)], 1)
    found = scores > NOT_FOUND
    assert (found.sum(1) == 19).all()
    torch.testing.assert_close(scores[found], exact[found], rtol=1e-4, atol=1e-4)


def test_the_tree_of_codes():
    codes = torch.tensor([[1, 0], [0, 2], [1, 2], [0, 0]])
    tree = CodeTrie.of(codes, 3)
    assert [level.codes.tolist() for level in tree.levels] == [[0, 1], [0, 2, 0, 2]]
    assert [level.parents.tolist() for level in tree.levels] == [[0, 0], [0, 0, 1, 1]]
    assert tree.levels[0].children.tolist() == [[0, 1, -1]]
    assert tree.levels[1].children.tolist() == [[0, -1, 1], [2, -1, 3]]
    assert tree.items.tolist() == [3, 1, 0, 2]


def test_the_tree_follows_the_codes(tmp_path):
    model, data = made(tmp_path)
    before = model.trie()
    assert model.trie() is before
    model.solve(data.training_events())
    assert model.trie() is not before


def test_codes_by_hand():
    """Two far groups, each of two near pairs: the first code is the group, the second the side of its centre."""
    vectors = np.array([[0, 0], [0, 1], [100, 0], [100, 1.0]])
    codes = residual_kmeans(vectors, 2, 2, np.random.default_rng(0))
    assert codes[0, 0] == codes[1, 0] != codes[2, 0] == codes[3, 0]
    assert codes[0, 1] == codes[2, 1] != codes[1, 1] == codes[3, 1]


def test_each_level_brings_codes_nearer_to_the_vectors():
    rng = np.random.default_rng(0)
    vectors, left = rng.normal(size=(200, 5)), []
    for levels in (1, 2, 3):
        codes = residual_kmeans(vectors, levels, 8, np.random.default_rng(0))
        assert codes.shape == (200, levels)
        assert codes.min() >= 0
        assert codes.max() < 8
        rest = vectors.copy()
        for level in range(levels):  # the centroid of a code is the mean of what is left of its vectors
            rest -= np.stack([rest[codes[:, level] == c].mean(0) for c in range(8)])[codes[:, level]]
        left.append((rest**2).sum())
    assert left[0] > left[1] > left[2]


def test_equal_codes_are_told_apart_in_order():
    assert told_apart(np.array([[1, 2], [0, 2], [1, 2], [1, 2]])).tolist() == [
        [1, 2, 0],
        [0, 2, 0],
        [1, 2, 1],
        [1, 2, 2],
    ]
    assert digits(5, 2, 3).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_more_equal_items_than_codes_are_refused(tmp_path):
    model, data = made(tmp_path, "model.codebook_size=3", "model.levels=2")
    names = data.log.items.tolist()
    np.savez(tmp_path / "same.npz", ids=names, vectors=np.ones((20, 2)))
    model.item_vectors = str(tmp_path / "same.npz")
    with pytest.raises(ConfigError, match="20 items have the same codes"):
        model.solve(data.training_events())


def test_a_catalogue_that_codes_cannot_number_is_refused():
    with pytest.raises(ConfigError, match="too few codes for 17 items"):
        TIGER(17, 4, [*range(17)], codebook_size=2, levels=3)


def test_collaborative_vectors_are_scaled_singular_vectors(tmp_path):
    _, data = made(tmp_path)
    events = data.training_events()
    x = np.zeros((events.n_units, events.n_items))
    x[events.unit, events.item] = 1
    _, s, vt = np.linalg.svd(x)
    expected = (vt[:4] * s[:4, None]).T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = collaborative_vectors(events, 4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-8)  # signs are free
    assert collaborative_vectors(events, 1000).shape == (20, 19)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": ["a", "b"]}, "not a .npz file with the arrays ids and vectors"),
        ({"ids": ["a", "b"], "vectors": np.zeros(2)}, "expected ids"),
        ({"ids": ["a", "b", "c"], "vectors": np.zeros((2, 3))}, "expected ids"),
        ({"ids": ["a", "a"], "vectors": np.zeros((2, 3))}, "1 ids occur twice"),
        ({"ids": ["a", "c"], "vectors": np.zeros((2, 3))}, "no vector for 1 of 2 items, such as b"),
        ({"ids": ["a", "b"], "vectors": np.array([[0, 1], [np.nan, 0]])}, "vector of item b has numbers that are not"),
        ({"ids": ["a", "b"], "vectors": np.array([[object()], [1]])}, "not a .npz file"),
    ],
)
def test_a_file_of_vectors_that_cannot_be_used(tmp_path, arrays, message):
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(DataError, match=message):
        vectors_from_file(str(tmp_path / "file.npz"), ["a", "b"])


def test_no_file_of_vectors(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        vectors_from_file(str(tmp_path / "none.npz"), ["a"])


def words_of(tmp_path, model, path, *words):
    small = ["dataset.cache=null", "device=cpu", "threads=1", "epochs=1", f"output_dir={tmp_path}"]
    data = ["dataset=interactions", f"dataset.path={path}", "dataset.order=file", "split=leave_last_out"]
    return [f"model={model}", *data, *small, *words]


def run(*words):
    composed = compose([*words])
    check(composed)
    directory = prepare(composed)
    return directory, execute(directory)


def test_vectors_of_another_run_and_stages_of_two_runs(tmp_path, monkeypatch):
    """pure_svd -> recrun embed -> rq_kmeans in one run -> generative in another, as one run does it."""
    path = file_of(tmp_path, SETS)
    first, _ = run(*words_of(tmp_path, "pure_svd", path, "model.rank=5"))
    vectors = tmp_path / "items.npz"
    embed(first, load_config(first), "item", "test", vectors)
    monkeypatch.chdir(tmp_path)
    words = words_of(tmp_path, "tiger", path, *SMALL, "loader.his_size=4", "model.item_vectors=items.npz")
    second, _ = run(*words, "stage=rq_kmeans")
    with np.load(vectors) as stored:
        expected = told_apart(residual_kmeans(stored["vectors"], 2, 6, np.random.default_rng(0)))
    monkeypatch.chdir("/")
    third, results = run(*words[:-1], f"model.item_vectors={vectors}", "stage=generative", f"pre_model_path={second}")
    both, together = run(*words[:-1], f"model.item_vectors={vectors}")
    for directory, stage in ((second, "rq_kmeans"), (third, "generative"), (both, "generative")):
        found = load_file(directory / stage / "last" / "model.safetensors")
        np.testing.assert_array_equal(found["codes"], expected)
    assert list(together["stages"]) == ["rq_kmeans", "generative"]
    assert results["test"] == together["test"]


def test_the_transformer_follows_codes():
    with pytest.raises(ConfigError, match=r"stage generative follows rq_kmeans or generative"):
        check(compose(["model=tiger", "stage=generative"]))


def test_a_stage_of_its_own_trainer_needs_a_model_with_a_solver():
    with pytest.raises(ConfigError, match="needs a model with solve"):
        check(compose(["model=sasrec", "stage=rq_kmeans"]))
