import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

from genre_spark.features import fft

N_FFTS = [256, 400, 1_102, 2_048]


@pytest.fixture(params=["mkl", "scipy"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "scipy":
        monkeypatch.setattr(fft, "mkl_fft", None)
    elif fft.mkl_fft is None:
        pytest.skip("mkl_fft isn't installed")


def frames(n_fft: int, dtype: type, count: int = 70) -> np.ndarray:
    return np.random.default_rng(n_fft).standard_normal((count, n_fft)).astype(dtype)


def unpacked(squares: np.ndarray) -> np.ndarray:
    """Power of each bin."""
    ends = squares[:, :1], squares[:, -1:]
    return np.concatenate([ends[0], squares[:, 1:-1:2] + squares[:, 2:-1:2], ends[1]], axis=1)


def test_mkl_is_used_where_it_is_installed() -> None:
    assert (fft.mkl_fft is not None) == (importlib.util.find_spec("mkl_fft") is not None)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("n_fft", N_FFTS)
def test_squares_add_up_to_the_power_that_numpy_gives(n_fft: int) -> None:
    signal = frames(n_fft, np.float32)
    power = np.square(np.abs(np.fft.rfft(signal.astype(np.float64))))
    squares = fft.Squares(n_fft).of(signal.copy())
    assert squares.dtype == np.float32
    assert squares.shape == signal.shape
    np.testing.assert_allclose(unpacked(squares), power, rtol=1e-4, atol=1e-5 * power.mean())


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("n_fft", N_FFTS)
def test_spectra_in_double_precision_are_those_of_numpy(n_fft: int) -> None:
    signal = frames(n_fft, np.float64)
    out = np.empty((len(signal), 1 + n_fft // 2), np.complex128)
    assert fft.rfft(signal, out) is out
    np.testing.assert_allclose(out, np.fft.rfft(signal), rtol=0, atol=1e-12 * n_fft)


def _squares(n_fft: int) -> Callable[[np.ndarray], np.ndarray]:
    transform = fft.Squares(n_fft)
    return lambda some: transform.of(some.copy()).copy()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("n_fft", N_FFTS)
def test_a_frame_gives_the_same_bits_among_any_others_and_wherever_it_lies_in_memory(n_fft: int) -> None:
    signal = frames(n_fft, np.float32)
    of = _squares(n_fft)
    whole = of(signal)
    for start, stop in [(0, 1), (1, 2), (3, 70), (0, 8), (64, 70)]:
        np.testing.assert_array_equal(of(signal[start:stop]), whole[start:stop])
    for offset in (1, 3, 8):
        moved = np.empty(signal.size + offset, np.float32)[offset:].reshape(signal.shape)
        moved[:] = signal
        np.testing.assert_array_equal(fft.Squares(n_fft).of(moved), whole)
