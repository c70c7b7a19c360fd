"""Side tables of users and items: read as tables are, told apart from those that do not fit, kept in a run's lines."""

import gzip
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recrun.data.events.side_reader import read_side
from recrun.data.events.side_tables import SideFields, SideTable, encode
from recrun.errors import ConfigError, DataError
from recrun.runtime.escapes import as_lines, from_lines

IDS = np.array(["000", "001", "002", "003", "004"], object)
YEAR = SideFields("item", ["id", "year"])


def encoded(side, names=None, ids=IDS):
    return encode(side, ids, np.ones(len(ids), bool), YEAR, names)


def years(made):
    return [made.names[value] for value in made.values["sparse"][:, 1].tolist()]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet"])
def test_one_table_in_any_kind_of_file(tmp_path, kind):
    table = pd.DataFrame({"item": IDS, "year": ["1990", "", "NA", "1990", "1991"]})
    path = tmp_path / f"items.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        text = table.to_csv(index=False, sep="\t" if kind == "tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    made = encoded(read_side(str(path), None, "item_table"))
    assert years(made) == ["year=1990", "year=", "year=NA", "year=1990", "year=1991"]
    assert made.absent == 0


def test_blanks_after_a_separator_do_not_count_and_blanks_before_it_are_told(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item, year\n" + "".join(f"{item}, 199{at}\n" for at, item in enumerate(IDS)))
    assert years(encoded(read_side(str(path), None, "item_table"))) == [f"year=199{at}" for at in range(5)]
    path.write_text("item , year\n" + "".join(f"{item} , 1990\n" for item in IDS))
    side = read_side(str(path), None, "item_table")
    told = r"items.csv describes 0 of 5 items: '000' is not there, nor any other; its ids are like '000 ' .*item_table"
    with pytest.raises(DataError, match=told):
        encoded(side)


def test_a_table_that_lacks_most_is_told_and_one_that_lacks_some_is_not(caplog):
    with caplog.at_level(logging.WARNING):
        assert encoded(SideTable("some", IDS[:3], {"year": IDS[:3]})).absent == 2
        assert not caplog.text
        made = encoded(SideTable("few", IDS[1:3], {"year": IDS[1:3]}))
    assert made.absent == 3
    assert "few describes 2 of 5 items: '000' is not there" in caplog.text
    new = np.array(["x", "y"], object)  # of new items a run may know nothing
    assert encoded(SideTable("few", IDS[1:3], {"year": IDS[1:3]}), made.names, new).absent == 2


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab=\\\t\n\r é?"), max_size=3), min_size=5, max_size=5))
def test_any_value_is_kept_in_lines_and_known_again(values):
    side = SideTable("t", IDS, {"year": np.array(values, object)})
    made = encoded(side)
    kept = from_lines(as_lines(made.names))
    assert "\r" not in as_lines(made.names)  # which a file of text would not give back
    again = encoded(side, kept)
    assert again.names.tolist() == made.names.tolist()
    assert again.values["sparse"].tolist() == made.values["sparse"].tolist()
    assert len(set(again.values["sparse"][:, 1].tolist())) == len(set(values))


def test_fields_and_lists_by_hand():
    side = SideTable("t", np.array(["x", "y", "z"], object), {"age": np.array(["3", "", "5"], object)})
    side.columns["tags"] = np.array(["b a", "", "c"], object)
    ids, known = np.array(["y", "x", "z", "w"], object), np.array([True, True, False, True])
    made = encode(side, ids, known, SideFields("item", ["id", "age"], ["tags"]))
    # Of z training knows nothing: its values are unknown. A missing age is a value, an absent row is unknown.
    assert made.names.tolist() == [
        "id=?",
        "id=w",
        "id=x",
        "id=y",
        "age=?",
        "age=",
        "age=3",
        "tags=?",
        "tags=a",
        "tags=b",
    ]
    assert made.values["sparse"].tolist() == [[3, 5], [2, 6], [0, 4], [1, 4]]
    assert made.values["tags_offsets"].tolist() == [0, 0, 2, 3, 3]
    assert made.values["tags"].tolist() == [9, 8, 7]
    assert made.absent == 1
    assert [(field.name, field.first, field.size) for field in made.features.fields] == [("id", 0, 4), ("age", 4, 3)]
    assert made.features.n_ids == 10


@pytest.mark.parametrize(("lists", "name"), [(["sparse"], "sparse"), (["tags", "tags_offsets"], "tags_offsets")])
def test_a_list_cannot_take_the_place_of_something_else_in_a_batch(lists, name):
    side = SideTable("t", IDS, dict.fromkeys(lists, IDS))
    with pytest.raises(ConfigError, match=rf"item_lists: '{name}' is what a batch calls something else; rename"):
        encode(side, IDS, np.ones(5, bool), SideFields("item", ["id"], lists))


def test_a_column_may_have_an_equals_sign_in_its_name():
    side = SideTable("t", IDS, {"a": IDS, "a=b": IDS})
    wanted = SideFields("item", ["a", "a=b"])
    made = encode(side, IDS, np.ones(5, bool), wanted)
    assert encode(side, IDS, np.ones(5, bool), wanted, made.names).names.tolist() == made.names.tolist()
