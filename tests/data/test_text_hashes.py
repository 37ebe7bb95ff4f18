"""Hashes of text by array operations are those of pandas, by which rows are known."""

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.data.text_hashes import hash_texts


@settings(max_examples=50, derandomize=True, database=None, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=20),
    st.integers(0, 3),
)
def test_texts_are_hashed_as_pandas_does(texts, start):
    expected = pd.util.hash_array(np.array(texts, dtype=object), categorize=False)
    array = pa.array(["before", "a", "é", *texts], pa.string())[3:][min(start, len(texts)) :]
    assert hash_texts(array).tolist() == expected[start:].tolist()


def test_a_text_of_any_length_is_hashed_as_pandas_does():
    texts = [letter * length for length in (*range(20), 255, 256, 800) for letter in "aé𝄞"]
    expected = pd.util.hash_array(np.array(texts, dtype=object), categorize=False)
    assert hash_texts(pa.array(texts)).tolist() == expected.tolist()
