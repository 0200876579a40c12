"""Files that are damaged, cut off, joined, absurd or no audio: each is right, or an error that names it."""

import contextlib
import importlib.util
import io
import os
import struct
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from genre_spark.errors import (
    AudioEmpty,
    AudioError,
    AudioNotFinite,
    AudioNotFound,
    AudioShortened,
    AudioTooLong,
    AudioUndecodable,
)  # fmt: skip
from genre_spark.features.audio import decode
from genre_spark.features.mpeg import mpeg_spans
from genre_spark.features.sound_file import Limits, Source, read
from tests.peak_memory import peak_growth_mb


def noise(seconds: float = 1.0, rate: int = 44_100, channels: int = 2, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(0).uniform(-level, level, (round(seconds * rate), channels))


def mp3(samples: np.ndarray, rate: int = 44_100, *, vbr: bool = False) -> bytes:
    """MP3 without a Xing header, which lameenc doesn't write."""
    lameenc = pytest.importorskip("lameenc")
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_in_sample_rate(rate)
    encoder.set_channels(samples.shape[1])
    if vbr:
        encoder.set_vbr(4)
        encoder.set_vbr_quality(2)
    else:
        encoder.set_bit_rate(128)
    return bytes(encoder.encode((samples * 32_767).astype("<i2").tobytes()) + encoder.flush())


def loud_then_soft(seconds: float, channels: int = 1) -> np.ndarray:
    """Its first frames take many bits: libsndfile takes the file for a short one."""
    samples = noise(seconds, channels=channels, level=1.0)
    samples[len(samples) // 10 :] *= 0.0005
    return samples


def with_xing_header(stream: bytes, frames: int) -> bytes:
    """Put a frame of notes before an MPEG-1 mono stream, as LAME's command line does."""
    head = bytearray(417)  # 128 kbit/s at 44.1 kHz
    head[:4] = b"\xff\xfb\x90\xc4"
    head[21:33] = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(head) + stream


def encoded(container: str, subtype: str | None = None, *, seconds: float = 3.0, rate: int = 48_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, rate), rate, format=container, subtype=subtype)
    return file.getvalue()


def with_claim(container: str, claimed: int) -> bytes:
    """Three seconds of 192,000 bytes each, with another size of the samples in the header."""
    content = encoded(container, "PCM_16")
    at = {"WAV": content.find(b"data") + 4, "AIFF": content.find(b"SSND") + 4, "AU": 8}[container]
    order = "<" if container == "WAV" or content[:4] == b"dns." else ">"
    return content[:at] + struct.pack(f"{order}I", claimed) + content[at + 4 :]


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(content: bytes, name: str = "song.mp3") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def shortage(path: Path) -> float:
    """Seconds that are missing, after a look at the error that names them."""
    with pytest.raises(AudioShortened, match=path.name + r": [\d.]+ s come out, it announces") as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    return decode(path, shortened="keep").shortened_s


def test_an_mp3_of_variable_rate_without_a_header_is_decoded_to_its_end(put: Callable[..., Path]) -> None:
    samples = loud_then_soft(9.0)
    path = put(mp3(samples, vbr=True))
    plain, _ = soundfile.read(path, dtype="float32")
    assert len(plain) < 5 * 44_100, "libsndfile gives all: the case is not the one that is meant"
    pcm = decode(path)
    assert pcm.shortened_s == 0
    assert pcm.duration_s == pytest.approx(9.0, abs=0.1)
    np.testing.assert_array_equal(pcm.samples[: len(plain)], plain)


def test_what_follows_is_bit_for_bit_what_the_decoder_gives_of_a_file_with_a_header(put: Callable[..., Path]) -> None:
    stream = mp3(loud_then_soft(9.0), vbr=True)
    frames = round(decode(put(stream)).duration_s * 44_100 / 1_152)
    told, _ = soundfile.read(put(with_xing_header(stream, frames), "told.mp3"), dtype="float32")
    # With a header libmpg123 leaves out its own delay.
    np.testing.assert_array_equal(decode(put(stream)).samples[529 : 529 + len(told)], told)


@pytest.mark.parametrize("behind", [bytes(50_000), b"APETAGEX" + b"cover" * 5_000, b"TAG" + bytes(125)])
def test_rubbish_behind_the_last_frame_of_an_mp3_costs_nothing(put: Callable[..., Path], behind: bytes) -> None:
    stream = mp3(noise(3.0, channels=1))
    expected = decode(put(stream)).samples
    np.testing.assert_array_equal(decode(put(stream + behind)).samples, expected)


def test_a_large_picture_in_the_tag_makes_no_clip_too_long(put: Callable[..., Path]) -> None:
    stream = mp3(noise(3.0, channels=1))
    size = 50_000_000
    tag = b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    path = put(tag + stream)
    assert soundfile.info(path).duration > 1_800, "libsndfile's estimate is not fooled: not the case that is meant"
    np.testing.assert_array_equal(decode(path).samples, decode(put(stream, "plain.mp3")).samples)
    with pytest.raises(AudioTooLong, match=r"lasts 2\.\d s, more than audio.max_duration_s=2"):
        decode(path, max_duration_s=2.0)


def test_an_mp3_that_ends_before_its_header_says_is_named(put: Callable[..., Path]) -> None:
    stream = mp3(noise(8.0, channels=1))
    frames = round(8.0 * 44_100 / 1_152)
    assert decode(put(with_xing_header(stream, frames))).shortened_s == 0
    half = put(with_xing_header(stream[: len(stream) // 2], frames), "half.mp3")
    assert shortage(half) == pytest.approx(4.0, abs=0.2)


def test_real_mp3s_are_whole_and_their_halves_are_not(music: Path, put: Callable[..., Path]) -> None:
    for path in sorted(music.glob("fma/fma_small/*/*.mp3"))[:3]:
        content = path.read_bytes()
        assert decode(path).shortened_s == 0
        assert shortage(put(content[: len(content) // 2])) == pytest.approx(15, abs=0.5)
        assert shortage(put(content[: len(content) // 3] + content[len(content) // 2 :])) == pytest.approx(5, abs=0.5)


def test_no_real_mp3_is_taken_for_a_short_one(music: Path) -> None:
    for path in sorted(music.glob("emotify/*/*[05].mp3"))[:12]:
        assert decode(path).duration_s == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(("rate", "channels"), [(22_050, 1), (44_100, 2)])
@pytest.mark.parametrize("is_first", [True, False])
def test_two_mp3_streams_in_one_file_are_named(
    put: Callable[..., Path], rate: int, channels: int, is_first: bool
) -> None:
    streams = [mp3(noise(4.0, channels=1)), mp3(noise(3.0, rate, channels), rate)]
    path = put(b"".join(streams if is_first else streams[::-1]))
    assert shortage(path) == pytest.approx(3.0 if is_first else 4.0, abs=0.2)


def test_two_mp3_streams_of_one_kind_are_one_longer_clip(put: Callable[..., Path]) -> None:
    stream = mp3(noise(4.0, channels=1))
    assert decode(put(stream + stream)).duration_s == pytest.approx(8.0, abs=0.2)
    assert decode(put(stream + mp3(loud_then_soft(3.0), vbr=True))).duration_s == pytest.approx(7.0, abs=0.2)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "FLOAT"),
        ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "PCM_24"), ("AU", "PCM_16"), ("W64", "PCM_16"),
    ],
)  # fmt: skip
def test_a_file_that_ends_before_its_header_says_is_named(
    put: Callable[..., Path], container: str, subtype: str
) -> None:
    content = encoded(container, subtype)
    assert decode(put(content)).shortened_s == 0
    assert shortage(put(content[: len(content) // 2])) == pytest.approx(1.5, abs=0.1)
    # A program that can't go back writes no length.
    if container == "WAV":
        at = content.index(b"data") + 4
        for length in (0xFFFF_FFFF, 0x7FFF_F000):
            endless = content[:at] + struct.pack("<I", length) + content[at + 4 :]
            assert decode(put(endless)).shortened_s == 0


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_page_or_with_a_second_stream_is_named(put: Callable[..., Path], subtype: str) -> None:
    content = encoded("OGG", subtype)
    assert decode(put(content)).shortened_s == 0
    assert shortage(put(content[: len(content) // 2])) == np.inf
    assert shortage(put(content + content)) == np.inf
    assert shortage(put(content[: len(content) // 3] + content[len(content) // 2 :])) > 0


def test_a_flac_is_whole_or_undecodable_and_a_second_one_behind_it_is_named(put: Callable[..., Path]) -> None:
    content = encoded("FLAC")
    assert decode(put(content)).shortened_s == 0
    with pytest.raises(AudioUndecodable):
        decode(put(content[: len(content) // 2]))
    for other in (content, encoded("FLAC", seconds=0.5), encoded("FLAC", seconds=0.5, rate=8_000)):
        with pytest.raises((AudioShortened, AudioUndecodable), match=r"song\.mp3"):
            decode(put(content + other))


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF", "OGG", "CAF", "W64", "AU", "RF64", "MP3"])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
def test_short_clips_are_whole_too(put: Callable[..., Path], container: str, seconds: float) -> None:
    assert decode(put(encoded(container, seconds=seconds))).duration_s == pytest.approx(seconds, abs=0.03)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("vbr", [False, True])
def test_the_padding_of_an_encoder_is_no_missing_sound(put: Callable[..., Path], rate: int, vbr: bool) -> None:
    for seconds in (0.2, 1.0, 4.0):
        assert decode(put(mp3(noise(seconds, rate, 1), rate, vbr=vbr))).shortened_s == 0
        content = io.BytesIO()
        mode = "VARIABLE" if vbr else "CONSTANT"
        soundfile.write(content, noise(seconds, rate), rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
        assert decode(put(content.getvalue())).shortened_s == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "ULAW", "ALAW", "FLOAT", "DOUBLE", "IMA_ADPCM"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_all_codecs_of_a_wav_have_librosas_bits(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "song.wav"
    try:
        soundfile.write(path, noise(2.0, 8_000, channels), 8_000, subtype=subtype)
    except soundfile.LibsndfileError:
        pytest.skip(f"no {subtype} of {channels} channels")
    np.testing.assert_array_equal(decode(path).samples, librosa.load(path, sr=None)[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 9])
def test_blocks_mix_to_the_same_bits_as_the_whole(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "song.wav"
    # More than one block, and no whole number of them.
    soundfile.write(path, noise(40.0, 16_000, channels), 16_000)
    np.testing.assert_array_equal(decode(path).samples, librosa.load(path, sr=None)[0])


@pytest.mark.parametrize(
    ("rate", "is_read"), [(1, False), (500, False), (8_000, True), (192_000, True), (999_999, False)]
)
def test_rates_that_nobody_records_at_are_refused(tmp_path: Path, rate: int, is_read: bool) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, noise(1.0, 8_000), rate)
    if is_read:
        assert decode(path).sample_rate == rate
    else:
        with pytest.raises(AudioUndecodable, match=rf"song\.wav: has 2 channels at {rate} Hz; 2000 to 768000 Hz"):
            decode(path)


def test_hundreds_of_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros((100, 200)), 8_000)
    with pytest.raises(AudioUndecodable, match="has 200 channels at 8000 Hz"):
        decode(path)


def test_a_local_file_above_the_limit_is_refused_before_it_is_read(put: Callable[..., Path]) -> None:
    path = put(bytes(2_500_000))
    with pytest.raises(AudioTooLong, match=r"song\.mp3: has 2\.5 MB, more than audio\.max_file_mb=2"):
        decode(path, max_file_mb=2)


def test_a_signal_above_the_limit_is_refused_before_it_is_decoded(put: Callable[..., Path]) -> None:
    content = io.BytesIO()
    soundfile.write(content, np.zeros(6_000_000), 192_000, format="FLAC")
    assert len(content.getvalue()) < 1_000_000
    with pytest.raises(AudioTooLong, match=r"31\.2 s at 192000 Hz are 24\.0 MB of samples, more than audio.max_file"):
        decode(put(content.getvalue()), max_file_mb=20)


def test_a_header_that_claims_gigabytes_takes_no_memory(put: Callable[..., Path]) -> None:
    flac, wav = encoded("FLAC"), encoded("WAV")
    large_flac = bytearray(flac)
    # The low 36 bits of STREAMINFO's bytes 10 to 17 are the number of samples.
    large_flac[21] |= 0x0F
    at = wav.index(b"data") + 4
    large_wav = wav[:at] + struct.pack("<I", 0x7000_0000) + wav[at + 4 :]
    with pytest.raises(AudioTooLong):
        decode(put(bytes(large_flac)))
    assert shortage(put(large_wav)) > 9_000

    def cost(content: bytes) -> np.ndarray:
        """Least seconds of some tries, and highest memory in MB of arrays."""
        path, seconds, peaks = put(bytes(content)), [], []
        for is_traced in (False,) * 5 + (True,):
            if is_traced:
                tracemalloc.start()
            started = time.perf_counter()
            with contextlib.suppress(AudioError):
                decode(path)
            (peaks if is_traced else seconds).append(
                tracemalloc.get_traced_memory()[1] / 1e6 if is_traced else time.perf_counter() - started
            )
        tracemalloc.stop()
        return np.array([min(seconds), *peaks])

    # No more than the honest file: the refused FLAC much less, the WAV as much.
    assert (cost(large_flac) < [5, 1.2] * cost(flac)).all()
    assert (cost(large_wav) < [5, 1.2] * cost(wav)).all()


def test_memory_holds_one_channel_and_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((8_000 * 600, 6), np.int16), 8_000)
    grown_mb = peak_growth_mb(
        f"assert decode({str(path)!r}).duration_s == 600", after="from genre_spark.features.audio import decode"
    )
    # One channel has 19 MB, all six 115.
    assert grown_mb < 40


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_one_sample_that_is_no_number_is_enough(tmp_path: Path, value: float, channels: int) -> None:
    samples = np.zeros((200_000, channels), np.float32)
    samples[150_000, channels - 1] = value
    path = tmp_path / "odd.wav"
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    with pytest.raises(AudioNotFinite, match=r"odd\.wav"):
        decode(path)


def test_absurd_but_finite_samples_are_given_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.full(1_000, 1e20, np.float32), 44_100, subtype="FLOAT")
    assert decode(path).samples.max() == np.float32(1e20)
    soundfile.write(path, np.full((1_000, 2), 3e38, np.float32), 44_100, subtype="FLOAT")
    with pytest.raises(AudioNotFinite):  # their sum is beyond float32
        decode(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 40,
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1_000),
        b"fLaC\0\0\0\x22" + bytes(34),
        b"OggS" + bytes(60),
        b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff" + bytes(100),
        b"FORM\xff\xff\xff\xffAIFFCOMM" + bytes(100),
        b"\xff\xfb\x90\x64" * 1_000,
        b"\xff" * 10_000,
        b"\0" * 10_000,
    ],
)
def test_what_only_looks_like_audio_is_an_error_of_ours(put: Callable[..., Path], content: bytes) -> None:
    with pytest.raises(AudioError, match=r"song\.mp3") as caught:
        decode(put(content))
    assert type(caught.value) in (AudioUndecodable, AudioEmpty, AudioTooLong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("has_header", [False, True])
@pytest.mark.parametrize("rubbish", [bytes(20_000), b"<html>error 503</html>" * 900, b"ID3\x04\0\0\0\0\x08\0" * 400])
@pytest.mark.parametrize("is_written_over", [False, True])
def test_of_an_mp3_with_a_hole_the_part_before_it_comes_out_and_the_rest_is_missing(
    put: Callable[..., Path], has_header: bool, rubbish: bytes, is_written_over: bool
) -> None:
    stream = mp3(noise(6.0, channels=1))
    whole = with_xing_header(stream, len(stream) // 417) if has_header else stream
    at = 20_123  # within a frame, after 1.25 s
    behind = whole[at + len(rubbish) :] if is_written_over else whole[at:]
    expected = decode(put(whole, "whole.mp3")).samples
    path = put(whole[:at] + rubbish + behind)
    missing_s = shortage(path)
    samples = decode(path, shortened="keep").samples
    assert len(samples) / 44_100 == pytest.approx(1.25, abs=0.06)
    np.testing.assert_array_equal(samples, expected[: len(samples)])
    # Of what was written over without a header nobody knows.
    known_s = 6.0 - (len(rubbish) / 16_000 if is_written_over and not has_header else 0)
    assert missing_s == pytest.approx(known_s - 1.25, abs=0.2)


def test_a_single_frame_of_another_kind_before_a_hole_is_no_surprise(put: Callable[..., Path]) -> None:
    stream = mp3(noise(4.0, channels=1))
    stereo = bytearray(stream[: mpeg_spans(io.BytesIO(stream), 100)[0].start + 417])
    stereo[3] &= 0x3F
    path = put(bytes(stereo) + stream[:20_000] + bytes(20_000) + stream[40_000:])
    first, *others = mpeg_spans(io.BytesIO(path.read_bytes()), 100)
    assert (first.start, len(others)) == (first.last, 2), "the case is not the one that is meant"
    with pytest.raises((AudioUndecodable, AudioShortened), match=r"song\.mp3"):
        decode(path)


def test_rubbish_behind_an_mp3_that_looks_like_frames_costs_nothing(put: Callable[..., Path]) -> None:
    stream = mp3(noise(3.0, channels=1))
    path = put(stream + bytes(3_000) + b"\xff\xfb\x10\xc4" + bytes(100) + b"\xff\xfb\x10\xc4" + bytes(2_000))
    assert len(mpeg_spans(io.BytesIO(path.read_bytes()), 100)) == 2, "the case is not the one that is meant"
    np.testing.assert_array_equal(decode(path).samples, decode(put(stream, "plain.mp3")).samples)


@pytest.mark.parametrize(
    ("container", "claimed"),
    [
        ("WAV", 0x7FFF_DFFF), ("WAV", 0x8000_0001), ("WAV", 2_147_500_000), ("WAV", 3_000_000_000),
        ("WAV", 4_200_000_000), ("WAV", 0xFFFE_FFFF), ("AIFF", 0x7F00_0009), ("AIFF", 0x7FFF_DFFF), ("AU", 0x7FFF_DFFF),
    ],
)  # fmt: skip
def test_a_header_of_two_to_four_gigabytes_is_believed(put: Callable[..., Path], container: str, claimed: int) -> None:
    path = put(with_claim(container, claimed))
    assert shortage(path) == pytest.approx(claimed / 192_000 - 3, rel=1e-3)


@pytest.mark.parametrize("container", ["AIFF", "AU"])
def test_a_header_of_more_than_libsndfile_can_count_is_never_a_whole_file(
    put: Callable[..., Path], container: str
) -> None:
    with pytest.raises((AudioShortened, AudioEmpty)):
        decode(put(with_claim(container, 3_000_000_000)))


@pytest.mark.parametrize(
    ("container", "claimed"),
    [
        ("WAV", 0x7FFF_F000), ("WAV", 0x7FFF_EFFA), ("WAV", 0x7FFF_FF00), ("WAV", 0x7FFF_FFFF), ("WAV", 0x8000_0000),
        ("WAV", 0xFFFF_FFFF), ("WAV", 0xFFFF_FFFF - 36), ("WAV", 0xFFFF_FFFE), ("AIFF", 0x7F00_0008),
        ("AU", 0xFFFF_FFFF),
    ],
)  # fmt: skip
def test_what_programs_write_that_know_no_length_is_none(
    put: Callable[..., Path], container: str, claimed: int
) -> None:
    assert decode(put(with_claim(container, claimed))).shortened_s == 0


def test_what_a_mac_puts_beside_a_file_is_no_part_of_it(write_clip: Callable[..., Path]) -> None:
    path = write_clip("clip.mp3")
    expected = decode(path).samples
    (path.parent / "._clip.mp3").write_bytes(b"\0\5\x16\7" + bytes(4_092))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)  # the case is the one that is meant
    np.testing.assert_array_equal(decode(path).samples, expected)


def test_an_extension_of_a_headerless_format_makes_no_sound_of_a_text(tmp_path: Path) -> None:
    for extension in ("vox", "gsm", "raw", "au"):
        path = tmp_path / f"notes.{extension}"
        path.write_bytes(b"just text " * 500)
        with pytest.raises(AudioUndecodable, match=rf"notes\.{extension}"):
            decode(path)


def test_a_name_that_no_file_can_have_is_named() -> None:
    with pytest.raises(AudioNotFound, match=r"nul\\x00byte\.mp3': no file can have this name"):
        decode("nul\0byte.mp3")


def test_a_link_that_leads_nowhere_is_named_with_the_place_that_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "my song.mp3"
    link.symlink_to("/nowhere/gone.mp3")
    for uri in (link, link.as_uri()):
        with pytest.raises(AudioNotFound) as caught:
            decode(uri)
        assert str(caught.value) == f"{link}: a link to /nowhere/gone.mp3: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_says_so(write_clip: Callable[..., Path]) -> None:
    path = write_clip()
    path.chmod(0)
    with pytest.raises(AudioNotFound, match=r"clip\.wav: Permission denied"):
        decode(path)


@pytest.mark.parametrize("change", [-200_000, 200_000])
def test_a_file_that_changes_while_it_is_read_is_no_whole_clip(
    write_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    path = write_clip(seconds=5.0)
    size = path.stat().st_size

    def read_late(source: Source, limits: Limits) -> object:
        decoding = read(source, limits)
        os.truncate(path, size + change)
        return decoding

    monkeypatch.setattr("genre_spark.features.audio.read", read_late)
    with pytest.raises(AudioUndecodable, match=r"clip\.wav: its size changed while it was read"):
        decode(path)


def test_many_threads_decode_side_by_side(write_clip: Callable[..., Path]) -> None:
    paths = [write_clip(f"{number}.flac", seed=number) for number in range(4)]
    expected = [decode(path).samples for path in paths]
    wrong = []

    def work(number: int) -> None:
        for _ in range(5):
            if not np.array_equal(decode(paths[number]).samples, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_descriptor_stays_open(put: Callable[..., Path], write_clip: Callable[..., Path]) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here")
    paths = [write_clip(), put(b"no audio" * 100), put(mp3(loud_then_soft(3.0), vbr=True), "vbr.mp3")]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths * 3:
        with contextlib.suppress(AudioError):
            decode(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_hundreds_of_mutants_are_sound_or_an_error_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("lameenc")
    place = Path(__file__).parents[2] / "benchmarks" / "fuzz_audio.py"
    spec = importlib.util.spec_from_file_location("fuzz_audio", place)
    assert spec is not None
    assert spec.loader is not None
    fuzz_audio = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz_audio)
    counts = fuzz_audio.fuzz(inputs=300, seed=0, workers=1, kept=tmp_path / "kept")
    assert counts.total() == 300
    assert set(counts) <= {"whole", *(error.__name__ for error in AudioError.__subclasses__())}
    assert not (tmp_path / "kept").exists()
    assert counts["whole"] > 50
    assert counts["AudioUndecodable"] > 50
