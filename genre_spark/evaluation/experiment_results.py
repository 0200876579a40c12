"""The tables of `genre-spark experiment` as the report shows them: a section with a chart for each split."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from genre_spark.errors import ExperimentError
from genre_spark.files import check_ordinary

# What `genre_spark.experiments.results` writes; its room stands behind this one.
RESULTS, COMPARISONS = "results.csv", "comparisons.csv"

_Row = TypeVar("_Row", bound=BaseModel)
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _or_none(value: object) -> object:
    return None if value == "" else value


class ResultRow(BaseModel):
    """What one model reached under one split: a row of `results.csv`.

    Parameters
    ----------
    accuracy, accuracy_low, accuracy_high : float
        Mean over the seeds, and its 95 % interval over groups of tracks.
    seed_spread : float, optional
        Standard deviation of the accuracy over the seeds.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str
    split: str
    part: str
    n: int
    groups: int
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    macro_f1: Share
    macro_f1_low: Share
    macro_f1_high: Share
    seed_spread: Annotated[float | None, BeforeValidator(_or_none)]
    training_accuracy: Share
    trainings: int


class ComparisonRow(BaseModel):
    """A model beside the reference on the same tracks: a row of `comparisons.csv`."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str
    reference: str
    split: str
    difference: float
    difference_low: float
    difference_high: float
    verdict: str


@dataclass(frozen=True)
class SplitResults:
    """The results of one split, the best model first.

    Parameters
    ----------
    split, part : str
    n, groups : int
        Tracks judged, and the groups that they make.
    rows : list of ResultRow
    comparisons : dict of str to ComparisonRow
        By model; the reference has none.
    """

    split: str
    part: str
    n: int
    groups: int
    rows: list[ResultRow]
    comparisons: dict[str, ComparisonRow]


def read_results(folder: Path) -> list[SplitResults]:
    """Read what an experiment found, split by split in its order.

    Raises
    ------
    ExperimentError
        If the folder holds no results, or they are damaged.
    """
    again = f"run `genre-spark experiment ... --out {folder}` again"
    rows = _read(folder / RESULTS, ResultRow, again)
    if not rows:
        raise ExperimentError(f"{folder / RESULTS}: has no row; {again}")
    # An experiment of a single model compares nothing.
    file = folder / COMPARISONS
    comparisons = _read(file, ComparisonRow, again) if file.exists() and file.stat().st_size else []
    found = []
    for split in dict.fromkeys(row.split for row in rows):
        of_split = sorted((row for row in rows if row.split == split), key=lambda row: -row.accuracy)
        first = of_split[0]
        beside = {each.model: each for each in comparisons if each.split == split}
        found.append(SplitResults(split, first.part, first.n, first.groups, of_split, beside))
    return found


def _read(file: Path, kind: type[_Row], again: str) -> Sequence[_Row]:
    try:
        check_ordinary(file)
        with file.open(encoding="utf-8", newline="") as lines:
            content = list(csv.DictReader(lines))
    except (FileNotFoundError, NotADirectoryError):
        raise ExperimentError(f"{file}: missing; {again}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ExperimentError(f"{file}: can't be read: {error}; {again}") from None
    try:
        return [kind.model_validate(row) for row in content]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ExperimentError(f"{file}: {where}: {first['msg']}; {again}") from None
