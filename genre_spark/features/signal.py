"""A signal at one rate and length, and what several features share of its analysis."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import soxr

from genre_spark.features.bands import BandEnergies, BandGroup, band_groups, power_to_db
from genre_spark.features.chroma import chroma_bank
from genre_spark.features.mel import mel_bank
from genre_spark.features.pitch import SpectralPeaks
from genre_spark.features.spectral import (
    PerFrame,
    centroid_and_bandwidth,
    flatness,
    mean_power,
    peaks_and_valleys,
    rolloff,
)  # fmt: skip
from genre_spark.features.stft import Consumer, Framing, analyse


class Need(NamedTuple):
    """Something that comes out of a pass over the blocks of an STFT; equal needs are computed once.

    `kind` is one of `mel_for_mfcc` (dB; single precision suffices for 2e-3 in a coefficient), `mel` (dB), `chroma`,
    `peaks`, `moments`, `rolloff`, `flatness`, `contrast`, `energy`; `arguments` are those of its consumer.
    """

    kind: str
    framing: Framing
    arguments: tuple = ()


_IN_SINGLE_PRECISION = ("mel_for_mfcc", "chroma")


def resampled(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Signal at another rate: `librosa.resample` with its default, soxr's high quality."""
    if rate == target_rate:
        return samples
    # librosa multiplies by the ratio, rounded before: of some lengths that makes one sample more.
    length = int(np.ceil(len(samples) * (float(target_rate) / rate)))
    return fitted(soxr.resample(samples, rate, target_rate, "HQ"), length)


def fitted(samples: np.ndarray, size: int) -> np.ndarray:
    """Signal of `size` samples: cut, or zeros behind it."""
    return samples[:size] if len(samples) >= size else np.pad(samples, (0, size - len(samples)))


@functools.lru_cache(maxsize=32)
def _mel_groups(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> tuple[BandGroup, ...]:
    return band_groups(mel_bank(sample_rate, n_fft, n_mels, fmin, fmax))


class Signal:
    """Samples, and each intermediate result once, whoever asks for it.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,), dtype=float32]
        Mono.
    sample_rate : int
        In Hz.
    needs : iterable of Need
        What is going to be asked for: it is computed here, in as few passes as possible.
    """

    def __init__(self, samples: np.ndarray, sample_rate: int, needs: Iterable[Need]) -> None:
        self.samples = samples
        self.sample_rate = sample_rate
        self._results: dict[Need, Any] = {}
        self._shared: dict[tuple, Any] = {}
        wanted = list(dict.fromkeys(needs))
        # Double precision first: it tells the tuning, which the chroma's filters want.
        for single in (False, True):
            now = [need for need in wanted if (need.kind in _IN_SINGLE_PRECISION) is single]
            for framing in dict.fromkeys(need.framing for need in now):
                self._analyse(framing, [need for need in now if need.framing == framing], single=single)

    def result(self, need: Need) -> Any:
        """What came of a need: an array, or the `SpectralPeaks`."""
        return self._results[need]

    def once(self, key: tuple, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Result of `compute`, called the first time that `key` is asked for."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def _analyse(self, framing: Framing, needs: list[Need], *, single: bool) -> None:
        consumers = {need: self._consumer(need) for need in needs}
        of_squares = [need for need in needs if need.kind in ("mel", "mel_for_mfcc", "chroma")]
        analyse(
            self.samples,
            framing,
            single=single,
            squares=[consumers[need] for need in of_squares],
            magnitudes=[consumers[need] for need in needs if need not in of_squares],
        )
        for need, consumer in consumers.items():
            result: Any = consumer
            if isinstance(consumer, BandEnergies):
                result = consumer.energies if need.kind == "chroma" else power_to_db(consumer.energies)
            elif isinstance(consumer, PerFrame):
                result = consumer.values
            self._results[need] = result

    def _consumer(self, need: Need) -> Consumer:
        n_fft, n_frames = need.framing.n_fft, need.framing.n_frames(len(self.samples))
        match need.kind:
            case "mel" | "mel_for_mfcc":
                return BandEnergies(_mel_groups(self.sample_rate, n_fft, *need.arguments), n_frames)
            case "chroma":
                sample_rate, n_chroma, tuning = need.arguments
                if tuning is None:
                    peaks = self._results[Need("peaks", need.framing, (sample_rate, 2))]
                    tuning = peaks.tuning(n_chroma)
                return BandEnergies(band_groups(chroma_bank(sample_rate, n_fft, n_chroma, tuning)), n_frames)
            case "peaks":
                sample_rate, power = need.arguments
                return SpectralPeaks(sample_rate, n_fft, power)
            case "moments":
                return PerFrame(centroid_and_bandwidth(need.arguments[0], n_fft), 2, n_frames)
            case "rolloff":
                sample_rate, roll_percent = need.arguments
                return PerFrame(rolloff(sample_rate, n_fft, roll_percent), 1, n_frames)
            case "contrast":
                sample_rate, fmin, n_bands, quantile = need.arguments
                function = peaks_and_valleys(sample_rate, n_fft, fmin, n_bands, quantile)
                return PerFrame(function, 2 * (n_bands + 1), n_frames)
            case "flatness":
                return PerFrame(flatness, 1, n_frames)
            case "energy":
                return PerFrame(mean_power, 1, n_frames)
        raise AssertionError(need)
