import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.errors import AudioNotFinite, FeatureSpecError
from genre_spark.features import FeatureSpec, Pcm, compute_features, decode, extract_file, resolve_specs
from genre_spark.features.spec import REGISTRY


def plain_librosa(path: Path) -> dict[str, np.ndarray]:
    """The study's features as a user would write them: one `librosa.load` per rate."""
    y, _ = librosa.load(path, sr=44_100)
    shortest = 2_499 * 512
    padded = librosa.util.fix_length(y, size=max(len(y), shortest))
    low, _ = librosa.load(path, sr=12_000)
    power = librosa.feature.melspectrogram(
        y=librosa.util.fix_length(low, size=349_440), sr=12_000, n_fft=512, hop_length=256, n_mels=96
    )
    return {
        "mfcc_mean": np.mean(librosa.feature.mfcc(y=y, sr=44_100, n_mfcc=80), axis=1),
        "mfcc": librosa.feature.mfcc(y=padded, sr=44_100, n_mfcc=80)[:, :2_500],
        "melgram": librosa.power_to_db(power),
    }


def assert_like_librosa(features: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name, tolerance in {"mfcc_mean": 1e-3, "mfcc": 2e-3, "melgram": 2e-3}.items():
        assert features[name].dtype == np.float32
        assert features[name].shape == expected[name].shape
        np.testing.assert_allclose(features[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_real_clips_have_librosas_values(music: Path) -> None:
    for path in [sorted(music.glob("fma/fma_small/*/*.mp3"))[1], sorted(music.glob("emotify/pop/*.mp3"))[0]]:
        assert_like_librosa(extract_file(path), plain_librosa(path))


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(44_100, 2, 31.0), (48_000, 1, 3.0), (22_050, 6, 0.1)])
def test_clips_of_any_rate_and_length_have_librosas_values_and_one_shape(
    write_clip: Callable[..., Path], rate: int, channels: int, seconds: float
) -> None:
    path = write_clip(rate=rate, channels=channels, seconds=seconds)
    features = extract_file(path)
    assert {name: array.shape for name, array in features.items()} == {
        "mfcc_mean": (80,),
        "mfcc": (80, 2_500),
        "melgram": (96, 1_366),
    }
    assert_like_librosa(features, plain_librosa(path))


@given(n=st.integers(1, 30_000), level=st.sampled_from([0.0, 1e-6, 0.5, 1.0]), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_any_signal_gives_finite_features_of_the_shape_that_the_spec_says(n: int, level: float, seed: int) -> None:
    specs = [
        FeatureSpec(name="a", kind="mfcc", sample_rate=22_050, n_mfcc=20, summary="mean"),
        FeatureSpec(name="b", kind="mfcc", sample_rate=22_050, n_mfcc=13, n_frames=30),
        FeatureSpec(name="c", kind="mel_spectrogram", sample_rate=16_000, n_mels=40, n_samples=16_000, hop_length=160),
    ]
    samples = (level * np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)
    features = compute_features(Pcm(samples, 22_050), specs)
    for spec in specs:
        assert features[spec.name].shape == spec.shape
        assert np.isfinite(features[spec.name]).all()


def test_a_feature_has_the_same_bits_alone_and_among_others(write_clip: Callable[..., Path]) -> None:
    pcm = decode(write_clip(seconds=2.0))
    # Some that share an STFT with others, with and without segments.
    parts = [
        FeatureSpec(name="s1", kind="mfcc", sample_rate=44_100, n_frames=90, segments={"count": 2, "length_s": 1}),
        FeatureSpec(name="s2", kind="mel_spectrogram", sample_rate=44_100, n_mels=40, summary="mean"),
        FeatureSpec(name="s3", kind="chroma_stft", sample_rate=44_100, summary="mean"),
    ]
    specs = [*REGISTRY.values(), *parts]
    together = compute_features(pcm, specs)
    backwards = compute_features(pcm, specs[::-1])
    for spec in specs:
        alone = compute_features(pcm, [spec])[spec.name]
        np.testing.assert_array_equal(alone, together[spec.name], err_msg=spec.name)
        np.testing.assert_array_equal(alone, backwards[spec.name], err_msg=spec.name)


def test_threads_and_processes_give_the_same_bits(write_clip: Callable[..., Path]) -> None:
    path = write_clip(seconds=3.0)
    names = ["mfcc", "melgram", "chroma_cens"]
    here = extract_file(path, names)
    with ThreadPoolExecutor(4) as threads:
        for other in threads.map(lambda _: extract_file(path, names), range(8)):
            for name in names:
                np.testing.assert_array_equal(other[name], here[name])
    program = (
        "import sys, hashlib; from genre_spark.features import extract_file; "
        f"arrays = extract_file(sys.argv[1], {names}); "
        "print(*(hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays)); "
        "print('librosa' in sys.modules, 'numba' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    hashes, loaded = run.stdout.splitlines()
    assert hashes.split() == [hashlib.sha256(here[name].tobytes()).hexdigest() for name in names]
    assert loaded == "False False"  # seconds of every fresh worker


def test_a_segment_is_librosas_feature_of_that_slice_of_the_resampled_clip(write_clip: Callable[..., Path]) -> None:
    pcm = decode(write_clip(seconds=3.2, rate=48_000))
    segments = {"count": 4, "length_s": 1.0, "overlap_s": 0.25}
    mean = FeatureSpec(name="mean", kind="mfcc", sample_rate=22_050, n_mfcc=13, summary="mean", segments=segments)
    mel = FeatureSpec(name="mel", kind="mel_spectrogram", sample_rate=22_050, n_samples=20_000, segments=segments)
    longer = FeatureSpec(name="longer", kind="chroma_cqt", sample_rate=22_050, n_frames=60, segments=segments)
    features = compute_features(pcm, [mean, mel, longer])
    assert mean.segment_starts_s == (0.0, 0.75, 1.5, 2.25)
    assert [features[name].shape for name in ("mean", "mel", "longer")] == [(4, 13), (4, 128, 40), (4, 12, 60)]
    y = librosa.resample(pcm.samples, orig_sr=48_000, target_sr=22_050)
    # The last one lacks 0.05 s: zeros.
    for number, start in enumerate([0, 16_538, 33_075, 49_613]):
        piece = Pcm(librosa.util.fix_length(y[start : start + 22_050], size=22_050), 22_050)
        for spec in (mean, mel, longer):
            whole = spec.model_copy(update={"segments": None})
            np.testing.assert_array_equal(features[spec.name][number], compute_features(piece, [whole])[spec.name])
        expected = librosa.feature.mfcc(y=piece.samples, sr=22_050, n_mfcc=13).mean(axis=1)
        np.testing.assert_allclose(features["mean"][number], expected, rtol=0, atol=1e-3)


def test_a_clip_too_short_for_its_segments_has_silence_behind_it(write_clip: Callable[..., Path]) -> None:
    spec = FeatureSpec(name="rms", kind="rms", sample_rate=22_050, summary="max", segments={"count": 3, "length_s": 1})
    loudness = extract_file(write_clip(seconds=1.5), [spec])["rms"]
    assert loudness.shape == (3, 1)
    assert loudness[0] > 0.1
    assert loudness[1] > 0.1
    assert loudness[2] == 0.0


def test_a_whole_clip_s_floor_is_80_db_below_its_loudest_bin_wherever_that_stands() -> None:
    # Far more than one block of frames, the loud one last.
    samples = np.concatenate([1e-5 * np.random.default_rng(0).standard_normal(300_000), np.ones(5_000)])
    pcm = Pcm(samples.astype(np.float32), 22_050)
    spec = FeatureSpec(name="m", kind="mel_spectrogram", sample_rate=22_050, n_samples=305_000)
    mel = compute_features(pcm, [spec])["m"]
    assert mel.min() == pytest.approx(mel.max() - 80, abs=1e-4)
    assert (mel[:, :500] == mel.min()).mean() > 0.9


def test_a_clip_and_its_start_share_their_first_frames(write_clip: Callable[..., Path]) -> None:
    spec = FeatureSpec(name="m", kind="mel_spectrogram", sample_rate=44_100, n_frames=100)
    path = write_clip(seconds=3.0)
    samples = soundfile.read(path, dtype="float32")[0]
    soundfile.write(path.with_name("longer.wav"), np.concatenate([samples, samples]), 44_100)
    np.testing.assert_allclose(
        extract_file(path, [spec])["m"], extract_file(path.with_name("longer.wav"), [spec])["m"], atol=1e-3
    )


def test_samples_so_large_that_features_overflow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(44_100, 1e30, np.float32), 44_100, subtype="FLOAT")
    with pytest.raises(AudioNotFinite, match=r"loud\.wav: feature mfcc_mean"):
        extract_file(path, ["mfcc_mean"])


def test_an_unknown_feature_names_the_known_ones(write_clip: Callable[..., Path]) -> None:
    with pytest.raises(
        FeatureSpecError, match="unknown feature 'chroma'; known are chroma_cens, chroma_cqt, chroma_stft"
    ):
        extract_file(write_clip(), ["chroma"])
    assert [spec.name for spec in resolve_specs(["melgram", "mfcc"])] == ["melgram", "mfcc"]


def test_a_file_is_extracted_by_one_thread(write_clip: Callable[..., Path]) -> None:
    path = write_clip(seconds=20.0)
    extract_file(path)
    wall, cpu = time.perf_counter(), time.process_time()
    extract_file(path)
    extract_file(path, ["fma_518"])
    # A library that works in threads of its own makes it as many as there are cores.
    assert time.process_time() - cpu < 1.3 * (time.perf_counter() - wall)
