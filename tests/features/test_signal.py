"""Signals at another rate: librosa's samples, and as many."""

import librosa
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genre_spark.features.signal import resampled

RATES = st.one_of(
    st.sampled_from([8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]),
    st.integers(4_000, 100_000),
)


@given(length=st.integers(1, 20_000), rate=RATES, target_rate=RATES)
# librosa rounds the ratio before it multiplies: of these lengths that makes one sample more.
@example(length=110_250, rate=11_025, target_rate=12_000)
@example(length=441_000, rate=44_100, target_rate=12_000)
@settings(max_examples=150, deadline=None)
def test_a_signal_of_any_length_at_any_rate_has_librosas_samples(length: int, rate: int, target_rate: int) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    np.testing.assert_array_equal(
        resampled(samples, rate, target_rate), librosa.resample(samples, orig_sr=rate, target_sr=target_rate)
    )


def test_no_length_that_a_ratio_rounds_up_differs_from_librosas() -> None:
    rates = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
    cases = [
        (rate, target_rate, length)
        for rate in rates
        for target_rate in rates
        for length in (*range(1_000, 1_100), *range(rate, 31 * rate, rate))
        if int(np.ceil(length * target_rate / rate)) != int(np.ceil(length * (target_rate / rate)))
    ]
    assert len(cases) > 20, "no case is one that is meant"
    for rate, target_rate, length in sorted(cases, key=lambda case: case[2])[:20]:
        samples = np.zeros(length, np.float32)
        wanted = librosa.resample(samples, orig_sr=rate, target_sr=target_rate)
        assert len(resampled(samples, rate, target_rate)) == len(wanted), (rate, target_rate, length)
