"""A run folder: what one training leaves behind, and how it says how it was made.

RUN/
  run.json        how the run was made; written last, so a folder without it is an unfinished run
  split.parquet   track_id, genre, part
  leaks.parquet   kind, value, track_id, part; every track of an artist, album, recording or group in several parts
  history.csv     epoch, loss, accuracy, val_loss, val_accuracy, seconds; one row per epoch
  bundle/         the trained model
  train.log       what the training said, a line per epoch
  tensorboard/    the same for TensorBoard
  checkpoint/     where the training was interrupted: what `--resume` goes on from
  evaluation/     what the evaluation found
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.corpora.leaks import LeakAudit
from genre_spark.errors import INSTALL_NEWER, RunError
from genre_spark.files import check_ordinary, complete_file

FORMAT_VERSION = 3
RUN_RECORD = "run.json"
HISTORY = "history.csv"
SPLIT = "split.parquet"
LEAKS = "leaks.parquet"
BUNDLE = "bundle"
EVALUATION = "evaluation"
TRAIN_LOG = "train.log"
TENSORBOARD = "tensorboard"
CHECKPOINT = "checkpoint"
# What an experiment writes of scikit-learn's methods in place of `run.json`.
CLASSICAL_RECORD = "classical.json"
_RUNS_SHOWN = 5

# All that a training or an evaluation writes.
CONTENTS = frozenset({RUN_RECORD, HISTORY, SPLIT, LEAKS, BUNDLE, EVALUATION, TRAIN_LOG, TENSORBOARD, CHECKPOINT})

HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class RunRecord(BaseModel):
    """`run.json`: how a run was made.

    Parameters
    ----------
    model, feature, split : str
        Names of the architecture, of the feature that it reads, and of the split.
    dataset : str
        Path of the dataset, as it was given.
    settings : dict
        All settings, as `Settings.model_dump(mode="json")` gives them.
    spec_digest, split_digest, tracks_digest : str
        What decided the feature's numbers, which track stands in which part, and whose audio the split's tracks had.
    tracks : dict of str to int
        Number of tracks in each part.
    leaks : LeakAudit
        What stands in more than one part.
    labels : list of str
        Genres in the order of the model's outputs.
    epochs, epochs_run, best_epoch : int
        Epochs that the settings ask for, that were trained, and the one (from 1) whose weights are in the bundle.
    interrupted : bool
        A signal or a diverging loss ended the training; the bundle holds what was reached until then.
    class_weights : dict of str to float, optional
        How much a track of each genre weighs in the loss; None: all alike.
    precision : str
        Keras' name of the policy that the model was trained with.
    backend, device : str
        What computed it, for instance `tensorflow` on `cpu`.
    devices : int
        How many shared each batch.
    training_s : float
        Wall time of the training, in seconds; of all its parts, where it was resumed.
    created : str
        ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    model: str
    feature: str
    split: str
    dataset: str
    settings: dict[str, Any]
    spec_digest: str
    split_digest: str
    tracks_digest: str
    tracks: dict[str, int]
    leaks: LeakAudit
    labels: list[str]
    trainable_parameters: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    epochs_run: int = 0
    best_epoch: int = 0
    interrupted: bool = False
    class_weights: dict[str, float] | None = None
    precision: str = "float32"
    backend: str = "tensorflow"
    device: str = "cpu"
    devices: int = 1
    training_s: float
    versions: dict[str, str]
    created: str


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that appears under its name only when it is complete."""
    with complete_file(path, RunError) as partial:
        partial.write_text(text, encoding="utf-8")


def write_run_record(run: Path, record: RunRecord) -> None:
    """Write `run.json`. Do it last: it is what makes a folder a finished run."""
    write_atomically(run / RUN_RECORD, record.model_dump_json(indent=2) + "\n")


def read_run_record(run: Path) -> RunRecord:
    """Read the record of a finished run.

    Raises
    ------
    RunError
        If there is no run, it is unfinished or of another format version, or the record is damaged.
    """
    file = run / RUN_RECORD
    again = f"train again with `genre-spark train ... --run {run}`"
    try:
        check_ordinary(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{run}: {_what_it_is(run)}") from None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{file}: can't be read: {error}; train again with `genre-spark train ... --run {run}`"
        ) from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        is_newer = type(version) is int and version > FORMAT_VERSION
        raise RunError(
            f"{file}: format_version={version!r:.40}, this program reads {FORMAT_VERSION}; "
            f"{INSTALL_NEWER if is_newer else again}"
        )
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{file}: {where}: {first['msg']}; {again}") from None


def _what_it_is(folder: Path) -> str:
    """Say what a folder without a record is, and what to do."""
    train = f"make one with `genre-spark train ... --run {folder}`"
    if not folder.is_dir():
        return f"no such run folder; {train}"
    if (folder / CLASSICAL_RECORD).exists():
        return (
            "is a method of scikit-learn's; the tables of its experiment have its numbers: "
            f"`genre-spark report --experiment {folder.parent.parent}`"
        )
    runs = sorted(each.parent.name for each in folder.glob(f"*/{RUN_RECORD}"))
    if runs:
        more = f" and {len(runs) - _RUNS_SHOWN} more" if len(runs) > _RUNS_SHOWN else ""
        return f"is no run but holds some; name one of them: {', '.join(runs[:_RUNS_SHOWN])}{more}"
    return f"unfinished run ({RUN_RECORD} is missing); {train}"


def write_crossing(run: Path, crossing: pa.Table) -> None:
    """Write `leaks.parquet`, as `genre_spark.corpora.leaks.crossing_tracks` gives it."""
    with complete_file(run / LEAKS, RunError) as partial:
        pq.write_table(crossing, partial)


def write_history(run: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write `history.csv`, one row per epoch.

    Parameters
    ----------
    run : Path
    rows : sequence of mapping
        Each with all of `HISTORY_COLUMNS`; other keys are left out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HISTORY_COLUMNS)
    for row in rows:
        writer.writerow([int(row["epoch"]), *(float(row[name]) for name in HISTORY_COLUMNS[1:])])
    write_atomically(run / HISTORY, text.getvalue())


def read_history(run: Path) -> dict[str, list[float]]:
    """Read `history.csv` column by column, one value per epoch.

    Raises
    ------
    RunError
        If the file is missing or has no epoch, lacks a column, or a value is no number.
    """
    file = run / HISTORY
    again = f"train again with `genre-spark train ... --run {run}`"
    try:
        check_ordinary(file)
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            names = list(reader.fieldnames or [])
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{file}: missing; {again}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{file}: can't be read: {error}; {again}") from None
    missing = [name for name in HISTORY_COLUMNS if name not in names]
    if missing:
        raise RunError(f"{file}: column {missing[0]!r} is missing; {again}")
    if not rows:
        raise RunError(f"{file}: has no epoch; {again}")
    try:
        return {name: [float(row[name]) for row in rows] for name in HISTORY_COLUMNS}
    except (TypeError, ValueError) as error:
        raise RunError(f"{file}: a value is no number: {error}; {again}") from None
