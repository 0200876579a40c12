"""What the report's section on a bundle that was held against a dataset shows."""

from pathlib import Path
from typing import Any

from genre_spark.evaluation.confused import read_confused_of
from genre_spark.evaluation.judged_section import judged_section
from genre_spark.evaluation.other_datasets import read_other_dataset


def other_dataset_section(number: int, folder: Path) -> dict[str, Any]:
    """Read an evaluation that `genre-spark evaluate --bundle` wrote, and draw its figure.

    Parameters
    ----------
    number : int
        Its place among them: part of all ids.
    folder : Path

    Returns
    -------
    dict
        What the templates take.

    Raises
    ------
    RunError
        If the folder holds no such evaluation, or a damaged one.
    """
    row, metrics = read_other_dataset(folder)
    return {
        **judged_section(f"evaluation-{number}", row, metrics, read_confused_of(folder)),
        "files": "the evaluation's ",
    }
