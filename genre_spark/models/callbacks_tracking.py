"""Where a training is written down for people: train.log, TensorBoard's event files, and MLflow."""

import contextlib
import importlib.util
import logging
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genre_spark.errors import EnvironmentSetupError, RunError
from genre_spark.models.backend import keras
from genre_spark.models.callbacks import Course, EachEpoch, OnEpoch, Row
from genre_spark.provenance import now

logger = logging.getLogger(__name__)


class TrainLog:
    """A text file with a line for whatever a person wants to know afterwards; a resumed training adds to it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def say(self, text: str) -> None:
        """Add a line, with the time before it.

        Raises
        ------
        RunError
            If it can't be written.
        """
        try:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(f"{now()} {text}\n")
        except OSError as error:
            raise RunError(
                f"{self._file}: can't be written: {error.strerror}; mend that and go on with --resume"
            ) from None

    def epoch(self, row: Row, of: int) -> None:
        """Add an epoch's line."""
        measured = " ".join(f"{name}={row[name]:.4f}" for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
        self.say(
            f"epoch {row['epoch']}/{of} {measured} learning_rate={row['learning_rate']:.3g} {row['seconds']:.1f} s"
        )


def tensorboard(folder: Path, course: Course) -> list[keras.callbacks.Callback]:
    """Make what writes TensorBoard's event files, or say why there is nothing.

    On the TensorFlow back end that is Keras' own callback. On others TensorFlow would be started for it, and take the
    device's memory: there the tensorboard package, which both need, writes them alone.
    """
    if importlib.util.find_spec("tensorboard") is None:
        logger.warning("TensorBoard's event files are left out: `pip install tensorboard` brings what writes them")
        return []
    if keras.backend.backend() == "tensorflow":
        return [keras.callbacks.TensorBoard(str(folder), write_graph=False)]
    return [EachEpoch(course, _event_writer(folder))]


def _event_writer(folder: Path) -> OnEpoch:
    # tensorboard's own switch: write the files without TensorFlow, even where it is installed.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    summary = importlib.import_module("tensorboard.summary")
    writers = {part: summary.Writer(str(folder / part)) for part in ("train", "validation")}

    def write(row: Row) -> None:
        step = int(row["epoch"]) - 1
        for name in ("loss", "accuracy"):
            writers["train"].add_scalar(f"epoch_{name}", row[name], step)
            writers["validation"].add_scalar(f"epoch_{name}", row[f"val_{name}"], step)
        writers["train"].add_scalar("epoch_learning_rate", row["learning_rate"], step)
        for writer in writers.values():
            writer.flush()

    return write


class Tracked:
    """A run of MLflow under way."""

    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow

    def params(self, values: Mapping[str, Any]) -> None:
        """Log what decides the training."""
        self._mlflow.log_params(dict(values))

    def epoch(self, row: Row) -> None:
        """Log an epoch's row."""
        self._mlflow.log_metrics({name: row[name] for name in row if name != "epoch"}, step=int(row["epoch"]))

    def files(self, files: Sequence[Path]) -> None:
        """Log small files of the run."""
        for file in files:
            self._mlflow.log_artifact(str(file))


def check_mlflow(experiment: str | None) -> None:
    """Refuse early what MLflow is needed for where it is not installed.

    Raises
    ------
    EnvironmentSetupError
        If an experiment is named and there is no MLflow.
    """
    if experiment is not None and importlib.util.find_spec("mlflow") is None:
        raise EnvironmentSetupError(
            f"train.mlflow_experiment={experiment}: MLflow isn't installed; `pip install mlflow`, or leave it out"
        )


@contextlib.contextmanager
def tracked(experiment: str | None, run_name: str) -> Iterator[Tracked | None]:
    """Log to MLflow in the body; nothing where no experiment is named. Where to is MLflow's own affair.

    Raises
    ------
    EnvironmentSetupError
        If MLflow isn't installed, or its store doesn't answer.
    """
    check_mlflow(experiment)
    if experiment is None:
        yield None
        return
    mlflow = importlib.import_module("mlflow")

    status = "FAILED"
    with _explained(mlflow, experiment):
        mlflow.set_experiment(experiment)
        mlflow.start_run(run_name=run_name)
    try:
        with _explained(mlflow, experiment):
            yield Tracked(mlflow)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        # A store that is gone is no reason to hide why the training ended.
        with contextlib.suppress(mlflow.exceptions.MlflowException):
            mlflow.end_run(status)


@contextlib.contextmanager
def _explained(mlflow: Any, experiment: str) -> Iterator[None]:
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentSetupError(
            f"train.mlflow_experiment={experiment}: MLflow says: {reason}; check MLFLOW_TRACKING_URI"
        ) from None
