"""What the report's section on a bundle that was held against a dataset shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genre_spark.evaluation.confused import read_confused_of
from genre_spark.evaluation.judged_section import judged_section
from genre_spark.evaluation.other_datasets import read_other_dataset
from genre_spark.evaluation.summary import titles


def other_dataset_sections(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read evaluations that `genre-spark evaluate --bundle` wrote, and draw their figures.

    Parameters
    ----------
    folders : sequence of Path

    Returns
    -------
    list of dict
        What the templates take of each.

    Raises
    ------
    RunError
        If a folder holds no such evaluation, or a damaged one.
    """
    found = [read_other_dataset(folder) for folder in folders]
    rows = [row for row, _ in found]
    named = titles(rows, [row.dataset_name for row in rows])
    return [
        {
            **judged_section(f"evaluation-{number}", title, row, metrics, read_confused_of(folder)),
            "files": "the evaluation's ",
        }
        for number, (folder, title, (row, metrics)) in enumerate(zip(folders, named, found, strict=True), start=1)
    ]
