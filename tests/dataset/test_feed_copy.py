import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_spark.dataset.feed_copy import RowCopier, span

WIDE = 2**16  # 256 kB a row: enough for a thread


@given(
    threads=st.integers(0, 4), count=st.integers(1, 12), is_moved=st.booleans(), is_mixed=st.booleans(),
    size=st.sampled_from([1, 7, WIDE]), seed=st.integers(0, 9),
)  # fmt: skip
def test_each_row_comes_to_its_place_and_no_other_is_touched(threads, count, is_moved, is_mixed, size, seed):
    random = np.random.default_rng(seed)
    source = random.standard_normal((20, size), np.float32)
    target = np.zeros((30, size), np.float32)
    numbers = random.permutation(20)[:count] if is_mixed else np.arange(3, 3 + count)
    places = random.permutation(30)[:count] if is_moved else np.arange(5, 5 + count)
    expected = target.copy()
    for place, number in zip(places, numbers, strict=True):
        expected[place] = source[number]
    copier = RowCopier(threads)
    copier.copy(target, places, source, numbers)
    copier.close()
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 5, 9])
def test_one_value_that_is_no_number_is_found_wherever_it_is(threads: int, bad: float, row: int) -> None:
    rows = np.ones((10, WIDE), np.float32)
    copier = RowCopier(threads)
    assert copier.are_finite(rows)
    rows[row, WIDE // 3] = bad
    assert not copier.are_finite(rows)
    copier.close()


def test_its_threads_end_with_it_and_it_works_on_without_them() -> None:
    before = threading.active_count()
    copier = RowCopier(3)
    rows = np.ones((10, WIDE), np.float32)
    assert copier.are_finite(rows)
    assert threading.active_count() > before
    copier.close()
    assert threading.active_count() == before
    assert copier.are_finite(rows)


def test_neighbours_are_a_slice() -> None:
    assert span(np.array([4, 5, 6])) == slice(4, 7)
    np.testing.assert_array_equal(span(np.array([4, 6])), [4, 6])
