"""The study's three features with different libraries, each set up as near to librosa's values as it goes.

A function per library: path -> `mfcc_mean`, `mfcc` and `melgram` as librosa shapes them; what can't be had is left out.
The libraries are imported inside, for the processes to pay for what they use.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

RATE, MELGRAM_RATE, MELGRAM_SAMPLES = 44_100, 12_000, 349_440

Features = dict[str, np.ndarray]


def genre_spark_features(path: str) -> Features:
    from genre_spark.features import extract_file

    return extract_file(path, ["mfcc_mean", "mfcc", "melgram"])


def librosa_features(path: str) -> Features:
    import librosa

    y, rate = librosa.load(path, sr=RATE)
    mfcc = librosa.feature.mfcc(y=y, sr=rate, n_mfcc=80)
    y, rate = librosa.load(path, sr=MELGRAM_RATE)
    power = librosa.feature.melspectrogram(y=y[:MELGRAM_SAMPLES], sr=rate, n_fft=512, hop_length=256, n_mels=96)
    return {"mfcc_mean": np.mean(mfcc, axis=1), "mfcc": mfcc, "melgram": librosa.power_to_db(power)}


def torchaudio_features(path: str) -> Features:
    """One decode, with soundfile: torchaudio itself decodes with torchcodec, which wants FFmpeg's libraries."""
    import soundfile
    import torch

    mfcc_of, resample, mel, decibels = _torchaudio_transforms()
    samples, _ = soundfile.read(path, dtype="float32")
    signal = torch.from_numpy(samples).mean(dim=1)
    with torch.inference_mode():
        mfcc = mfcc_of(signal).numpy()
        melgram = decibels(mel(resample(signal)[:MELGRAM_SAMPLES])).numpy()
    return {"mfcc_mean": mfcc.mean(axis=1), "mfcc": mfcc, "melgram": melgram}


@functools.cache
def _torchaudio_transforms() -> tuple[Any, ...]:
    import torch
    from torchaudio.transforms import MFCC, AmplitudeToDB, MelSpectrogram, Resample

    torch.set_num_threads(1)
    like_librosa = {"norm": "slaney", "mel_scale": "slaney", "pad_mode": "constant"}
    return (
        MFCC(RATE, n_mfcc=80, melkwargs={"n_fft": 2048, "hop_length": 512, "n_mels": 128, **like_librosa}),
        Resample(RATE, MELGRAM_RATE),
        MelSpectrogram(MELGRAM_RATE, n_fft=512, hop_length=256, n_mels=96, **like_librosa),
        AmplitudeToDB("power", top_db=80),
    )


def essentia_features(path: str) -> Features:
    """Two loads, each with essentia's resampler (libsamplerate); decibels and cosine transform in NumPy and SciPy."""
    import essentia.standard as es
    import scipy.fft

    mel = _essentia_mel(es.MonoLoader(filename=path, sampleRate=RATE)(), RATE, 2048, 512, 128)
    mfcc = scipy.fft.dct(_decibels(mel), axis=0, norm="ortho")[:80]
    samples = es.MonoLoader(filename=path, sampleRate=MELGRAM_RATE)()[:MELGRAM_SAMPLES]
    melgram = _decibels(_essentia_mel(samples, MELGRAM_RATE, 512, 256, 96))
    return {"mfcc_mean": mfcc.mean(axis=1), "mfcc": mfcc, "melgram": melgram}


def _essentia_mel(samples: np.ndarray, rate: int, n_fft: int, hop: int, n_mels: int) -> np.ndarray:
    import essentia.standard as es

    window = es.Windowing(type="hann", size=n_fft, normalized=False, zeroPhase=False, symmetric=False)
    power = es.PowerSpectrum(size=n_fft)
    # Slaney's triangles, of equal area: librosa's.
    bands = es.MelBands(
        inputSize=n_fft // 2 + 1, sampleRate=rate, highFrequencyBound=rate / 2, numberBands=n_mels, type="magnitude",
        warpingFormula="slaneyMel", weighting="linear", normalize="unit_tri",
    )  # fmt: skip
    frames = es.FrameGenerator(samples, frameSize=n_fft, hopSize=hop, startFromZero=False)
    return np.array([bands(power(window(frame))) for frame in frames]).T


def _decibels(power: np.ndarray) -> np.ndarray:
    values = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(values, values.max() - 80)


def lhotse_mfcc(path: str) -> Features:
    """Kaldi's MFCCs alone, with librosa's frames: the nearest that lhotse has, on a scale of their own."""
    import lhotse

    config = lhotse.MfccConfig(
        sampling_rate=RATE, frame_length=2048 / RATE, frame_shift=512 / RATE, num_filters=128, num_ceps=80,
        low_freq=0.0, high_freq=0.0, preemph_coeff=0.0, window_type="hanning", remove_dc_offset=False,
    )  # fmt: skip
    samples = lhotse.Recording.from_file(path).load_audio().mean(axis=0)
    return {"mfcc": lhotse.Mfcc(config).extract(samples, RATE).T}


# Name of the module that must be there, and the function.
LIBRARIES: dict[str, tuple[str, Callable[[str], Features]]] = {
    "genre_spark": ("genre_spark", genre_spark_features),
    "librosa": ("librosa", librosa_features),
    "torchaudio": ("torchaudio", torchaudio_features),
    "essentia": ("essentia", essentia_features),
    "lhotse (MFCC alone)": ("lhotse", lhotse_mfcc),
}


def extract_one(library: str, path: str) -> int:
    """Compute a clip's features and let them go: what a way does with them is not what is compared."""
    return len(LIBRARIES[library][1](path))


def largest_differences(library: str, paths: list[str]) -> dict[str, float]:
    """How far a library's values are from librosa's at the most, by feature, in the frames that both have."""
    differences: dict[str, float] = {}
    for path in paths:
        theirs = librosa_features(path)
        for name, values in LIBRARIES[library][1](path).items():
            frames = min(values.shape[-1], theirs[name].shape[-1])
            distance = float(np.abs(values[..., :frames] - theirs[name][..., :frames]).max())
            differences[name] = max(differences.get(name, 0.0), distance)
    return differences
