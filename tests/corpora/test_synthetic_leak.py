"""What a random split gives away: the same model scores higher when it knows the artists."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from genre_spark.corpora.splits import Scheme, make_split
from genre_spark.corpora.synthesis import compose_clip
from genre_spark.corpora.synthesis_sounds import RATE
from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
from genre_spark.corpora.synthetic_plan import plan_tracks
from genre_spark.corpora.tracks import track_table
from genre_spark.features.audio import Pcm
from genre_spark.features.compute import compute_features
from genre_spark.features.spec import STUDY_SPECS
from genre_spark.settings import SplitSettings, SyntheticSettings

SPLIT_SEEDS = range(8)


@pytest.fixture(scope="module")
def corpus() -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Tracks, and means of 80 MFCCs, of 8 genres x 8 artists x 4 clips of 2 s."""
    settings = SyntheticSettings(clips_per_genre=32, artists_per_genre=8, duration_s=2.0, seed=1)
    rows, features = [], {}
    for track in sorted(plan_tracks(settings, FMA_SMALL_GENRES), key=lambda track: track.artist_id):
        clip = compose_clip(
            track.genre, seed=1, artist_id=track.artist_id, track_id=track.track_id, duration_s=settings.duration_s
        )
        name = str(track.track_id)
        features |= {name: compute_features(Pcm(clip.mean(axis=1), RATE), [STUDY_SPECS["mfcc_mean"]])["mfcc_mean"]}
        rows.append({"track_id": name, "uri": name, "genre": track.genre, "artist": f"Artist {track.artist_id}"})
    return track_table(rows, "composed"), features


def _accuracies(tracks: pa.Table, features: dict[str, np.ndarray], scheme: Scheme) -> np.ndarray:
    """Accuracy on what isn't trained on, for each seed of the split."""
    accuracies = []
    for seed in SPLIT_SEEDS:
        split = make_split(tracks, scheme, SplitSettings(seed=seed))
        x = np.stack([features[name] for name in split["track_id"].to_pylist()])
        genre, training = (np.array(split["genre"].to_pylist()), np.array(split["part"].to_pylist()) == "training")
        model = make_pipeline(StandardScaler(), SVC(C=10)).fit(x[training], genre[training])
        accuracies.append(model.score(x[~training], genre[~training]))
    return np.array(accuracies)


def test_a_random_split_scores_clearly_higher_than_one_that_keeps_artists_apart(
    corpus: tuple[pa.Table, dict[str, np.ndarray]],
) -> None:
    random, apart = (_accuracies(*corpus, scheme) for scheme in ("study", "artist"))
    gap = random - apart
    assert apart.mean() > 0.25  # twice the chance: there is a genre to be heard apart from the artist
    assert gap.mean() > 0.15
    assert gap.mean() > 4 * gap.std(ddof=1) / np.sqrt(len(gap))
    assert np.mean(gap > 0) >= 0.85


def test_the_difference_is_the_artists_doing(corpus: tuple[pa.Table, dict[str, np.ndarray]]) -> None:
    # The same sizes of groups with other members: the tracks of a genre change their artists at random.
    tracks, features = corpus
    rng = np.random.default_rng(0)
    genres, artists = np.array(tracks["genre"].to_pylist()), np.array(tracks["artist"].to_pylist())
    for genre in FMA_SMALL_GENRES:
        artists[genres == genre] = rng.permutation(artists[genres == genre])
    tracks = tracks.set_column(tracks.column_names.index("artist"), "artist", pa.array(artists.tolist()))
    gap = _accuracies(tracks, features, "study") - _accuracies(tracks, features, "artist")
    assert abs(gap.mean()) < 0.1
