import hashlib
import io
import math
import os
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genre_spark.errors import AudioError
from genre_spark.features.audio import decode
from genre_spark.features.measure import MEASUREMENT_SCHEMA, Measurement, measure_file, pcm_hash
from genre_spark.features.mpeg import mpeg_spans
from tests.features import test_audio_hostile as hostile
from tests.peak_memory import peak_growth_mb


def noise(seconds: float = 1.0, rate: int = 44_100, channels: int = 2, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, (round(seconds * rate), channels))


def mp3(samples: np.ndarray, rate: int = 44_100, *, vbr: bool = False) -> bytes:
    """One channel as MP3 without a Xing header (lameenc writes none)."""
    lameenc = pytest.importorskip("lameenc")
    encoder = lameenc.Encoder()
    encoder.set_in_sample_rate(rate)
    encoder.set_channels(1)
    encoder.silence()
    if vbr:
        encoder.set_vbr(4)
        encoder.set_vbr_quality(2)
    else:
        encoder.set_bit_rate(128)
    pcm = (np.clip(samples, -1, 1) * 32_767).astype("<i2")
    return bytes(encoder.encode(pcm.tobytes()) + encoder.flush())


def soft_then_loud(seconds: float) -> np.ndarray:
    """A variable bit rate spends most on the middle: the first frame says little of the length."""
    samples = noise(seconds, channels=1, level=1.0)[:, 0]
    third = len(samples) // 3
    samples[:third] *= 0.001
    samples[2 * third :] = 0
    return samples


def with_xing_header(stream: bytes, frames: int) -> bytes:
    """Put a frame of notes before an MPEG-1 mono stream, as LAME's command line does."""
    head = bytearray(417)  # 128 kbit/s at 44.1 kHz
    head[:4] = b"\xff\xfb\x90\xc4"
    head[21:33] = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(head) + stream


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"),
    [
        ("a.wav", "PCM_16", 44_100, 2),
        ("a.wav", "PCM_24", 48_000, 1),
        ("a.wav", "FLOAT", 22_050, 6),
        ("a.flac", "PCM_16", 48_000, 2),
        ("a.ogg", "VORBIS", 44_100, 2),
    ],
)
def test_facts_and_levels_are_those_of_plain_numpy(
    tmp_path: Path, name: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(3.1, rate, channels, level=0.3) + 0.02, rate, subtype=subtype)
    samples, _ = soundfile.read(path, always_2d=True, dtype="float64")
    found = measure_file(path)
    info = soundfile.info(path)
    assert (found.format, found.codec, found.sample_rate, found.channels) == (info.format, subtype, rate, channels)
    assert (found.frames, found.decoded_s) == (len(samples), len(samples) / rate)
    assert found.peak_dbfs == pytest.approx(20 * np.log10(np.abs(samples).max()), abs=1e-5)
    assert found.rms_dbfs == pytest.approx(10 * np.log10(np.mean(samples**2)), abs=1e-5)
    assert found.dc_offset == pytest.approx(samples.mean(), abs=1e-6)
    assert (found.clipped, found.error, found.announced_s, found.mislabelled) == (0.0, None, None, False)
    assert found.size_bytes == path.stat().st_size
    assert found.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_full_scale_sine_has_its_textbook_levels(tmp_path: Path) -> None:
    path = tmp_path / "sine.wav"
    soundfile.write(path, np.sin(2 * np.pi * 441 * np.arange(44_100) / 44_100), 44_100, subtype="FLOAT")
    found = measure_file(path)
    assert found.peak_dbfs == pytest.approx(0.0, abs=1e-6)
    assert found.rms_dbfs == pytest.approx(-3.0103, abs=1e-4)


@pytest.mark.parametrize(
    ("subtype", "suffix"), [("PCM_16", "wav"), ("PCM_24", "wav"), ("PCM_U8", "wav"), ("FLOAT", "wav")]
)
def test_clipping_is_the_share_of_samples_at_full_scale(tmp_path: Path, subtype: str, suffix: str) -> None:
    samples = noise(level=0.5)
    samples[:100] = 1.2
    samples[100:150, 0] = -1.2
    path = tmp_path / f"clipped.{suffix}"
    soundfile.write(path, samples, 44_100, subtype=subtype)
    assert measure_file(path).clipped == pytest.approx(250 / samples.size)


def test_a_peak_above_full_scale_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(44_100, 2.0), 44_100, subtype="FLOAT")
    assert measure_file(path).peak_dbfs == pytest.approx(6.0206, abs=1e-4)


def test_silence_has_no_level_and_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros((44_100, 2)), 44_100)
    found = measure_file(path)
    assert (found.peak_dbfs, found.rms_dbfs, found.pcm_hash, found.error) == (-np.inf, -np.inf, None, None)
    assert pcm_hash(np.zeros(10, np.float32)) is None


@given(
    frames=st.sampled_from([1, 7, 65_535, 65_536, 65_537, 1_100_000]),
    channels=st.integers(1, 7),
    suffix=st.sampled_from(["wav", "flac"]),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_hash_is_that_of_the_samples_that_features_are_computed_from(
    tmp_path: Path, frames: int, channels: int, suffix: str
) -> None:
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.random.default_rng(frames).uniform(-1, 1, (frames, channels)), 8_000)
    samples = decode(path).samples
    found = measure_file(path)
    assert found.frames == len(samples)
    assert found.pcm_hash == pcm_hash(samples) == xxhash.xxh3_128_hexdigest(samples.astype("<f4").tobytes())


def test_real_mp3s_are_measured_as_they_are_decoded(music: Path) -> None:
    for path in [*sorted(music.glob("fma/fma_small/*/*.mp3"))[:4], *sorted(music.glob("emotify/rock/*.mp3"))[:2]]:
        found = measure_file(path)
        assert (found.format, found.codec, found.announced_s) == ("MP3", "MPEG_LAYER_III", None)
        assert found.pcm_hash == pcm_hash(decode(path).samples)
        samples = soundfile.read(path, dtype="float32")[0].astype(np.float64)
        assert found.rms_dbfs == pytest.approx(10 * np.log10(np.mean(samples**2)), abs=1e-9)
        assert found.clipped == np.mean(np.abs(samples) >= 32_767 / 32_768)


def test_copies_in_lossless_encodings_share_their_hash_and_a_lossy_one_does_not(tmp_path: Path) -> None:
    # libsndfile rounds floats in another way for each format.
    samples = (32_767 * noise(channels=1)).astype(np.int16)
    for name in ("a.wav", "b.flac", "c.aiff", "other name.w64"):
        soundfile.write(tmp_path / name, samples, 44_100, subtype="PCM_16")
    (tmp_path / "d.mp3").write_bytes(mp3(samples[:, 0] / 32_767))
    found = {path.name: measure_file(path) for path in tmp_path.iterdir()}
    lossy = found.pop("d.mp3")
    assert len({facts.pcm_hash for facts in found.values()}) == 1
    assert len({facts.file_sha256 for facts in found.values()}) == 4
    assert lossy.pcm_hash not in {None, found["a.wav"].pcm_hash}


def write_hazards(folder: Path) -> dict[str, Path]:
    """Files of which each is rotten in its own way."""
    random = np.random.default_rng(0)
    soundfile.write(folder / "whole.wav", noise(), 44_100)
    whole = (folder / "whole.wav").read_bytes()
    bad = noise(2.0)
    bad[80_000] = np.nan
    soundfile.write(folder / "nan.wav", bad, 44_100, subtype="FLOAT")
    soundfile.write(folder / "no_samples.wav", np.empty(0), 44_100)
    soundfile.write(folder / "long.wav", noise(4.0, 8_000), 8_000)
    soundfile.write(folder / "torn.flac", noise(), 44_100)
    flac = (folder / "torn.flac").read_bytes()
    (folder / "torn.flac").write_bytes(flac[: len(flac) // 2])
    stream = bytearray(mp3(noise(2.0, channels=1)[:, 0]))
    stream[8_000:20_000] = bytes(12_000)
    (folder / "hole.mp3").write_bytes(stream)
    (folder / "random.mp3").write_bytes(random.integers(0, 256, 100_000, dtype=np.uint8).tobytes())
    (folder / "header.wav").write_bytes(whole[:20])
    (folder / "page.mp3").write_bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 40)
    (folder / "empty.mp3").touch()
    (folder / "folder.mp3").mkdir()
    os.mkfifo(folder / "pipe.mp3")
    (folder / "link.mp3").symlink_to(folder / "nowhere.mp3")
    return {path.name: path for path in [*folder.iterdir(), folder / "missing.mp3"]}


def reason(path: Path, max_duration_s: float, max_file_mb: int = 1_024) -> tuple[str, str] | None:
    try:
        decode(path, max_duration_s=max_duration_s, max_file_mb=max_file_mb, shortened="keep")
    except AudioError as error:
        return type(error).__name__, str(error)
    return None


def test_whatever_decode_refuses_is_refused_for_the_same_reason(tmp_path: Path) -> None:
    for name, path in write_hazards(tmp_path).items():
        found = measure_file(path, max_duration_s=3.0)
        wanted = reason(path, 3.0)
        # Of the file with a hole the beginning is measured.
        assert (wanted is None) == (name in ("whole.wav", "hole.mp3"))
        assert (found.error, found.detail) == (wanted or (None, None)), name
        assert (found.pcm_hash is None) == (wanted is not None)


def hostile_files() -> dict[str, bytes]:
    """One of each kind that `test_audio_hostile` decodes or sees refused."""
    plain = hostile.mp3(hostile.noise(3.0, channels=1))
    vbr = hostile.mp3(hostile.loud_then_soft(9.0), vbr=True)
    hole = bytearray(plain)
    hole[20_000:40_000] = bytes(20_000)
    no_number = np.zeros((200_000, 3), np.float32)
    no_number[150_000, 2] = np.inf
    wav, flac, ogg = (hostile.encoded(container) for container in ("WAV", "FLAC", "OGG"))
    at = wav.index(b"data") + 4
    long_claim = bytearray(flac)
    long_claim[21] |= 0x0F
    files = {
        "vbr": vbr,
        "vbr, half": vbr[: len(vbr) // 2],
        "vbr with header": with_xing_header(vbr, 345),
        "half of what the header says": with_xing_header(plain[: len(plain) // 2], 115),
        "joined": plain + plain,
        "joined, vbr": plain + vbr,
        "joined, other rate": plain + hostile.mp3(hostile.noise(2.0, 22_050, 1), 22_050),
        "joined, other channels": hostile.mp3(hostile.noise(2.0)) + plain,
        "large picture": b"ID3\x04\0\0\0\x40\0\0" + bytes(1 << 20) + plain,
        "torn": plain[: len(plain) // 3] + plain[len(plain) // 2 :],
        "hole": bytes(hole),
        "no length": wav[:at] + b"\xff" * 4 + wav[at + 4 :],
        "claims gigabytes": wav[:at] + struct.pack("<I", 0x7000_0000) + wav[at + 4 :],
        "flac claims gigabytes": bytes(long_claim),
        "second flac": flac + flac,
        "second ogg": ogg + ogg,
        "ogg with a hole": ogg[: len(ogg) // 3] + ogg[len(ogg) // 2 :],
        "odd rate": written(hostile.noise(1.0, 8_000), 999_999),
        "many channels": written(np.zeros((100, 200)), 8_000),
        "no number": written(no_number, 44_100),
        "sum beyond float32": written(np.full((1_000, 2), 3e38, np.float32), 44_100),
        "absurd": written(np.full((1_000, 2), 1e20, np.float32), 44_100),
        "no samples": written(np.empty(0), 44_100),
        "nothing": b"",
        "too long": written(np.zeros(8_000 * 21, np.float32), 8_000),
        "too large": bytes(3_100_000),
        "too much signal": hostile.encoded("FLAC", seconds=16.0),
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 40,
        "headers only": b"\xff\xfb\x90\x64" * 1_000,
        "tag only": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1_000),
    }
    for number, junk in enumerate((bytes(50_000), b"APETAGEX" + b"cover" * 5_000, b"TAG" + bytes(125))):
        files[f"junk behind {number}"] = plain + junk
        files[f"vbr with junk behind {number}"] = vbr + junk
    for container in ("WAV", "RF64", "AIFF", "AU", "W64", "FLAC", "OGG", "CAF", "MP3"):
        content = hostile.encoded(container)
        files |= {container: content, f"half a {container}": content[: len(content) // 2]}
    return files


def written(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_hostile_files_have_the_signal_length_and_error_that_decode_gives(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = tmp_path / "song.mp3"
    limits = {"max_duration_s": 20.0, "max_file_mb": 3}
    kinds = set()
    for kind, content in hostile_files().items():
        path.write_bytes(content)
        # What a Mac puts beside a file is no part of it.
        (tmp_path / "._song.mp3").write_bytes(b"\0\5\x16\7" + bytes(4_092))
        found = measure_file(path, **limits)  # type: ignore[arg-type]
        wanted = reason(path, **limits)  # type: ignore[arg-type]
        assert (found.error, found.detail) == (wanted or (None, None)), kind
        assert (found.pcm_hash is None) == (wanted is not None), kind
        if wanted is None:
            pcm = decode(path, shortened="keep", **limits)  # type: ignore[arg-type]
            assert (found.frames, found.pcm_hash) == (len(pcm.samples), pcm_hash(pcm.samples)), kind
            assert (found.announced_s or found.decoded_s) == pytest.approx(pcm.duration_s + pcm.shortened_s), kind
            assert (found.announced_s is None) == (pcm.shortened_s == 0), kind
        with fsspec.open("memory://audit/song.mp3", "wb") as file:
            file.write(content)
        remote = measure_file("memory://audit/song.mp3", **limits)  # type: ignore[arg-type]
        assert (remote.pcm_hash, remote.error) == (found.pcm_hash, found.error), kind
        kinds.add(found.error)
    assert kinds == {None, "AudioUndecodable", "AudioEmpty", "AudioTooLong", "AudioNotFinite"}


def test_a_broken_file_still_has_its_size_and_hash(tmp_path: Path) -> None:
    hazards = write_hazards(tmp_path)
    for name in ("torn.flac", "random.mp3", "header.wav", "page.mp3", "empty.mp3", "nan.wav", "long.wav"):
        found = measure_file(hazards[name], max_duration_s=3.0)
        content = hazards[name].read_bytes()
        assert (found.size_bytes, found.file_sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert found.error is not None
    assert measure_file(hazards["missing.mp3"]).size_bytes is None


def test_every_measurement_fits_the_schema(tmp_path: Path) -> None:
    rows = [asdict(measure_file(path)) for path in write_hazards(tmp_path).values()]
    assert pa.Table.from_pylist(rows, schema=MEASUREMENT_SCHEMA).to_pylist() == rows
    assert list(asdict(Measurement())) == MEASUREMENT_SCHEMA.names


def test_a_library_that_breaks_over_a_file_is_a_fact_about_the_file(
    write_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    path = write_clip()
    monkeypatch.setattr(soundfile.SoundFile, "read", break_down)
    found = measure_file(path)
    assert (found.error, found.detail) == ("AudioError", f"{path}: RuntimeError: out of order")
    assert (found.format, found.frames, found.pcm_hash) == ("WAV", None, None)


@pytest.mark.parametrize(
    ("content", "name", "mislabelled"),
    [
        ("wav", "a.mp3", True),
        ("ogg", "a.wav", True),
        ("flac", "a.M4A", True),
        ("wav", "a.WAV", False),
        ("ogg", "a.oga", False),
        ("aiff", "a.aif", False),
        ("wav", "a", False),
        ("wav", "no.7 part", False),
    ],
)
def test_a_name_that_claims_another_kind_of_audio_is_told(
    tmp_path: Path, content: str, name: str, mislabelled: bool
) -> None:
    soundfile.write(tmp_path / f"original.{content}", noise(), 44_100)
    path = (tmp_path / f"original.{content}").rename(tmp_path / name)
    assert measure_file(path).mislabelled is mislabelled
    assert measure_file(path.as_uri()).mislabelled is mislabelled


def test_an_mp3_of_variable_rate_that_libsndfile_cuts_short_is_measured_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "vbr.mp3"
    path.write_bytes(mp3(soft_then_loud(9.0), vbr=True))
    assert soundfile.read(path)[0].shape[0] < 8 * 44_100, "libsndfile gives all: the case is not the one that is meant"
    found = measure_file(path)
    assert found.decoded_s == pytest.approx(9.0, abs=0.1)
    assert found.announced_s is None


def test_an_mp3_that_ends_before_its_header_says_announces_more(tmp_path: Path) -> None:
    stream = mp3(noise(8.0, channels=1)[:, 0])
    frames = round(8.0 * 44_100 / 1_152)
    (tmp_path / "whole.mp3").write_bytes(with_xing_header(stream, frames))
    (tmp_path / "half.mp3").write_bytes(with_xing_header(stream[: len(stream) // 2], frames))
    assert measure_file(tmp_path / "whole.mp3").announced_s is None
    half = measure_file(tmp_path / "half.mp3")
    assert half.decoded_s == pytest.approx(4.0, abs=0.1)
    assert half.announced_s == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_the_frames_of_an_mp3_add_up_to_its_length_whatever_the_rate(rate: int) -> None:
    stream = mp3(noise(5.0, rate, 1)[:, 0], rate)
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 8, 0]) + b"\xff\xfb\x90" * 341 + b"\0"
    for content in (stream, tag + stream, tag * 2 + bytes(500) + stream + b"TAG" + bytes(125)):
        (span,) = mpeg_spans(io.BytesIO(content), 100)
        assert span.seconds == pytest.approx(5.0, abs=0.2)


@given(st.binary(max_size=400))
def test_no_bytes_make_the_search_for_frames_fail(content: bytes) -> None:
    assert all(span.seconds > 0 for span in mpeg_spans(io.BytesIO(b"\xff\xfb\x90\xc4" + content), 100))


def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", 8_000, 2) as sound:
        for _ in range(60):
            sound.write(noise(60.0, 8_000))
    grown_mb = peak_growth_mb(
        "assert measure_file(path, max_duration_s=4_000.0).decoded_s == 3_600.0",
        path,
        after="import sys\n"
        "from pathlib import Path\n"
        "from genre_spark.features.measure import measure_file\n"
        "path = Path(sys.argv[1])\n"
        "measure_file(path, max_duration_s=60.0)",
    )
    # All of it as float32 has 230 MB.
    assert grown_mb < 60
    path.unlink()


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64"])
def test_a_file_that_was_cut_off_announces_what_is_missing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, noise(6.0, 8_000), 8_000)
    assert measure_file(path).announced_s is None
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found = measure_file(path)
    assert found.decoded_s == pytest.approx(3.0, abs=0.1)
    assert found.announced_s == pytest.approx(6.0, abs=0.1)


def test_an_ogg_file_without_its_end_announces_more_and_a_stream_s_placeholder_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clip.ogg"
    soundfile.write(path, noise(6.0), 44_100)
    assert measure_file(path).announced_s is None
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert measure_file(path).announced_s == math.inf
    streamed = tmp_path / "streamed.wav"
    soundfile.write(streamed, noise(6.0), 44_100)
    content = bytearray(streamed.read_bytes())
    size_at = content.index(b"data") + 4
    content[4:8] = content[size_at : size_at + 4] = b"\xff" * 4
    streamed.write_bytes(content)
    assert (measure_file(streamed).decoded_s, measure_file(streamed).announced_s) == (6.0, None)


def test_an_mp3_without_a_tag_is_measured_wherever_it_lies(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = tmp_path / "clip.mp3"
    path.write_bytes(mp3(noise(6.0, channels=1)[:, 0]))
    assert path.read_bytes()[:1] == b"\xff"
    with fsspec.open("memory://audit/clip.mp3", "wb") as file:
        file.write(path.read_bytes())
    local = measure_file(path)
    assert local.error is None
    assert measure_file("memory://audit/clip.mp3") == local


def test_memory_and_remote_files_give_the_same_facts(write_clip: Callable[..., Path]) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = write_clip("clip.flac")
    with fsspec.open("memory://audit/clip.flac", "wb") as file:
        file.write(path.read_bytes())
    assert measure_file("memory://audit/clip.flac") == measure_file(path)
    small = measure_file("memory://audit/clip.flac", max_file_mb=0)
    assert (small.error, small.size_bytes) == ("AudioTooLong", None)
