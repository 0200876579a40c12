import math

import librosa
import numpy as np
import pytest

from genre_spark.corpora.synthesis import compose_clip
from genre_spark.corpora.synthesis_sounds import (
    RATE,
    TIMBRES,
    Voice,
    coloured_noise,
    convolve,
    drum_kit,
    released,
    rms,
    room,
)
from genre_spark.corpora.synthesis_styles import GROOVES, PROGRESSIONS, SCALES, STYLES


def _mfcc_statistics(clip: np.ndarray) -> np.ndarray:
    mfcc = librosa.feature.mfcc(y=clip.mean(axis=1), sr=RATE, n_mfcc=20, hop_length=2_048)
    return np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def _rms_db(clip: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(np.square(clip))))


@pytest.fixture(scope="module")
def small_corpus() -> dict[str, np.ndarray]:
    """MFCC statistics and levels of 8 genres x 5 artists x 2 tracks of 3 s."""
    genre, artist, features, levels = [], [], [], []
    for g, name in enumerate(STYLES):
        for a in range(5):
            for t in range(2):
                track = 100 * g + 10 * a + t
                clip = compose_clip(name, seed=3, artist_id=10 * g + a, track_id=track, duration_s=3.0)
                genre.append(g)
                artist.append(10 * g + a)
                features.append(_mfcc_statistics(clip))
                levels.append(_rms_db(clip))
    scaled = np.array(features)
    scaled = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)
    return {"genre": np.array(genre), "artist": np.array(artist), "features": scaled, "level": np.array(levels)}


@pytest.mark.parametrize("genre", STYLES)
def test_a_clip_of_any_genre_is_audible_stereo_with_room_below_full_scale(genre: str) -> None:
    clip = compose_clip(genre, seed=0, artist_id=1, track_id=2, duration_s=3.0)
    assert clip.shape == (3 * RATE, 2)
    assert clip.dtype == np.float32
    assert np.isfinite(clip).all()
    assert np.abs(clip).max() < 0.5
    assert _rms_db(clip) > -32
    assert np.abs(clip[:, 0] - clip[:, 1]).max() > 1e-3


def test_the_same_arguments_give_the_same_clip_and_any_other_gives_another() -> None:
    same = {"seed": 5, "artist_id": 1, "track_id": 2, "duration_s": 1.0}
    clip = compose_clip("Pop", **same)
    assert np.array_equal(clip, compose_clip("Pop", **same))
    for change in ({"seed": 6}, {"artist_id": 2}, {"track_id": 3}):
        assert not np.allclose(clip, compose_clip("Pop", **same | change), atol=1e-3)
    assert not np.allclose(clip, compose_clip("Rock", **same), atol=1e-3)


@pytest.mark.parametrize("duration_s", [1e-6, 0.01, 0.37])
def test_a_clip_shorter_than_a_bar_has_the_wanted_length(duration_s: float) -> None:
    clip = compose_clip("Hip-Hop", seed=0, artist_id=1, track_id=2, duration_s=duration_s)
    assert clip.shape == (max(1, round(duration_s * RATE)), 2)
    assert np.isfinite(clip).all()


def test_clips_of_one_artist_are_closer_than_clips_of_others_in_the_genre(small_corpus: dict[str, np.ndarray]) -> None:
    x, genre, artist = (small_corpus[key] for key in ("features", "genre", "artist"))
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    pair = np.triu(np.ones_like(distance, bool), k=1)
    same_artist = pair & (artist[:, None] == artist[None])
    same_genre = pair & (genre[:, None] == genre[None]) & ~same_artist
    assert np.median(distance[same_artist]) < 0.85 * np.median(distance[same_genre])


def test_genres_of_unknown_artists_are_heard_above_chance_but_overlap(small_corpus: dict[str, np.ndarray]) -> None:
    x, genre, artist = (small_corpus[key] for key in ("features", "genre", "artist"))
    right = []
    for left_out in np.unique(artist):
        known = artist != left_out
        centres = np.stack([x[known & (genre == g)].mean(axis=0) for g in np.unique(genre)])
        nearest = np.linalg.norm(x[~known][:, None] - centres[None], axis=-1).argmin(axis=1)
        right.extend(nearest == genre[~known])
    assert 0.3 < np.mean(right) < 0.85  # chance is 0.125


def test_levels_differ_by_some_twelve_decibels(small_corpus: dict[str, np.ndarray]) -> None:
    low, high = np.percentile(small_corpus["level"], [2, 98])
    assert 8 < high - low < 18


@pytest.mark.parametrize("name", TIMBRES)
def test_a_note_holds_its_pitch_and_its_harmonics_alone(name: str) -> None:
    note = Voice(TIMBRES[name], np.random.default_rng(0)).note(69, RATE)  # A4, one second: a bin of the FFT per Hz
    assert note.shape == (RATE,)
    assert note.dtype == np.float32
    power = np.abs(np.fft.rfft(note * np.hanning(RATE))) ** 2
    hz = np.arange(power.size)
    nearest = 440 * np.maximum(1, np.round(hz / 440))
    # Vibrato and the second string of a unison move a harmonic by up to 40 cents.
    near = np.abs(1_200 * np.log2(np.maximum(hz, 1) / nearest)) < 60
    assert power[near].sum() > 0.99 * power.sum()


def test_a_note_is_the_same_whatever_was_played_before() -> None:
    fresh, used = (Voice(TIMBRES["fiddle"], np.random.default_rng(0)) for _ in range(2))
    for length in (90_000, 4_000, 20_000):
        used.note(60, length)
    for length in (4_000, 8_191, 8_192, 8_193, 30_000):
        assert np.array_equal(fresh.note(60, length), used.note(60, length))


def test_a_released_note_falls_silent_and_the_voice_keeps_it_whole() -> None:
    note = Voice(TIMBRES["organ"], np.random.default_rng(0)).note(60, 10_000)
    before = note.copy()
    sound = released(note, 0.5)
    assert np.array_equal(note, before)
    np.testing.assert_allclose(sound[:9_000], 0.5 * note[:9_000], rtol=1e-6)
    assert sound[-1] == 0
    assert np.abs(released(note[:100], 1.0)[-5:]).max() < 0.01  # shorter than the release


def test_two_artists_play_the_same_instrument_with_different_spectra() -> None:
    first, second = (Voice(TIMBRES["piano"], np.random.default_rng(seed)).note(60, 4_410) for seed in (1, 2))
    spectra = [np.abs(np.fft.rfft(note)) for note in (first, second)]
    assert np.corrcoef(np.log(spectra[0] + 1e-3), np.log(spectra[1] + 1e-3))[0, 1] < 0.99


def test_the_block_convolution_is_the_convolution() -> None:
    rng = np.random.default_rng(0)
    response = room(0.0, 0.3, 0.1, rng)
    signal = rng.standard_normal((2, 40_000), dtype=np.float32)
    for length in (1, 24_576, 24_577, 40_000):
        expected = np.stack(
            [np.convolve(a, b)[:length] for a, b in zip(signal[:, :length], response, strict=True)]
        )  # fmt: skip
        np.testing.assert_allclose(convolve(signal[:, :length], response), expected, atol=1e-4)


def test_the_level_is_that_of_all_channels_together() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 200_001), dtype=np.float32)
    signal[1] *= 3
    assert rms(signal) == pytest.approx(np.sqrt(np.mean(signal.astype(float) ** 2)), rel=1e-5)
    assert rms(signal[1]) == pytest.approx(np.sqrt(np.mean(signal[1].astype(float) ** 2)), rel=1e-5)


@pytest.mark.parametrize("slope", [-6.0, 0.0])
def test_noise_has_the_wanted_slope(slope: float) -> None:
    noise = coloured_noise(slope, np.random.default_rng(0))
    assert noise.shape == (2, 1 << 17)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0, rel=1e-3)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(1 << 17, 1 / RATE)
    low, high = (power[:, (hz > centre / 1.1) & (hz < centre * 1.1)].mean() for centre in (500, 4_000))
    assert 10 * math.log10(high / low) == pytest.approx(3 * slope, abs=1.0)


def test_a_kick_is_deep_and_a_hat_is_high() -> None:
    for kind in ("acoustic", "machine", "hand"):
        kit = drum_kit(kind, np.random.default_rng(1))
        centre = {
            drum: float(librosa.feature.spectral_centroid(y=stroke[:4_096], sr=RATE).mean())
            for drum, stroke in kit.items()
        }
        assert centre["kick"] < centre["snare"] < centre["hat"]


def test_every_style_draws_from_what_exists() -> None:
    for style in STYLES.values():
        assert set(style.neighbours) <= set(STYLES)
        assert set(style.grooves) <= set(GROOVES)
        assert set(style.scales) <= set(SCALES)
        assert set(style.progressions) <= set(PROGRESSIONS)
        assert {*style.leads, *style.backings, *style.basses} <= {*TIMBRES, "none"}
    for groove in GROOVES.values():
        assert len({len(pattern) for pattern in groove.values()}) == 1
