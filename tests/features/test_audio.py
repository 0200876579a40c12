import os
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from genre_spark.errors import AudioEmpty, AudioNotFinite, AudioNotFound, AudioTooLong, AudioUndecodable
from genre_spark.features.audio import decode


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_samples_are_bit_for_bit_what_librosa_loads(write_clip: Callable[..., Path], channels: int, rate: int) -> None:
    path = write_clip(channels=channels, rate=rate)
    expected, expected_rate = librosa.load(path, sr=None)
    pcm = decode(path)
    assert pcm.sample_rate == expected_rate
    assert pcm.samples.dtype == np.float32
    np.testing.assert_array_equal(pcm.samples, expected)


def test_real_mp3s_are_bit_for_bit_what_librosa_loads(music: Path) -> None:
    paths = [*sorted(music.glob("fma/fma_small/*/*.mp3"))[:4], *sorted(music.glob("emotify/rock/*.mp3"))[:2]]
    for path in paths:
        np.testing.assert_array_equal(decode(path).samples, librosa.load(path, sr=None)[0])


def test_the_content_tells_the_format_not_the_extension(write_clip: Callable[..., Path]) -> None:
    wav = write_clip("clip.wav")
    renamed = wav.rename(wav.with_suffix(".mp3"))
    assert decode(renamed).duration_s == pytest.approx(1.0)


def test_a_file_uri_with_blanks_and_umlauts_is_found(write_clip: Callable[..., Path]) -> None:
    path = write_clip("Grüße & 100 %.wav")
    np.testing.assert_array_equal(decode(path.as_uri()).samples, decode(path).samples)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioNotFound, match=r"nowhere\.mp3: No such file"):
        decode(tmp_path / "nowhere.mp3")


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    link = tmp_path / "link.mp3"
    link.symlink_to(tmp_path / "nowhere.mp3")
    with pytest.raises(AudioNotFound, match=r"link\.mp3"):
        decode(link)


def test_a_folder_and_a_pipe_are_no_files_and_block_nothing(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp3"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe):
        with pytest.raises(AudioNotFound, match="not a file"):
            decode(path)


def test_an_address_that_nothing_opens_is_refused_by_name() -> None:
    with pytest.raises(AudioNotFound, match="nosuch://bucket/clip.mp3: nothing here opens nosuch://"):
        decode("nosuch://bucket/clip.mp3")


def test_a_file_on_another_machine_is_refused_by_name() -> None:
    with pytest.raises(AudioNotFound, match="file://server/clip.mp3: must be a file on this machine"):
        decode("file://server/clip.mp3")


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp3"
    path.touch()
    with pytest.raises(AudioEmpty, match=r"empty\.mp3: the file is empty"):
        decode(path)


def test_a_header_without_samples_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "header.wav"
    soundfile.write(path, np.empty(0), 44_100)
    with pytest.raises(AudioEmpty, match="no samples"):
        decode(path)


@pytest.mark.parametrize("content", [b"just text " * 50, bytes(5_000), b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_what_is_no_audio_is_undecodable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(content)
    with pytest.raises((AudioUndecodable, AudioEmpty), match=r"song\.mp3"):
        decode(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "odd.wav"
    samples = np.zeros(1_000, np.float32)
    samples[500] = value
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    with pytest.raises(AudioNotFinite, match=r"odd\.wav"):
        decode(path)


def test_a_flac_that_does_not_tell_its_length_is_named(write_clip: Callable[..., Path]) -> None:
    path = write_clip("clip.flac", seconds=25.0, rate=8_000)
    content = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; the low 36 bits of its bytes 10 to 17 are the number of samples, 0 when unknown.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert soundfile.info(path).frames == 2**63 - 1
    with pytest.raises(AudioUndecodable, match=r"clip\.flac: doesn't tell its length; encode it anew"):
        decode(path)


def test_a_clip_above_the_limit_names_its_length_and_the_setting(write_clip: Callable[..., Path]) -> None:
    path = write_clip(seconds=2.0)
    with pytest.raises(AudioTooLong, match=r"lasts 2\.0 s, more than audio\.max_duration_s=1\.5"):
        decode(path, max_duration_s=1.5)
    assert decode(path, max_duration_s=2.0).duration_s == 2.0
