"""What several rooms' tests share: the real music, one Spark session, and one small corpus taken through the stages."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import hypothesis
import numpy as np
import pytest
import soundfile

from genre_spark.corpora.fma import load_fma
from genre_spark.corpora.synthetic import write_synthetic_corpus
from genre_spark.corpora.tracks import read_tracks, write_tracks
from genre_spark.dataset.extract import extract
from genre_spark.dataset.store import Dataset, open_dataset
from genre_spark.features import resolve_specs
from genre_spark.settings import Settings, load_settings
from genre_spark.spark import build_session

REPOSITORY = Path(__file__).parents[1]
MUSIC = REPOSITORY.parent / "shared" / "data"
GENRES = ("Folk", "Hip-Hop", "Rock")

# A busy machine is no fault of an example's, and every run tries the same ones.
hypothesis.settings.register_profile("genre_spark", deadline=None, derandomize=True)
hypothesis.settings.load_profile("genre_spark")

os.environ.setdefault("SPARK_CONF_DIR", str(REPOSITORY / "conf"))
# librosa keeps what numba compiled beside its own files: two processes that write it at once kill whoever reads it
# then. Set, not defaulted: pytest-xdist's workers inherit what its controller sets.
_process = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["NUMBA_CACHE_DIR"] = str(REPOSITORY / ".pytest_cache" / "numba" / _process)


@pytest.fixture(scope="session")
def music() -> Path:
    """Folder of real clips; tests that need it skip where it is absent."""
    if not (MUSIC / "fma").is_dir():
        pytest.skip(f"no real music at {MUSIC}")
    return MUSIC


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings(
        [],
        [
            "spark.master=local[2]",
            "spark.driver_memory=1g",
            "extract.tracks_per_task=10",
            "extract.min_file_mb=0",
            "extract.tracks_per_row_group=4",
            "synthetic.clips_per_genre=8",
            "synthetic.artists_per_genre=4",
            "synthetic.duration_s=3",
            "models.dnn.epochs=3",
            "models.cnn1d.epochs=1",
            "models.cnn2d.epochs=1",
            "models.dnn.batch_size=8",
        ],
    )


@pytest.fixture(scope="session")
def spark(settings: Settings) -> Iterator[object]:
    session = build_session(settings.spark, "genre_spark tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a folder that all test processes read, in the first one that asks for it; nobody may change it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / f"shared-{name}"
        with filelock.FileLock(f"{folder}.lock"):
            if not (root / f"shared-{name}.made").exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that died over it
                folder.mkdir()
                make(folder)
                (root / f"shared-{name}.made").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def corpus(settings: Settings, made_once: Callable[..., Path]) -> Path:
    """A track table of 24 synthetic clips of 3 s (3 genres) and one file that is no audio."""

    def make(root: Path) -> None:
        write_synthetic_corpus(root, settings.synthetic, genres=GENRES, workers=2)
        table = load_fma(root)
        Path(table["uri"][5].as_py().removeprefix("file://")).write_bytes(b"no audio at all" * 100)
        write_tracks(table, root / "tracks.parquet")

    return made_once("corpus", make) / "tracks.parquet"


@pytest.fixture(scope="session")
def dataset(
    request: pytest.FixtureRequest, corpus: Path, settings: Settings, made_once: Callable[..., Path]
) -> Dataset:
    """The corpus with the study's three features: 23 rows and one error row."""

    def make(folder: Path) -> None:
        specs = resolve_specs(["mfcc_mean", "mfcc", "melgram"])
        # Only the process that makes it needs a session for that.
        extract(request.getfixturevalue("spark"), read_tracks(corpus), specs, folder / "dataset", settings)

    return open_dataset(made_once("data", make) / "dataset")


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, dataset: Dataset, settings: Settings, made_once: Callable[..., Path]) -> Path:
    """A run of the smallest model on the artist split, trained and evaluated."""

    def make(folder: Path) -> None:
        # TensorFlow takes seconds to import: only tests that use it wait.
        from genre_spark.evaluation.score import evaluate
        from genre_spark.models.train import train

        train(dataset, "dnn", "artist", folder / "dnn", settings)
        evaluate(request.getfixturevalue("spark"), folder / "dnn", settings.evaluate)

    return made_once("runs", make) / "dnn"


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip of noise and tones; what differs is up to the test."""

    def write(
        name: str = "clip.wav", *, seconds: float = 1.0, rate: int = 44_100, channels: int = 2, seed: int = 0
    ) -> Path:
        random = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        tones = np.stack([np.sin(2 * np.pi * (220 + 110 * channel) * time) for channel in range(channels)], axis=1)
        samples = 0.3 * tones + 0.05 * random.standard_normal(tones.shape)
        path = tmp_path / name
        soundfile.write(path, samples, rate)
        return path

    return write
