"""What a model is judged on: which tracks, what is true of them, and who made them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genre_spark.corpora.groups import group_tracks, value_codes
from genre_spark.corpora.splits import audio_digest, read_split, split_digest
from genre_spark.dataset.store import Dataset
from genre_spark.errors import DatasetError, GenreSparkError, RunError
from genre_spark.evaluation.counts import Counted
from genre_spark.models.bundle import BundleDescription
from genre_spark.models.run import BUNDLE, RUN_RECORD, SPLIT, RunRecord, read_run_record

# The part of a dataset that belongs to no split: all its tracks whose genre the model knows.
ALL = "all"

# A model is judged on the part that nothing was chosen on; the study's split has none, and is judged as the study did.
JUDGED_FIRST = ("test", "validation")

# Share of the judged tracks that must name an artist: each of the others is taken for an artist of its own, which makes
# an interval over artists narrower than it is.
_NAMED_AT_LEAST = 0.9

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Judgement:
    """A model, a dataset, and which of its tracks count.

    Parameters
    ----------
    bundle : Path
        Folder of the bundle.
    description : BundleDescription
        Its description.
    dataset : Dataset
    truth : pa.Table
        `track_id`, `genre`, `part`, `group`. `part` is null for a track that doesn't count. `group` numbers
        the artists; a track whose artist isn't known is a group of its own.
    part : str
        The part that the model is judged on.
    expected : mapping of str to int
        Tracks in each part.
    artists : int
        How many different artists the tracks of the judged part name.
    knows_artists : bool
        Whether nearly all of these tracks name one, so that the groups tell which tracks stand or fall together.
    title : str
        For figures.
    heard : int, optional
        How many of the judged tracks the model was trained on; None where that can't be known.
    """

    bundle: Path
    description: BundleDescription
    dataset: Dataset
    truth: pa.Table
    part: str
    expected: Mapping[str, int]
    artists: int
    knows_artists: bool
    title: str
    heard: int | None = None

    def check_complete(self, counted: Counted) -> None:
        """Refuse predictions that are not of the tracks that were asked for.

        Raises
        ------
        RunError
            If a part has more or fewer.
        """
        found = {part: int(confusion.sum()) for part, confusion in counted.confusions.items()}
        if found != dict(self.expected):
            raise RunError(
                f"{self.dataset}: gave predictions for {found} tracks, not for {dict(self.expected)}: the dataset was "
                "replaced while it was read; evaluate again"
            )


def part_to_judge(run: Path, record: RunRecord) -> str:
    """Name the part of its split that a run is judged on.

    Raises
    ------
    RunError
        If it was trained on all tracks.
    """
    part = next((part for part in JUDGED_FIRST if record.tracks.get(part)), None)
    if part is None:
        raise RunError(
            f"{run}: the {record.split} split left no tracks to judge it on; evaluate a run with the same settings on "
            "another --split, or hold this one's bundle against other tracks: `genre-spark evaluate --bundle "
            f"{run / BUNDLE} --dataset OTHER --out DIR`"
        )
    return part


def judge_run(run: Path, record: RunRecord, description: BundleDescription, dataset: Dataset, part: str) -> Judgement:
    """Judge a run on a part of its own split.

    Raises
    ------
    DatasetError
        If the dataset lacks the feature, or holds a track twice.
    RunError
        If it holds other numbers or other tracks than the run was trained on, or if bundle, split and record are not
        those of one run.
    """
    _check_whole(run, record, description)
    spec = dataset.spec(record.feature)
    if spec.digest != record.spec_digest:
        raise RunError(f"{dataset}: {spec.name} was extracted anew with other numbers; train {run} again")
    split, tracks = read_split(run / SPLIT), _tracks_of(dataset)
    if split_digest(split) != record.split_digest:
        raise RunError(f"{run / SPLIT}: is not the split that {run} was trained on; put its own back, or train again")
    if audio_digest(tracks, split) != record.tracks_digest:
        raise RunError(f"{dataset}: holds other tracks than {run} was trained on, or others' audio; train again")
    # The digest says that all tracks of the split are there: sorted alike, row belongs to row.
    tracks, split = tracks.filter(pc.is_in(tracks["track_id"], split["track_id"])), split.sort_by("track_id")
    artists, knows_artists = _artists(tracks, pc.equal(split["part"], part))
    return Judgement(
        bundle=run / BUNDLE,
        description=description,
        dataset=dataset,
        truth=split.append_column("group", pa.array(group_tracks(tracks, ("artist",)))),
        part=part,
        expected={name: n for name, n in record.tracks.items() if n},
        artists=artists,
        knows_artists=knows_artists,
        title=f"{record.model}: {part} part of the {record.split} split",
    )


def judge_bundle(bundle: Path, description: BundleDescription, dataset: Dataset) -> Judgement:
    """Judge a bundle on all tracks of a dataset whose genre it knows.

    Raises
    ------
    DatasetError
        If the dataset lacks the feature, has it with other parameters, holds a track twice, has no genres, or none that
        the model knows.
    """
    spec = dataset.spec(description.spec.name)
    if spec.digest != description.spec_digest:
        raise DatasetError(
            f"{dataset}: its {spec.name} has digest {spec.digest}, the model of {bundle} reads digest "
            f"{description.spec_digest}: other parameters, or another version; extract it as the model's card says"
        )
    tracks = _tracks_of(dataset)
    is_known = pc.is_in(tracks["genre"], pa.array(description.labels, pa.string()))
    n_known = pc.sum(is_known).as_py()
    if not n_known:
        found = [genre for genre in pc.unique(tracks["genre"]).to_pylist() if genre is not None]
        if not found:
            raise DatasetError(f"{dataset}: none of its tracks has a genre that a model could be judged by; label some")
        raise DatasetError(
            f"{dataset}: none of its genres is known to the model of {bundle}. The dataset has {_some(sorted(found))}; "
            f"the model knows {_some(description.labels)}"
        )
    heard = _training_tracks(bundle, description, tracks.filter(is_known), dataset)
    artists, knows_artists = _artists(tracks, is_known)
    truth = pa.table(
        {
            "track_id": tracks["track_id"],
            "genre": tracks["genre"],
            "part": pc.if_else(is_known, ALL, pa.scalar(None, pa.string())),
            "group": pa.array(group_tracks(tracks, ("artist",))),
        }
    )
    return Judgement(
        bundle=bundle,
        description=description,
        dataset=dataset,
        truth=truth,
        part=ALL,
        expected={ALL: n_known},
        artists=artists,
        knows_artists=knows_artists,
        title=f"{description.architecture}: {n_known:,} tracks of another dataset",
        heard=heard,
    )


def _check_whole(run: Path, record: RunRecord, description: BundleDescription) -> None:
    """Refuse the bundle of another run: what it was trained on may be what this one kept back."""
    for what, found, wanted in (
        ("model", description.architecture, record.model),
        ("spec", description.spec_digest, record.spec_digest),
        ("split", description.split_digest, record.split_digest),
        ("labels", list(description.labels), record.labels),
    ):
        if found != wanted:
            raise RunError(
                f"{run / BUNDLE}: is the bundle of another run: its {what} is {found!r}, the run's {wanted!r}; put the "
                "run's own back, or judge this one with `genre-spark evaluate --bundle`"
            )


def _tracks_of(dataset: Dataset) -> pa.Table:
    """Tracks of a dataset; refuse one that holds a track twice, which would count twice."""
    tracks = dataset.tracks()
    ids = tracks["track_id"].to_numpy()  # sorted
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise DatasetError(
            f"{dataset}: holds {ids[twice[0]]!r} more than once, where each track_id must be another one; extract it "
            "again from a track table in which they are"
        )
    return tracks


def _artists(tracks: pa.Table, judged: pa.ChunkedArray) -> tuple[int, bool]:
    """How many artists the judged tracks name, and whether nearly all name one."""
    codes = value_codes(tracks.filter(judged), "artist")
    named = codes[codes >= 0]
    return len(np.unique(named)), len(named) >= max(1, _NAMED_AT_LEAST * len(codes))


def _training_tracks(bundle: Path, description: BundleDescription, judged: pa.Table, dataset: Dataset) -> int | None:
    """Count the judged tracks that the bundle was trained on, and warn of them; the run that made it knows them."""
    run = bundle.resolve().parent
    if not (run / RUN_RECORD).is_file():
        return None
    try:
        split = read_split(run / SPLIT)
        _check_whole(run, read_run_record(run), description)
    except GenreSparkError:
        return None  # the bundle is all that is asked for
    training = split["track_id"].filter(pc.equal(split["part"], "training"))
    heard: int = pc.sum(pc.is_in(judged["track_id"], training.combine_chunks())).as_py()
    if heard:
        logger.warning(
            "%s: of %d judged tracks, %d have the track_id of one that the model was trained on, which flatters it; "
            "`genre-spark evaluate --run %s` judges it on others",
            dataset, judged.num_rows, heard, run,
        )  # fmt: skip
    return heard


def _some(names: Sequence[str], most: int = 10) -> str:
    shown = (repr(name if len(name) <= 40 else f"{name[:39]}…") for name in islice(names, most))
    return ", ".join(shown) + (f" and {len(names) - most:,} more" if len(names) > most else "")
