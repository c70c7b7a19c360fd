"""Splits written as files hold the same training events, units, inputs and targets when they are read back."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from worlds.events import lists, raw_events
from worlds.plain_log import CASES, NAMES, ROWS, made_of, raw_of

from recrun.data.events import splits
from recrun.data.events.filters import Filters
from recrun.data.events.log import EventLog
from recrun.data.events.queries import next_item_queries, rankings
from recrun.data.events.split_files import SplitFiles, differences
from recrun.data.events.split_log import CODES, divide
from recrun.errors import ConfigError, DataError
from recrun.experiments.write_split import read_back


def split_files(rows, case):
    _, order, unit, parts = case
    made = made_of(rows, case)
    log = Filters().apply(raw_of(rows, unit, parts), unit, order)
    return None if made is None or not isinstance(log, EventLog) else SplitFiles(log, made, unit)


def evaluated(made, split):
    """{unit id: (input, seen, targets)} by item ids as text; of sessions that share an id, the sorted list of all."""
    found, names = rankings(made, split), [str(name) for name in made.items.tolist()]
    rows = zip(found.ids.tolist(), *map(lists, (found.inputs, found.seen, found.targets)), strict=True)
    named = [(str(unit), *([names[item] for item in row] for row in ragged)) for unit, *ragged in rows]
    return sorted((unit, inputs, seen, sorted(targets)) for unit, inputs, seen, targets in named)


def trained(made):
    names = [str(name) for name in made.items.tolist()]
    rows = zip(made.units.tolist(), lists(made.train), strict=True)
    return sorted((str(unit), [names[item] for item in row]) for unit, row in rows if row)


def predicted(made, split):
    """(input, target) of every held-out event, by item ids."""
    found, names = next_item_queries(made, split), [str(name) for name in made.items.tolist()]
    inputs = [[names[item] for item in row] for row in lists(found.prefixes(0, len(found)))]
    return sorted(zip(inputs, [names[item] for item in found.target.tolist()], strict=True))


@pytest.mark.parametrize("form", ["tsv", "inter"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
@given(rows=ROWS)
@settings(max_examples=6, deadline=None)
def test_what_is_read_back_is_what_was_split(case, form, rows):
    files = split_files(rows, case)
    if files is None or not all((files.made.part == part).any() for part in (0, 2)):
        return  # nothing to train on, or no test events: files of a split have both
    with TemporaryDirectory() as folder:
        files.write(Path(folder), form)
        back = read_back(Path(folder), files.keys())
    assert trained(back) == trained(files.made)
    for split in CODES:
        assert evaluated(back, split) == evaluated(files.made, split)
        assert predicted(back, split) == predicted(files.made, split)
    assert differences(files.made, back) in ([], ["catalogue"])
    missing = files.without_events()[1]
    assert (differences(files.made, back) == ["catalogue"]) == (missing > 0)


SESSIONS = [(number, item, time, 0) for number in range(9) for item, time in ((number % 4, number), (4, number + 1))]
SESSIONS += [(number, (number + 2) % 6, number + 1, 0) for number in range(9)]  # at the time of the event before


@pytest.mark.parametrize(
    "split",
    [
        splits.Random(),
        splits.Strong(heldout_users=2, min_events=1),
        splits.LeaveLastOut(),
        splits.Temporal(valid_fraction=0.2, test_fraction=0.2),
        splits.LastDays(test_days=0.5, valid_days=0.5),
        splits.LatestFraction(test_fraction=0.3, valid_fraction=0.3),
    ],
    ids=lambda split: type(split).__name__,
)
def test_sessions_whose_events_are_in_several_files_stay_one_unit(split, tmp_path):
    case = (split, "time", "session", False)
    files = split_files(SESSIONS, case)
    files.write(tmp_path, "tsv")
    back = read_back(tmp_path, files.keys())
    assert trained(back) == trained(files.made)
    for part in CODES:
        assert evaluated(back, part) == evaluated(files.made, part)
        assert predicted(back, part) == predicted(files.made, part)
    if not files.made.counts.get("events_after_a_cut"):  # else the log had events that no file has
        assert back.fingerprint() == files.made.fingerprint()


def small(split, times=(10, 20, 30.5, 40, 50, 60), items="abcade"):
    raw = raw_events(list(zip("uuuuvv", items, strict=True)), times)
    log = Filters().apply(raw, "user", "time")
    return SplitFiles(log, divide(log, split), "user")


def test_the_files_by_hand(tmp_path):
    rows = small(splits.LeaveLastOut()).write(tmp_path, "tsv")
    assert rows == {"train.tsv": 4, "valid.tsv": 1, "test.tsv": 1, "units/valid.tsv": 1, "units/test.tsv": 1}
    assert (tmp_path / "train.tsv").read_text().splitlines() == [
        "user_id\titem_id\ttimestamp\torder",
        "u\ta\t10.0\t0",
        "u\tb\t20.0\t1",
        "v\td\t50.0\t4",
        "v\te\t60.0\t5",
    ]
    assert (tmp_path / "test.tsv").read_text().splitlines()[1:] == ["u\ta\t40.0\t3"]
    assert (tmp_path / "units" / "test.tsv").read_text().splitlines() == [
        "user_id\tinput\tseen\ttargets",
        "u\ta b c\ta b c\ta",
    ]


def test_recbole_files_have_typed_headers_and_the_name_of_the_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    small(splits.LeaveLastOut(), times=range(6)).write(folder, "inter")
    text = (folder / "mine.train.inter").read_text()
    assert text.splitlines()[:2] == ["user_id:token\titem_id:token\ttimestamp:float\torder:float", "u\ta\t0\t0"]


def test_ids_that_a_table_cannot_hold_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"item id 'x\\ty' holds a tab"):
        small(splits.LeaveLastOut(), items=["a", "x\ty", "c", "a", "d", "e"]).write(tmp_path, "tsv")


def test_items_with_blanks_are_separated_by_something_else(tmp_path):
    small(splits.LeaveLastOut(), items=["a 1", "b", "c", "a 1", "d", "e"]).write(tmp_path, "tsv")
    assert (tmp_path / "units" / "test.tsv").read_text().splitlines()[1] == "u\ta 1|b|c\ta 1|b|c\ta 1"


def test_differences_are_named():
    one, other = small(splits.LeaveLastOut()), small(splits.LeaveLastOut(test_input="train"))
    assert differences(one.made, other.made) == ["inputs of test units"]
    moved = small(splits.LeaveLastOut(), items="abcadb")
    assert "training events" in differences(one.made, moved.made)
    assert "catalogue" in differences(one.made, moved.made)


def test_units_that_were_in_two_files_are_not_held_out_whole_when_one_file_is_left(tmp_path):
    """Of u, the event of an item that nobody trained on is in no file; its others are in valid alone."""
    events = [("u", "x"), ("u", "a"), ("u", "a"), ("v", "a")]
    raw = raw_events(events, [1, 2, 3, 4], [2, 1, 1, 0])
    log = Filters().apply(raw, "user", "time")
    files = SplitFiles(log, divide(log, splits.Provided(catalogue="train")), "user")
    assert not files.made.assignment.whole_units
    files.write(tmp_path, "tsv")
    assert evaluated(read_back(tmp_path, files.keys()), "valid") == evaluated(files.made, "valid") == []
    with pytest.raises(ConfigError, match="hold_out_units=true needs events in order, and each unit's in one file"):
        divide(log, splits.Provided(hold_out_units=True))
