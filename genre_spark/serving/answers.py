"""What is said of a file: to programs as JSON, to people as a page."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from genre_spark.errors import GenreSparkError
from genre_spark.evaluation.summary import percent
from genre_spark.models.bundle import BundleDescription
from genre_spark.models.windows import seconds_read, usual_hop_s, window_s
from genre_spark.serving.uploads import FIELD
from genre_spark.serving.worker import Heard

if TYPE_CHECKING:
    from genre_spark.serving.pictures import Picture

# Genres in the list of the most probable ones; all are in the table below it.
TOP = 5


@dataclass(frozen=True)
class Song:
    """A file and what was heard of it: its name as it may be shown, and the labels of the probabilities."""

    name: str
    labels: list[str]
    heard: Heard

    def as_json(self) -> dict[str, Any]:
        """Return what `POST /predict` answers to a program; probabilities are calibrated and in the model's order."""
        heard = self.heard
        return {
            "file": self.name,
            "duration_s": heard.duration_s,
            "genre": self.ranked()[0][0] if heard.is_sure else None,
            "probabilities": dict(zip(self.labels, heard.probabilities.tolist(), strict=True)),
            "timeline": [
                {"start_s": start_s, "end_s": end_s, "probabilities": dict(zip(self.labels, p, strict=True))}
                for (start_s, end_s), p in zip(heard.spans_s.tolist(), heard.of_moments.tolist(), strict=True)
            ],
        }

    def ranked(self) -> list[tuple[str, float]]:
        """Genres with their probabilities, the most probable first."""
        return sorted(zip(self.labels, self.heard.probabilities.tolist(), strict=True), key=lambda pair: -pair[1])


def error_as_json(error: GenreSparkError) -> dict[str, str]:
    """Return what a program is told of an error."""
    return {"error": type(error).__name__, "detail": str(error)}


class Page:
    """The page, for people.

    Parameters
    ----------
    description : BundleDescription
        Of the model that is asked.
    max_mb : int
        Largest file, for those who choose one.
    precision : float, optional
        Below whose threshold no genre is named.
    """

    def __init__(self, description: BundleDescription, max_mb: int, precision: float | None) -> None:
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("genre_spark.serving"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(percent=percent, clock=clock)
        self._template = environment.get_template("page.html.j2")
        spec = description.spec
        self._facts = {
            "description": description, "max_mb": max_mb, "precision": precision, "field": FIELD, "top": TOP,
            "seconds_read": seconds_read(spec), "window_s": window_s(spec), "hop_s": usual_hop_s(spec),
        }  # fmt: skip

    def render(
        self,
        state: str,
        *,
        song: Song | None = None,
        pictures: "list[Picture] | None" = None,
        error: GenreSparkError | None = None,
    ) -> str:
        """Write the page, with an answer or an error in it where there is one.

        Parameters
        ----------
        state : {"loading", "ready", "failed"}
            Of the model.
        song, pictures, error
            The answer.
        """
        return self._template.render(**self._facts, state=state, song=song, pictures=pictures or [], error=error)


def clock(seconds: float) -> str:
    """Write a time as players do: 83.4 s are 1:23."""
    whole = round(seconds)
    minutes = f"{whole // 3_600}:{whole // 60 % 60:02d}" if whole >= 3_600 else str(whole // 60)
    return f"{minutes}:{whole % 60:02d}"
