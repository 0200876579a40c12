"""The figures of runs and evaluations as files: accuracy, loss, confusion matrix and reliability."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from genre_spark.errors import RunError
from genre_spark.evaluation.figure_style import shown_name
from genre_spark.evaluation.figures import accuracy_figure, confusion_figure, loss_figure, save_png, save_svg
from genre_spark.evaluation.judged import Judged
from genre_spark.evaluation.judged_section import confusion_of
from genre_spark.evaluation.other_datasets import read_other_dataset
from genre_spark.evaluation.reliability_figure import reliability_figure
from genre_spark.evaluation.run_section import reads_segments
from genre_spark.evaluation.summary import (
    judged_tracks,
    read_evaluated,
    read_history_if_any,
    some_runs,
    summary_row,
)
from genre_spark.models.reliability import ReliabilityBin


def save_figures(runs: Sequence[Path], folder: Path, evaluations: Sequence[Path] = ()) -> list[Path]:
    """Write `<name>-accuracy`, `-loss`, `-confusion` and `-reliability` as `.png` and `.svg`.

    Parameters
    ----------
    runs : sequence of Path
        Evaluated run folders. Folders of the same name get numbers.
    folder : Path
        It is made where it is missing; files of the same names are replaced, all others are left alone.
    evaluations : sequence of Path
        Folders that `genre-spark evaluate --bundle` wrote. They have no curves.

    Returns
    -------
    list of Path
        The files, those of the runs first. A run without curves or without calibration has fewer.

    Raises
    ------
    RunError
        If neither a run nor an evaluation is given, one is unfinished, damaged, or was trained again since, or `folder`
        can't be written.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; name a folder for the figures")
    written: list[Path] = []
    names: set[str] = set()
    found = [(run, _of_run(run)) for run in (runs if evaluations else some_runs(runs))]
    for source, figures in [*found, *((one, _of_other_dataset(one)) for one in evaluations)]:
        name = _free_name(source, names)
        names.add(name)
        for kind, figure in figures:
            for ending, save in (("png", save_png), ("svg", save_svg)):
                path = folder / f"{name}-{kind}.{ending}"
                save(figure, path)
                written.append(path)
    return written


def _of_run(run: Path) -> Iterator[tuple[str, Figure]]:
    record, metrics = read_evaluated(run)
    history, row = read_history_if_any(run), summary_row(run, record, metrics)
    title = f"{row.model}, {row.split} split"
    if history is not None:
        best_epoch, of_segments = record.best_epoch, reads_segments(run)
        yield (
            "accuracy",
            accuracy_figure(
                history, model=row.model, chance=row.chance, title=title, best_epoch=best_epoch, of_segments=of_segments
            ),
        )
        yield "loss", loss_figure(history, title=title, best_epoch=best_epoch)
    yield from _of_judgement(row, metrics, title)


def _of_other_dataset(folder: Path) -> Iterator[tuple[str, Figure]]:
    row, metrics = read_other_dataset(folder)
    # What comes behind a long name has to be seen.
    yield from _of_judgement(row, metrics, f"{row.model} on {shown_name(row.dataset_name, 30)}")


def _of_judgement(row: Judged, metrics: Mapping[str, Any], title: str) -> Iterator[tuple[str, Figure]]:
    judged = f"{title}, {judged_tracks(row)}"
    yield "confusion", confusion_figure(confusion_of(metrics), metrics["labels"], title=judged)
    if metrics["reliability"] is not None:
        table = [ReliabilityBin.model_validate(found) for found in metrics["reliability"]]
        yield "reliability", reliability_figure(table, title=_calibration(judged, row))


def _calibration(judged: str, row: Judged) -> str:
    return judged if row.ece is None else f"{judged}: off by {100 * row.ece:.1f} %"


def _free_name(run: Path, taken: set[str]) -> str:
    """Turn the name of a folder into one that any file system takes, and that no other has."""
    name = re.sub(r"[^\w.-]+", "_", run.resolve().name).strip("._")[:80] or "run"
    number = 1
    while (free := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return free
