"""The cache of filtered logs: it changes nothing, misses when it must, and damage is repaired."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds.events import event_data, ratings, raw_events, write_ratings

from recrun.data.events.cache import cached_log
from recrun.data.events.filters import Filters
from recrun.data.io.event_files import EventFiles
from recrun.data.types import TEST, TRAIN

FIELDS = ("unit", "item", "units", "items", "rank", "time", "part", "owners")


@pytest.fixture
def csv(tmp_path):
    return write_ratings(tmp_path / "ratings.csv", ratings())


def build(path, **changes):
    return event_data(path, **{"filters": {"repeats": "first"}, **changes})


def assert_equal(one, other):
    for name in FIELDS:
        expected, found = getattr(one, name), getattr(other, name)
        assert (expected is None) == (found is None), name
        if expected is not None:
            assert (expected.dtype, expected.tolist()) == (found.dtype, found.tolist()), name
    assert dict(one.counts) == dict(other.counts)
    assert one.fingerprint() == other.fingerprint()


def refuse():
    raise AssertionError("a hit must not build")


LOGS = {
    "numbers": raw_events([(10, 5), (7, 6), (10, 6)], [2.5, 1, 0]),
    "text": raw_events([("ü", "b\nc"), ("", "a"), ("ü", "a\0")], [2, 1, 0]),
    "no order": raw_events([("a", 1), ("b", 2)]),
    "parts": raw_events([("a", 1), ("a", 2)], [0, 1], [TRAIN, TEST], "session"),
}
OWNED = replace(LOGS["parts"], user=np.array([1, 0], np.int32), users=np.array(["x", "yé"], object))


@pytest.mark.parametrize("raw", [*LOGS.values(), OWNED], ids=[*LOGS, "owners"])
def test_a_log_comes_back_as_it_was_built(tmp_path, raw):
    log = Filters().apply(raw)
    assert_equal(cached_log(str(tmp_path), {"key": 1}, lambda: log), log)
    assert_equal(cached_log(str(tmp_path), {"key": 1}, refuse), log)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_folder_a_log_is_built():
    log = Filters().apply(LOGS["text"])
    assert cached_log(None, {}, lambda: log) is log


@pytest.mark.parametrize("ids", ["integers", "text"])
def test_a_hit_changes_nothing_and_reads_no_file(tmp_path, monkeypatch, ids):
    rows = ratings() if ids == "integers" else [(f"ü{user}", *rest) for user, *rest in ratings()]
    path, cache = write_ratings(tmp_path / "a.csv", rows), tmp_path / "deep" / "cache"
    built = build(path, cache=str(cache))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(EventFiles, "events", lambda files: refuse())
    found = build(path, cache=str(cache))
    assert found.fingerprints == built.fingerprints
    assert found.describe() == built.describe()
    for name in ("units", "items", "offsets", "item", "part", "start"):
        expected, array = getattr(built.log, name), getattr(found.log, name)
        assert (expected.dtype, expected.tolist()) == (array.dtype, array.tolist())


def test_it_misses_on_other_content_and_settings(tmp_path, csv):
    cache = tmp_path / "cache"
    changes = [
        {},
        {"filters": {"repeats": "first", "threshold": 2}},
        {"filters": {"repeats": "last"}},
        {"filters": {"repeats": "first", "min_unit_count": 2}},
        {"order": "file"},
        {"user_column": "item", "item_column": "user"},
    ]
    for number, change in enumerate(changes, 1):
        cached, plain = build(csv, cache=str(cache), **change), build(csv, **change)
        assert cached.fingerprints == plain.fingerprints
        assert len(list(cache.iterdir())) == number
    write_ratings(Path(csv), ratings(seed=1))
    assert build(csv, cache=str(cache)).fingerprints == build(csv).fingerprints
    assert len(list(cache.iterdir())) == len(changes) + 1
    Path(csv).rename(tmp_path / "renamed.csv")
    build(str(tmp_path / "renamed.csv"), cache=str(cache))  # the same content under another name is a hit
    assert len(list(cache.iterdir())) == len(changes) + 1


@pytest.mark.parametrize("split", ["random", "temporal", "strong"])
def test_all_splits_share_one_filtered_log(tmp_path, csv, split):
    cache = tmp_path / "cache"
    build(csv, cache=str(cache), split="leave_last_out")
    assert build(csv, cache=str(cache), split=split).fingerprints == build(csv, split=split).fingerprints
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"rubbish", "half", "flip"])
def test_a_damaged_file_is_made_anew_with_a_warning(tmp_path, csv, caplog, damage):
    cache = tmp_path / "cache"
    expected = build(csv, cache=str(cache))
    (file,) = cache.iterdir()
    whole = bytearray(file.read_bytes())
    if damage == "half":
        damage = whole[: len(whole) // 2]
    elif damage == "flip":
        whole[whole.find(b"item.npy") + 200] ^= 1
        damage = whole
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "recrun"):
        assert build(csv, cache=str(cache)).fingerprints == expected.fingerprints
    assert "cannot be read" in caplog.text
    assert "made anew" in caplog.text
    caplog.clear()
    build(csv, cache=str(cache))
    assert "cannot be read" not in caplog.text
    assert list(cache.iterdir()) == [file]


class Trap:
    """Executes something when it is unpickled."""

    def __reduce__(self):
        return refuse, ()


def test_nothing_in_a_cache_file_is_executed(tmp_path, caplog):
    log = Filters().apply(LOGS["numbers"])
    cached_log(str(tmp_path), {}, lambda: log)
    (file,) = tmp_path.iterdir()
    np.savez(file, item=np.array([Trap()], object))
    assert_equal(cached_log(str(tmp_path), {}, lambda: log), log)
    assert "made anew" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path, csv, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "recrun"):
        data = build(csv, cache=str(tmp_path / "file" / "cache"))
    assert "are not cached in" in caplog.text
    assert data.fingerprints == build(csv).fingerprints


def test_an_interrupted_write_leaves_no_cache_entry(tmp_path, csv, monkeypatch):
    def broken(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recrun.data.io.cache.np.savez", broken)
    build(csv, cache=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []
