"""What tests of several files of this room share."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from genre_spark.corpora.leaks import BorderLeak, KindLeak, LeakAudit, LeakExample
from genre_spark.models.run import RunRecord
from genre_spark.settings import Settings


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    mounted = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user can't mount a file system")
    yield folder
    # Lazily: a library may still hold a file open.
    subprocess.run(["umount", "-l", folder], check=True)


def leaks() -> LeakAudit:
    artist = KindLeak(
        crossing=1,
        tracks=3,
        judged_with_fellow=1,
        borders={"training-test": BorderLeak(crossing=1, tracks=3)},
        examples=[LeakExample(value="Sigur Rós", tracks={"training": 2, "test": 1})],
    )
    return LeakAudit(
        judged="test",
        tracks={"training": 56, "validation": 12, "test": 12},
        tracks_not_found=0,
        tracks_without_artist=0,
        tracks_without_album=0,
        tracks_without_pcm_hash=80,
        by=("artist", "pcm"),
        kinds={"artist": artist, "album": artist, "pcm": artist, "group": artist},
    )


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        model="dnn",
        feature="mfcc_mean",
        split="artist",
        dataset="data/features",
        settings=Settings().model_dump(mode="json"),
        spec_digest="0123456789abcdef",
        split_digest="fedcba9876543210",
        tracks_digest="0" * 16,
        leaks=leaks(),
        tracks={"training": 56, "validation": 12, "test": 12},
        labels=["Rock", "Hip-Hop", "演歌"],
        trainable_parameters=88_584,
        epochs=2,
        epochs_run=2,
        best_epoch=1,
        batch_size=32,
        learning_rate=0.001,
        seed=0,
        training_s=1.25,
        versions={"keras": "3.15.1"},
        created="2026-11-14T10:00:00+00:00",
    )
