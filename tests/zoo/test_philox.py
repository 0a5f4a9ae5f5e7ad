import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zoo.engines.philox import BATCH_ORDER, DROPOUT, batch_order, keep_mask, philox4x32, random_words, uniforms

# Known answers of the authors' Random123 library (kat_vectors, philox4x32-10): counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    words = philox4x32(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    assert tuple(int(word) for word in words) == expected


@given(st.integers(0, 2**63 - 1), st.integers(1, 100), st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 50))
def test_a_word_depends_on_its_own_counter_only(seed, epoch, step, n, m):
    """Neither on how many are asked, nor on the models beside."""
    alone = random_words(torch.tensor([seed]), BATCH_ORDER, epoch, step, n)[0]
    beside = random_words(torch.tensor([seed // 2, seed]), BATCH_ORDER, epoch, step, m)[1]
    assert torch.equal(alone[: min(n, m)], beside[: min(n, m)])


def test_streams_differ_in_every_coordinate():
    seeds = torch.tensor([1, 2, 2**40 + 1])
    streams = [
        random_words(seeds, purpose, epoch, step, 64)[i]
        for i in range(3) for purpose in (BATCH_ORDER, DROPOUT) for epoch in (1, 2) for step in (0, 1)
    ]  # fmt: skip
    assert len({tuple(stream.tolist()) for stream in streams}) == len(streams)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 300))
def test_batch_order_is_a_permutation(seed, epoch, n):
    assert sorted(batch_order(torch.tensor([seed]), epoch, n)[0].tolist()) == list(range(n))


def test_batch_order_is_uniform():
    """Chi-squared over all 24 orders of four images."""
    orders = batch_order(torch.arange(4800), 1, 4)
    counts = np.unique(orders.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_keep_mask_has_each_models_probability_and_is_independent_between_models():
    p = torch.tensor([0.0, 0.3, 0.5, 0.9], dtype=torch.float64)
    keep = keep_mask(torch.tensor([1, 2, 3, 4]), 1, 2, 3, 40_000, p).double()
    assert (keep[0] == 1).all()
    for row, drop in zip(keep[1:], p[1:]):
        assert stats.binomtest(int(row.sum()), 40_000, 1 - drop.item()).pvalue > 1e-4
    correlations = np.corrcoef(keep[1:].numpy())
    assert abs(correlations[np.triu_indices(3, 1)]).max() < 4 / 40_000**0.5


def test_uniforms():
    values = uniforms(torch.tensor([7]), 1, 0, 20_000)[0]
    assert 0 <= values.min() <= values.max() < 1
    assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-4
