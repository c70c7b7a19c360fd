"""Ids are any text: each comes back from lines of a file and from arrays as itself, or is refused where it cannot."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.errors import DataError
from recrun.runtime.escapes import as_lines, escaped, from_lines, in_array, in_cells, unescaped

TEXTS = st.text(st.sampled_from("a\\tnr\t\n\r\0\x0c\x1c\x85\u2028é"), max_size=6)


@given(st.lists(TEXTS))
def test_every_text_survives_in_lines(values):
    text = as_lines(values)
    assert text.count("\n") == len(values)
    assert "\r" not in text  # which a file of text would not give back
    assert from_lines(text).tolist() == values


@given(TEXTS)
def test_an_escaped_text_is_one_cell(value):
    assert not set(escaped(value)) & set("\t\n\r")
    assert unescaped(escaped(value)) == value


@given(st.sets(TEXTS))
def test_texts_in_an_array_stay_apart(values):
    file = io.BytesIO()
    np.savez(file, ids=in_array(np.array(sorted(values), object)))
    file.seek(0)
    ids = np.load(file, allow_pickle=False)["ids"].tolist()
    assert len(set(ids)) == len(values)
    if not any(value.endswith("\0") for value in values):
        assert ids == sorted(values)


def test_nul_at_the_end_by_hand():
    assert in_array(np.array(["a", "a\0", "b\\"], object)).tolist() == ["a", "a\\0", "b\\\\"]


@pytest.mark.parametrize("sign", "\t\n\r")
def test_what_would_not_stay_in_a_cell_is_refused(sign):
    assert in_cells(np.array([7, 8]), "item").tolist() == ["7", "8"]
    with pytest.raises(DataError, match=r"item id 'a.*b' holds a tab or a line break"):
        in_cells(np.array(["x", f"a{sign}b"]), "item")
