"""The 518 columns beside FMA's published ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genre_spark.features import FRAME_SPECS, extract_file
from genre_spark.features.fma_518 import COLUMNS

PUBLISHED = "mfcc_features_rock_hiphop_2000.csv"


def test_the_columns_are_named_and_sorted_as_in_features_csv() -> None:
    assert len(COLUMNS) == 518
    assert list(COLUMNS) == sorted(COLUMNS)
    assert COLUMNS[0] == ("chroma_cens", "kurtosis", "01")
    assert COLUMNS[-1] == ("zcr", "std", "01")
    assert len({family for family, _, _ in COLUMNS}) == 11
    assert FRAME_SPECS["fma_518"].shape == (518,)


@pytest.fixture(scope="module")
def published(music: Path) -> tuple[list[tuple[str, ...]], dict[int, np.ndarray], dict[int, str]]:
    """Header, rows by track id, and genres of FMA's own values; the rows of the ten clips are blank."""
    with (music / "fma" / PUBLISHED).open(newline="") as file:
        lines = list(csv.reader(file))
    header = list(zip(*(line[1:] for line in lines[:3]), strict=True))
    rows = {int(line[0]): np.array(line[1:], float) for line in lines[4:] if any(line[1:])}
    with (music / "fma" / "fma_small_official.csv").open(newline="") as file:
        genres = {int(track["track_id"]): track["genre_top"] for track in csv.DictReader(file)}
    return header, rows, genres


@pytest.fixture(scope="module")
def ours(music: Path, published: tuple) -> dict[int, np.ndarray]:
    """The published columns of the ten genuine clips, from our extractor."""
    places = [COLUMNS.index(column) for column in published[0]]
    clips = sorted(music.glob("fma/fma_small/*/*.mp3"))
    return {int(clip.stem): extract_file(clip, "fma_518")["fma_518"][places] for clip in clips}


def test_the_mfcc_columns_are_those_of_the_published_file(published: tuple) -> None:
    assert published[0] == [column for column in COLUMNS if column[0] == "mfcc"]


def test_genuine_clips_lie_where_the_published_rows_lie(published: tuple, ours: dict[int, np.ndarray]) -> None:
    header, rows, _ = published
    values, mine = np.stack(list(rows.values())), np.stack(list(ours.values()))
    inside = (values.min(axis=0) <= mine) & (mine <= values.max(axis=0))
    assert inside.mean(axis=1).min() > 0.98
    of_means = [place for place, (_, statistic, _) in enumerate(header) if statistic == "mean"]
    assert inside[:, of_means].all()
    distance = np.abs(mine - values.mean(axis=0)) / values.std(axis=0)
    # One of the 200 means lies beyond, as one in sixty of the published rows has one.
    assert np.sort(distance[:, of_means].ravel())[-2] < 4
    assert np.median(distance) < 1


def test_a_classifier_of_the_published_rows_knows_the_genres_of_the_genuine_clips(
    published: tuple, ours: dict[int, np.ndarray]
) -> None:
    _, rows, genres = published
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1_000))
    classifier.fit(list(rows.values()), [genres[track] for track in rows])
    predicted = classifier.predict(list(ours.values()))
    right = sum(genre == genres[track] for track, genre in zip(ours, predicted, strict=True))
    assert len(ours) == 10
    assert right >= 8
