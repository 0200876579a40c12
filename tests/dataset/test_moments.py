import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from genre_spark.dataset.moments import Moments, merge_all

# Means and spreads of rows: an MFCC's, a large mean with a small spread, nearly zero, constant ones.
LEVELS = np.array([-200.0, 1e6, 0.0, 0.1, 1e-20, 0.0])
SPREADS = np.array([30.0, 1e-3, 1e-6, 0.0, 0.0, 0.0])


def tensors(seed: int, count: int, frames: int = 5) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(count, len(LEVELS), frames))
    return LEVELS[:, None] + SPREADS[:, None] * x


def in_parts(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return [part for part in np.split(values, sorted(cut % len(values) for cut in cuts)) if len(part)]


def assert_same(found: Moments, wanted: Moments) -> None:
    assert found.n == wanted.n
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-13, atol=1e-13 * SPREADS.max())
    # A mean is known to its last bit, and with that precision the squares.
    rounding = 10 * np.finfo(np.float64).eps * np.abs(LEVELS)
    bound = (
        found.n * (rounding * (SPREADS + rounding)).reshape(-1, *[1] * (found.squares.ndim - 1))
        + 1e-12 * wanted.squares
    )
    assert (np.abs(found.squares - wanted.squares) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 40, 90]], ids=str)
def test_mean_and_scale_over_time_equal_scikit_learns_in_float64(dtype, cuts):
    x = tensors(1, 100).astype(dtype)
    rows = np.moveaxis(x, 1, -1).reshape(-1, len(LEVELS)).astype(np.float64)
    reference = StandardScaler().fit(rows)
    found = merge_all(Moments.of(part) for part in in_parts(x, cuts))
    assert found.n == len(rows)
    np.testing.assert_allclose(found.mean, reference.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.scale, reference.scale_, rtol=1e-6)
    assert found.mean.dtype == found.squares.dtype == np.float64


@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 40, 90]], ids=str)
def test_mean_and_scale_of_cells_equal_scikit_learns_in_float64(cuts):
    x = tensors(2, 100)
    reference = StandardScaler().fit(x.reshape(len(x), -1))
    found = merge_all(Moments.of(part, "cell") for part in in_parts(x, cuts))
    assert found.n == 100
    np.testing.assert_allclose(found.mean.reshape(-1), reference.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.scale.reshape(-1), reference.scale_, rtol=1e-6)


@pytest.mark.parametrize("per", ["band", "cell"])
def test_tensors_without_time_have_a_mean_per_value(per):
    x = tensors(3, 50)[:, :, 0]
    reference = StandardScaler().fit(x)
    found = Moments.of(x, per)
    np.testing.assert_allclose(found.mean, reference.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.scale, reference.scale_, rtol=1e-6)


def test_a_large_mean_takes_nothing_from_a_small_variance():
    x = np.random.default_rng(4).normal(size=(400, 1, 50))
    far = 1e8 + 1e-2 * x
    exact = np.longdouble(far)
    wanted = np.square(exact - exact.mean()).mean()
    found = merge_all(Moments.of(part) for part in in_parts(far, list(range(0, 400, 7))))
    np.testing.assert_allclose(found.variance, np.float64(wanted), rtol=1e-6)
    # The textbook's difference of two sums can't: this is what the parts are merged for.
    naive = np.square(far).mean() - far.mean() ** 2
    assert abs(naive / float(wanted) - 1) > 0.5


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_constant_values_have_scale_one_however_they_are_merged(count):
    x = np.broadcast_to(np.array([0.1, 1e6, 0.0])[:, None], (count, 3, 7))
    for parts in ([x], in_parts(x, list(range(count)))):
        for per in ("band", "cell"):
            np.testing.assert_array_equal(merge_all(Moments.of(part, per) for part in parts).scale, 1)


@given(
    seed=st.integers(0, 1000),
    sizes=st.tuples(*[st.integers(1, 20)] * 3),
    frames=st.integers(1, 6),
    per=st.sampled_from(["band", "cell"]),
)
def test_merging_is_associative_and_commutative_but_for_rounding(seed, sizes, frames, per):
    a, b, c = (Moments.of(tensors(seed + number, size, frames), per) for number, size in enumerate(sizes))
    left = a.merged(b).merged(c)
    assert_same(a.merged(b.merged(c)), left)
    assert_same(c.merged(a).merged(b), left)


@given(seed=st.integers(0, 1000), count=st.integers(1, 60), cuts=st.lists(st.integers(0, 100), max_size=6))
def test_parts_give_what_the_whole_gives(seed, count, cuts):
    x = tensors(seed, count)
    for per in ("band", "cell"):
        assert_same(merge_all(Moments.of(part, per) for part in in_parts(x, cuts)), Moments.of(x, per))


def test_nothing_merged_with_something_changes_nothing():
    some = Moments.of(tensors(5, 3))
    nothing = Moments(0, np.zeros(len(LEVELS)), np.zeros(len(LEVELS)))
    assert some.merged(nothing) is some
    assert nothing.merged(some) is some


def test_the_same_parts_in_the_same_order_give_the_same_bits():
    parts = in_parts(tensors(6, 90), [10, 20, 50])
    first, second = (merge_all(Moments.of(part) for part in parts) for _ in range(2))
    assert first.squares.tobytes() == second.squares.tobytes()
    assert first.mean.tobytes() == second.mean.tobytes()
