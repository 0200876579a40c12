import base64
import functools
import http.server
import io
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from genre_spark.evaluation.track_excerpts import N_MELS, RATE, Excerpt, excerpts, spectrogram_png
from genre_spark.settings import Settings

AUDIO = Settings().audio
PLENTY = 10**7


def decoded(excerpt: Excerpt) -> tuple[np.ndarray, Image.Image]:
    mp3, png = (base64.b64decode(address.partition(";base64,")[2]) for address in (excerpt.audio, excerpt.picture))
    samples, rate = soundfile.read(io.BytesIO(mp3))
    assert rate == RATE
    return samples, Image.open(io.BytesIO(png))


def test_an_excerpt_is_the_beginning_of_the_track_as_a_small_mono_mp3(tmp_path: Path) -> None:
    time = np.arange(25 * 44_100) / 44_100
    # 440 Hz for as long as the excerpt lasts, another tone after it.
    tone = np.where(time < 10, np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 3_000 * time))
    soundfile.write(tmp_path / "tone.flac", np.stack([0.5 * tone, 0.5 * tone], axis=1), 44_100)
    found = excerpts([str(tmp_path / "tone.flac")], AUDIO, budget=PLENTY)[str(tmp_path / "tone.flac")]
    assert isinstance(found, Excerpt)
    assert found.seconds == 10
    assert found.size < 120_000
    samples, picture = decoded(found)
    assert samples.ndim == 1
    assert len(samples) / RATE == pytest.approx(10, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * RATE / len(samples) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert picture.size == (1 + 10 * RATE // 690, N_MELS)
    # 440 Hz is 6.6 of the 49.8 mels up to half the rate: low in the picture, and the lightest row of it.
    lightness = np.asarray(picture.convert("L")).mean(axis=1)
    assert 1 - (lightness.argmax() + 0.5) / N_MELS == pytest.approx(6.6 / 49.8, abs=0.02)


def test_the_picture_is_lightest_where_it_is_loudest_and_soft_is_dark() -> None:
    decibels = np.linspace(-80, 0, 96 * 40, dtype=np.float32).reshape(96, 40)
    grey = np.asarray(Image.open(io.BytesIO(spectrogram_png(decibels))).convert("L")).astype(int)
    assert grey[-1, 0] < 10
    assert grey[0, -1] > 230
    # As it grows louder, it never grows darker.
    assert (np.diff(grey[::-1].ravel()) >= 0).all()


@pytest.mark.parametrize("level", [0.0, -80.0])
def test_silence_can_be_drawn(level: float) -> None:
    picture = Image.open(io.BytesIO(spectrogram_png(np.full((96, 3), level, np.float32))))
    assert picture.size == (3, 96)


def test_a_short_clip_gives_what_there_is(write_clip) -> None:
    path = str(write_clip(seconds=0.05))
    found = excerpts([path], AUDIO, budget=PLENTY)[path]
    assert isinstance(found, Excerpt)
    assert found.seconds == pytest.approx(0.05, abs=1e-3)


def test_a_missing_or_rotten_file_is_a_note_that_names_no_folder(tmp_path: Path, write_clip) -> None:
    rotten, empty, long = tmp_path / "rotten.mp3", tmp_path / "empty.mp3", write_clip("long.wav", seconds=3)
    rotten.write_bytes(b"no audio at all" * 100)
    empty.touch()
    uris = [str(rotten), str(empty), str(long), str(tmp_path / "gone.mp3"), "file:///no%3Fquery?", str(tmp_path), ""]
    found = excerpts(uris, AUDIO.model_copy(update={"max_duration_s": 2.0}), budget=PLENTY)
    assert list(found) == uris
    notes = [str(note) for note in found.values()]
    assert notes[0].startswith("the audio can't be read: not audio that can be decoded")
    assert notes[1] == "the audio can't be read: the file is empty (0 bytes)"
    assert "audio.max_duration_s=2" in notes[2]
    assert notes[3:] == ["the audio is not at hand"] * 4
    assert not any(str(tmp_path) in note for note in notes)


def test_a_file_that_holds_up_the_decoder_is_given_up(write_clip) -> None:
    path = str(write_clip(seconds=30))
    found = excerpts([path], AUDIO.model_copy(update={"max_decode_s": 0.001}), budget=PLENTY)
    assert "not done within audio.max_decode_s=0.001" in str(found[path])


def test_no_more_is_made_than_the_page_may_hold(write_clip) -> None:
    uris = [str(write_clip(f"{number}.wav", seconds=1, seed=number)) for number in range(4)]
    sizes = [found.size for found in excerpts(uris, AUDIO, budget=PLENTY).values()]
    done = []
    found = excerpts(uris, AUDIO, budget=sum(sizes[:2]), on_track=lambda: done.append(1))
    assert [isinstance(each, Excerpt) for each in found.values()] == [True, True, False, False]
    assert [found[uri] for uri in uris[2:]] == [None, None]
    assert len(done) == 4
    # What stands in the page twice costs twice.
    found = excerpts(uris, AUDIO, budget=2 * sizes[0], copies={uris[0]: 2})
    assert [isinstance(each, Excerpt) for each in found.values()] == [True, False, False, False]


def test_a_store_that_does_not_answer_is_not_asked_for_every_track(write_clip) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    away = [f"http://127.0.0.1:{port}/{number}.mp3" for number in range(5)]
    here = str(write_clip(seconds=0.5))
    found = excerpts([*away, here], AUDIO, budget=PLENTY)
    assert [found[uri] for uri in away] == [
        *["the audio is not at hand"] * 3,
        *["not tried: other tracks from there could not be had"] * 2,
    ]
    assert isinstance(found[here], Excerpt)


def test_an_excerpt_comes_from_whatever_store_the_other_stages_read(tmp_path: Path, write_clip) -> None:
    write_clip("a song.wav", seconds=0.5)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/a%20song.wav"
        found = excerpts([address], AUDIO, budget=PLENTY)[address]
        server.shutdown()
    assert isinstance(found, Excerpt)
