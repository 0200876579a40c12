"""What is drawn of a song: librosa's spectrogram, and each window's genres around its middle."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import librosa
import numpy as np
import pytest

from genre_spark.features.audio import decode
from genre_spark.serving.answers import clock
from genre_spark.serving.listener import MOST_COLUMNS, shades, spectrogram_db
from genre_spark.serving.pictures import MOST_ROWS, WIDTHS, cell_edges_s, song_pictures
from genre_spark.serving.worker import Heard


def heard(n_genres: int, n_moments: int) -> Heard:
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(n_genres), n_moments)
    begins = 15.0 * np.arange(n_moments)
    shown = random.integers(0, 256, (96, 500), dtype=np.uint8)
    return Heard(begins[-1] + 30, True, p.mean(axis=0), p, np.stack([begins, begins + 30], axis=1), shown)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 60.0])
def test_the_spectrogram_is_librosas(write_clip: Callable[..., Path], seconds: float) -> None:
    path = write_clip(seconds=seconds, channels=1)
    samples, _ = librosa.load(path, sr=22_050, res_type="soxr_hq")
    mel = librosa.feature.melspectrogram(y=samples, sr=22_050, n_fft=2_048, hop_length=512, n_mels=96)
    wanted = 255 * (1 + librosa.power_to_db(mel, ref=np.max, top_db=80) / 80)
    found = shades(spectrogram_db(decode(path)))
    assert (found.dtype, len(found)) == (np.uint8, 96)
    if seconds == 60.0:
        assert found.shape[1] == MOST_COLUMNS
        # Columns are the loudest of two or three frames.
        starts = np.arange(MOST_COLUMNS) * wanted.shape[1] // MOST_COLUMNS
        wanted = np.stack([part.max(axis=1) for part in np.split(wanted, starts[1:], axis=1)], axis=1)
    np.testing.assert_allclose(found, wanted, atol=1)


def test_silence_is_a_picture_too() -> None:
    assert shades(np.full((96, 3), -100.0, np.float32)).shape == (96, 3)


def test_the_cells_of_windows_meet_in_the_middle_and_fill_the_song() -> None:
    spans = np.array([[0.0, 30.0], [15.0, 45.0], [20.0, 50.0]])
    assert cell_edges_s(spans, 50.0).tolist() == [0.0, 22.5, 32.5, 50.0]
    assert cell_edges_s(spans[:1], 30.0).tolist() == [0.0, 30.0]


def test_pictures_carry_no_styles_that_the_pages_policy_forbids_and_genres_are_text() -> None:
    labels = ["<script>alert(1)</script>", "a\x00b", "Unbroken" * 12, *(f"genre {number}" for number in range(28))]
    pictures = song_pictures(heard(len(labels), 5), labels, 'a "name" <b>')
    assert [picture.width for picture in pictures] == list(WIDTHS)
    for picture in pictures:
        assert 0 < picture.begin < 0.5 < picture.end < 1
        root = ElementTree.fromstring(picture.svg)
        assert root.get("aria-label") == 'a "name" <b>'
        assert not [each for each in root.iter() if "style" in each.attrib or each.tag.endswith(("style", "script"))]
        texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len([text for text in texts if not text.endswith("Hz") and ":" not in text]) == MOST_ROWS
    ids = [each.get("id") for picture in pictures for each in ElementTree.fromstring(picture.svg).iter()]
    assert len({each for each in ids if each}) == len([each for each in ids if each])


def test_the_most_probable_genres_are_drawn_and_the_most_probable_on_average_stands_on_top() -> None:
    labels = [f"genre {number}" for number in range(MOST_ROWS + 1)]
    p = np.full((2, len(labels)), 0.05)
    p[:, 3], p[1, 5], p[:, 0] = 0.3, 0.4, 0.01
    picture = song_pictures(
        Heard(45.0, True, p[0], p, np.array([[0, 30], [15, 45]]), np.zeros((96, 9), np.uint8)), labels, ""
    )[0]
    rows = [
        (float(each.get("y", 0)), each.text)
        for each in ElementTree.fromstring(picture.svg).iter("{http://www.w3.org/2000/svg}text")
        if (each.text or "").startswith("genre")
    ]
    assert [name for _, name in sorted(rows)][:2] == ["genre 3", "genre 5"]
    assert "genre 0" not in dict(map(reversed, rows))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (83.4, "1:23"), (29.95, "0:30"), (3_599.4, "59:59"), (3_661, "1:01:01")]
)
def test_times_are_written_as_players_do(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
