"""Texts are found where a list has them, by the dictionary and by pandas' index alike."""

import numpy as np
import pandas  # noqa: F401  # whose import is longer than a deadline
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recrun.data.io import positions as module
from recrun.data.io.positions import positions


@pytest.mark.parametrize("few", [0, 10**9])
@given(texts=st.lists(st.text(max_size=3), max_size=9), known=st.lists(st.text(max_size=3), max_size=9, unique=True))
def test_each_text_is_where_the_list_has_it(few, texts, known):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", few)
        for names in (known, np.array([*known, None], object)[:-1]):
            found = positions(np.array([*texts, None], object)[:-1], names)
            assert found.tolist() == [known.index(text) if text in known else -1 for text in texts]
