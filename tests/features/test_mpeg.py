"""The frames of an MP3, counted without a decoder."""

import io
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre_spark.features.mpeg import announced_duration, longer_looking, mpeg_spans


def mp3(seconds: float, rate: int = 44_100, channels: int = 1) -> bytes:
    lameenc = pytest.importorskip("lameenc")
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_in_sample_rate(rate)
    encoder.set_channels(channels)
    encoder.set_bit_rate(128)
    samples = np.random.default_rng(0).integers(-9_000, 9_000, (round(seconds * rate), channels), np.int16)
    return bytes(encoder.encode(samples.tobytes()) + encoder.flush())


def test_one_stream_is_one_span_from_its_first_byte_to_its_last() -> None:
    stream = mp3(3.0)
    (span,) = mpeg_spans(io.BytesIO(b"ID3\4\0\0\0\0\0\x14" + bytes(20) + stream + b"TAG" + bytes(125)), 100)
    assert (span.start, span.end) == (30, 30 + len(stream))
    assert (span.rate, span.is_mono) == (44_100, True)
    assert span.seconds == pytest.approx(3.0, abs=0.1)


def test_streams_of_other_rates_and_channels_are_spans_of_their_own() -> None:
    picture = np.random.default_rng(0).integers(0, 128, 300_000, np.uint8).tobytes()
    streams = [mp3(2.0), mp3(1.0, 22_050), mp3(1.5, 44_100, 2)]
    spans = mpeg_spans(io.BytesIO(streams[0] + streams[1] + picture + streams[2]), 100)
    assert [(span.rate, span.is_mono) for span in spans] == [(44_100, True), (22_050, True), (44_100, False)]
    assert [span.seconds for span in spans] == pytest.approx([2.0, 1.0, 1.5], abs=0.15)


def test_the_search_stops_behind_the_longest_clip() -> None:
    content = io.BytesIO(mp3(2.0) * 20)
    assert sum(span.seconds for span in mpeg_spans(content, 5.0)) == pytest.approx(5.0, abs=0.1)


def test_a_file_of_mere_gaps_is_given_up_soon() -> None:
    def found(content: bytes) -> tuple[int, float]:
        """Number of spans, and least seconds of some tries."""
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            spans = mpeg_spans(io.BytesIO(content), 1e6)
            seconds.append(time.perf_counter() - started)
        return len(spans), min(seconds)

    stream = mp3(1.0)
    gaps = (stream[:1_300] + b"\xff" * 9) * 20_000
    n_whole, whole = found(stream * (len(gaps) // len(stream)))
    n_gaps, among_gaps = found(gaps)
    n_bits, among_bits = found(b"\xff" * 3_000_000)
    assert (n_whole, n_gaps, n_bits) == (1, 1_000, 0)
    # A tenth and a half of the time for as many whole frames.
    assert among_gaps < 3 * whole
    assert among_bits < 5 * whole


def test_a_stream_without_a_header_announces_nothing() -> None:
    assert announced_duration(io.BytesIO(mp3(1.0))) is None
    assert announced_duration(io.BytesIO(b"no audio" * 100)) is None


def test_an_empty_tag_makes_a_stream_look_longer_and_leaves_it_as_it_is() -> None:
    stream = mp3(2.0)
    (span,) = mpeg_spans(io.BytesIO(longer_looking(stream, 2.0)), 100)
    assert span.end - span.start == len(stream)
    assert span.start >= len(stream) * 0.9


@given(st.lists(st.sampled_from([b"\xff\xfb\x90\xc4", b"\xff\xf3\x14\xc4", b"ID3\4\0\0\0\0\0\5", bytes(417), b"\xff"])))
@settings(max_examples=200)
def test_no_bytes_make_the_search_fail(parts: list[bytes]) -> None:
    spans = mpeg_spans(io.BytesIO(b"".join(parts)), 10)
    assert all(span.end > span.start and span.seconds > 0 for span in spans)
    assert all(before.end <= behind.start for before, behind in itertools.pairwise(spans))
