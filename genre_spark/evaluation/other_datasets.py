"""A line for each bundle that was held against a dataset: a folder that `genre-spark evaluate --bundle` wrote.

They are not ranked: datasets differ, and so does what a model may have heard of each.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genre_spark.errors import RunError
from genre_spark.evaluation.judged import Judged, what_was_judged
from genre_spark.evaluation.metrics_file import evaluate_bundle_again, read_evaluation
from genre_spark.evaluation.summary import ABSENT, thousands
from genre_spark.files import printable
from genre_spark.models.run import RUN_RECORD

# The part of an evaluation that belongs to no run.
_ALL = "all"


@dataclass(frozen=True, kw_only=True)
class OtherDatasetRow(Judged):
    """One evaluation of a bundle: `name` is that of its folder.

    Parameters
    ----------
    dataset : str
        Address of the dataset, without secrets.
    bundle : str
        Digest of the bundle.
    feature : str or None
        What the model reads; None where an earlier version evaluated it.
    not_judged : int
        Tracks of genres that the model doesn't know, and tracks without one.
    heard : int or None
        How many of the judged tracks the model was trained on; None where that isn't known.
    """

    dataset: str
    bundle: str
    feature: str | None
    not_judged: int
    heard: int | None

    @property
    def dataset_name(self) -> str:
        """Last part of the dataset's address."""
        return posixpath.basename(self.dataset.rstrip("/")) or self.dataset


def read_other_dataset(folder: Path) -> tuple[OtherDatasetRow, dict[str, Any]]:
    """Read the evaluation of a bundle: its line, and all that `metrics.json` holds.

    Raises
    ------
    RunError
        If the folder holds none, a damaged one, or is that of a run.
    """
    if (folder / RUN_RECORD).exists():
        raise RunError(f"{folder}: is a run, no evaluation of a bundle; name it with --run {folder}")
    metrics = read_evaluation(folder)
    if metrics["part"] != _ALL:
        raise RunError(
            f"{folder}: is what a run reached on its own {metrics['part']} tracks; name the run with --run "
            f"{folder.parent}"
        )
    if metrics["dataset"] is None or metrics["bundle"] is None:
        raise RunError(f"{folder}: names no bundle or no dataset; {evaluate_bundle_again(folder)} again")
    row = OtherDatasetRow(
        **what_was_judged(folder.resolve().name, metrics["model"] or f"bundle {metrics['bundle'][:8]}", metrics),
        dataset=metrics["dataset"],
        bundle=metrics["bundle"],
        feature=metrics["feature"],
        not_judged=sum((metrics["unseen"] or {}).values()) + (metrics["unlabelled"] or 0),
        heard=metrics["heard"],
    )
    return row, metrics


def other_dataset_rows(folders: Sequence[Path]) -> list[OtherDatasetRow]:
    """Read the line of each evaluation, in the order given.

    Raises
    ------
    RunError
        As `read_other_dataset` does.
    """
    return [read_other_dataset(folder)[0] for folder in folders]


def print_other_datasets(rows: Sequence[OtherDatasetRow], console: Console) -> None:
    """Print the lines as a table that is readable at 80 columns."""
    table = Table(
        box=SIMPLE_HEAD, title="Held against other datasets, accuracy in %", title_justify="left", pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip
    table.add_column("model", overflow="fold", min_width=9)
    table.add_column("dataset", overflow="fold", min_width=14)
    for heading in ("right", "95 %\ninterval", "chance", "tracks\njudged", "trained\non", "not\njudged"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(_on_a_line(row.model)), Text(_on_a_line(row.dataset_name)), f"{100 * row.accuracy:.1f}",
            _ends(row.honest_interval), f"{100 * row.chance:.1f}", thousands(row.n),
            "?" if row.heard is None else thousands(row.heard), thousands(row.not_judged),
        )  # fmt: skip
    console.print(table)


def _ends(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}{ABSENT}{100 * interval[1]:.1f}"


def _on_a_line(name: str) -> str:
    """Take out of a name what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in printable(name))
