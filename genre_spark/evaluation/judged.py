"""What is said of every judgement, be it of a run on its own tracks or of a bundle on those of another dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genre_spark.models.calibration import FEWEST_TRACKS


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model, how many tracks it was judged on, and what it reached.

    Parameters
    ----------
    name : str
        Name of the folder.
    model : str
    judged_part : str
        The part that the other numbers are about; "all" where tracks of a dataset stand in no part.
    n : int
        Tracks in it.
    accuracy : float
        Between 0 and 1.
    interval : tuple of float
        Its 95 % interval, as if tracks were independent.
    interval_by_artist : tuple of float or None
        95 % interval of the accuracy that takes an artist's tracks together; None where artists aren't known.
    chance : float
        Accuracy of guessing.
    macro_f1 : float
    ece : float or None
        Expected calibration error; None of an evaluation that knows of none.
    genres : int
        How many the model knows.
    """

    name: str
    model: str
    judged_part: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    interval_by_artist: tuple[float, float] | None = None
    chance: float
    macro_f1: float
    ece: float | None
    genres: int

    @property
    def honest_interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy: by artist where artists are known, else as if tracks were independent."""
        return self.interval_by_artist or self.interval

    @property
    def tracks_of_part(self) -> str:
        """Name the tracks: "test tracks", or "tracks" where no part keeps them from others."""
        return "tracks" if self.judged_part == "all" else f"{self.judged_part} tracks"


def what_was_judged(name: str, model: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Take the fields of `Judged` out of what `metrics.json` holds."""
    low, high = metrics["accuracy_interval"]
    by_artist = metrics.get("accuracy_interval_by_artist")
    return {
        "name": name,
        "model": model,
        "judged_part": metrics["part"],
        "n": metrics["n"],
        "accuracy": metrics["accuracy"],
        "interval": (low, high),
        "interval_by_artist": None if by_artist is None else tuple(by_artist),
        "chance": metrics["chance"],
        "macro_f1": metrics["macro_f1"],
        "ece": metrics["ece"],
        "genres": len(metrics["labels"]),
    }


def is_fitted_on(part: str, n: int) -> bool:
    """Tell whether probabilities were calibrated on the very tracks that they are judged by.

    Parameters
    ----------
    part : str
        The judged part; the study's split has no test part.
    n : int
        Tracks in it. With fewer than `genre_spark.models.calibration.FEWEST_TRACKS` the temperature is left alone.

    Returns
    -------
    bool
    """
    return part == "validation" and n >= FEWEST_TRACKS


def interval_of_accuracy(metrics: Mapping[str, Any]) -> tuple[float, float]:
    """Take the 95 % interval that is meant wherever one stands beside an accuracy.

    It is the one over artists, whose tracks are right or wrong together; over tracks it would be too narrow. Where too
    few artists are known for that, it is the one over tracks.

    Parameters
    ----------
    metrics : mapping
        As `metrics.json` holds it.

    Returns
    -------
    tuple of float
        Lower and upper end.
    """
    low, high = metrics.get("accuracy_interval_by_artist") or metrics["accuracy_interval"]
    return low, high
