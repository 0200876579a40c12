"""What features cost beside decoding alone and beside librosa called as a user writes it.

    make bench-features ARGS="--clips 'music/*.mp3' --rounds 5"

One thread each; the ways alternate clip by clip, so that a busy machine disturbs all of them alike. Read the ratios.
"""

import functools
import glob
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Annotated

import librosa
import numpy as np
import scipy.stats
import soundfile
import soxr
import typer
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from genre_spark.features import FRAME_SPECS, FeatureSpec, extract_file, resolve_specs
from genre_spark.features.fft import Squares, mkl_fft

STUDY = resolve_specs(["mfcc_mean", "mfcc", "melgram"])
# The study's with the MFCCs at librosa's own rate.
HALF_RATE = [
    FeatureSpec(name="mfcc_mean", kind="mfcc", sample_rate=22_050, n_mfcc=80, summary=("mean",)),
    FeatureSpec(name="mfcc", kind="mfcc", sample_rate=22_050, n_mfcc=80, n_frames=1_250),
    STUDY[2],
]
# What the values of the study's three can't do without, beside decoding: times of the libraries' own calls.
FFT_SIZES = ((44_100, 2_048, 512), (12_000, 512, 256))
OTHERS = [spec for spec in FRAME_SPECS.values() if spec.kind != "fma_518"]


def decode_alone(path: str) -> None:
    soundfile.read(path, dtype="float32")


def librosa_study(path: str) -> None:
    """A feature, a load: three of them."""
    y, rate = librosa.load(path, sr=44_100)
    np.mean(librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80), axis=1)
    y, rate = librosa.load(path, sr=44_100)
    librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80)
    y, rate = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(y=y[:349_440], sr=rate, n_fft=512, hop_length=256, n_mels=96)
    librosa.power_to_db(power)


@functools.lru_cache(maxsize=256)
def mono_of(path: str) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), rate


def resampling_alone(path: str) -> None:
    samples, rate = mono_of(path)
    soxr.resample(samples, rate, 12_000, "HQ")


@functools.lru_cache(maxsize=4)
def frames_of(n_frames: int, n_fft: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n_frames, n_fft), np.float32)


@functools.lru_cache(maxsize=4)
def transform(n_fft: int) -> Squares:
    return Squares(n_fft)


def ffts_alone(path: str) -> None:
    samples, rate = mono_of(path)
    for target, n_fft, hop_length in FFT_SIZES:
        n_frames = 1 + len(samples) * target // rate // hop_length
        for start in range(0, n_frames, 2**17 // n_fft):  # as many frames at a time as fit into the cache
            # A copy, as it may overwrite them: what cuts a signal into frames copies, too.
            transform(n_fft).of(frames_of(2**17 // n_fft, n_fft)[: n_frames - start].copy())


def librosa_half_rate(path: str) -> None:
    y, rate = librosa.load(path, sr=22_050)
    np.mean(librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80), axis=1)
    y, rate = librosa.load(path, sr=22_050)
    librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80)
    y, rate = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(y=y[:349_440], sr=rate, n_fft=512, hop_length=256, n_mels=96)
    librosa.power_to_db(power)


def librosa_fma(path: str) -> None:
    """The calls of FMA's program, and its seven statistics."""
    feature = librosa.feature
    x, sr = librosa.load(path, sr=None, mono=True)
    families = [feature.zero_crossing_rate(x, frame_length=2048, hop_length=512)]
    cqt = np.abs(librosa.cqt(x, sr=sr, hop_length=512, bins_per_octave=12, n_bins=7 * 12, tuning=None))
    cens = feature.chroma_cens(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12)
    families += [feature.chroma_cqt(C=cqt, n_chroma=12, n_octaves=7, bins_per_octave=12), cens]
    families.append(feature.tonnetz(chroma=cens))
    stft = np.abs(librosa.stft(x, n_fft=2048, hop_length=512))
    families += [feature.chroma_stft(S=stft**2, n_chroma=12), feature.rms(S=stft), feature.spectral_centroid(S=stft)]
    families += [feature.spectral_bandwidth(S=stft), feature.spectral_contrast(S=stft, n_bands=6)]
    families.append(feature.spectral_rolloff(S=stft))
    mel = feature.melspectrogram(sr=sr, S=stft**2)
    families.append(feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20))
    for values in families:
        for statistic in (np.mean, np.std, scipy.stats.skew, scipy.stats.kurtosis, np.median, np.min, np.max):
            statistic(values, axis=1)


def librosa_others(path: str) -> None:
    """The other families with librosa's defaults, all from one load."""
    feature = librosa.feature
    y, rate = librosa.load(path, sr=22_050)
    librosa.power_to_db(feature.melspectrogram(y=y, sr=rate))
    for name in ("chroma_stft", "chroma_cqt", "chroma_cens", "tonnetz", "spectral_centroid", "spectral_bandwidth"):
        getattr(feature, name)(y=y, sr=rate)
    for name in ("spectral_contrast", "spectral_rolloff", "tempogram"):
        getattr(feature, name)(y=y, sr=rate)
    for name in ("spectral_flatness", "rms", "zero_crossing_rate"):
        getattr(feature, name)(y=y)
    librosa.onset.onset_strength(y=y, sr=rate)
    for order in (1, 2):
        feature.delta(feature.mfcc(y=y, sr=rate), order=order)


WAYS: dict[str, Callable[[str], object]] = {
    "decoding alone (soundfile)": decode_alone,
    "the study's three: genre_spark": lambda path: extract_file(path, STUDY),
    "the study's three: librosa": librosa_study,
    "of these: resampling to 12 kHz alone (soxr)": resampling_alone,
    f"of these: Fourier transforms alone ({'MKL' if mkl_fft else 'SciPy'})": ffts_alone,
    "with MFCC at 22.05 kHz: genre_spark": lambda path: extract_file(path, HALF_RATE),
    "with MFCC at 22.05 kHz: librosa": librosa_half_rate,
    "FMA's 518 columns: genre_spark": lambda path: extract_file(path, [FRAME_SPECS["fma_518"]]),
    "FMA's 518 columns: librosa": librosa_fma,
    "16 other features: genre_spark": lambda path: extract_file(path, OTHERS),
    "16 other features: librosa": librosa_others,
}


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    most: Annotated[int, typer.Option(help="Clips to take at the most.")] = 10,
    rounds: Annotated[int, typer.Option(help="Times that each clip is taken.")] = 5,
) -> None:
    paths = sorted(glob.glob(clips))[:most]  # noqa: PTH207 (the pattern may be absolute)
    if not paths:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    warnings.filterwarnings("ignore", module="librosa")
    for way in WAYS.values():
        way(paths[0])  # imports, compilation, page cache
    ms: dict[str, list[float]] = {name: [] for name in WAYS}
    with threadpool_limits(1):
        for _ in range(rounds):
            for path in paths:
                for name, way in WAYS.items():
                    start = time.perf_counter()
                    way(path)
                    ms[name].append(1_000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in ms.items()}
    first = next(iter(medians.values()))
    table = Table("one thread", "ms a clip (median)", "times decoding", title=f"{len(paths)} clips, {rounds} rounds")
    for name, median in medians.items():
        table.add_row(name, f"{median:.0f}", f"{median / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
