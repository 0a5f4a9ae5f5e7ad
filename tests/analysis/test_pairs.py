"""Measures of all pairs, in blocks, against a plain loop over pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.measures.pairs import all_pairs


@given(st.integers(0, 9), st.integers(1, 10))
def test_blocks_are_the_plain_loop(n, block):
    found = all_pairs(n, lambda i, j: 100 * np.arange(n)[i, None] + np.arange(n)[j], block)
    assert found.tolist() == [100 * i + j for i in range(n) for j in range(i + 1, n)]
    assert found.dtype == np.float32
