"""What an audit found, in numbers and examples: `summary.json`, and `summary.md` for readers."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.errors import CorpusError

SUMMARY = "summary.json"
SUMMARY_TEXT = "summary.md"
FORMAT_VERSION = 1

# What can be wrong with a track, in the order in which it is told.
PROBLEMS: Mapping[str, str] = {
    "broken": "can't be decoded, or longer than audio.max_duration_s",
    "too_short": "shorter than audit.min_duration_s",
    "shortened": "the decoder gives less than the file announces: a part is missing or can't be reached",
    "silent": "quieter than audit.silent_dbfs (RMS)",
    "clipped": "more than audit.max_clipped of the samples at full scale",
    "duplicate": "the same signal as another track, or the same bytes where it can't be decoded",
    "mislabelled_extension": "named like another kind of audio file than it is",
}
EXAMPLES = 20


class Facet(BaseModel):
    """How many tracks share a value, how long they last together, and how many of them have a problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracks: int
    hours: float
    with_problems: int


class Example(BaseModel):
    """A track with a problem, and what shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: str
    uri: str
    reason: str


class Copy(BaseModel):
    """One track of a group with the same signal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    track_id: str
    genre: str | None
    artist: str | None


class Group(BaseModel):
    """Tracks with the same signal; `differ` names the columns in which their labels contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracks: int
    differ: list[str]
    first: list[Copy]


class AuditSummary(BaseModel):
    """`summary.json`. Facets are keyed by value, `null` where it is unknown; hours are of what was decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    tracks: int
    hours: float
    with_problems: int
    problems: dict[str, int]
    errors: dict[str, Facet]
    genres: dict[str, Facet]
    sample_rates: dict[str, Facet]
    channels: dict[str, Facet]
    formats: dict[str, Facet]
    duration_quantiles_s: dict[str, float]
    examples: dict[str, list[Example]]
    duplicate_groups: int
    contradicting_groups: int
    first_groups: list[Group]
    limits: dict[str, float]
    tracks_digest: str
    versions: dict[str, str]
    created: str
    wall_s: float


def read_summary(audit: Path) -> AuditSummary:
    """Read the summary of an audit.

    Raises
    ------
    CorpusError
        If there is none, or it is of another format version.
    """
    file = audit / SUMMARY
    try:
        return AuditSummary.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError(
            f"{audit}: no audit ({SUMMARY} is missing); make one with `genre-spark corpus validate --out {audit}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: can't be read: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"{file}: {where}: {first['msg']}; validate again") from None


def render_summary(summary: AuditSummary) -> str:
    """Write the summary as Markdown."""
    lines = [
        "# Audit of a corpus",
        "",
        f"{summary.tracks:,} tracks, {summary.hours:,.2f} hours; {summary.with_problems:,} tracks have a problem.",
        f"Made {summary.created} by genre_spark {summary.versions['genre_spark']}.",
        "",
        "## Problems",
        *_table(
            ("problem", "tracks", "meaning"),
            ((name, f"{count:,}", PROBLEMS[name]) for name, count in summary.problems.items()),
        ),
        f"Limits: {', '.join(f'audit.{name}={value:g}' for name, value in summary.limits.items())}.",
        "",
        "## Durations",
        *_table(("quantile", "seconds"), ((name, f"{s:.2f}") for name, s in summary.duration_quantiles_s.items())),
    ]
    facets = {
        "Genres": summary.genres,
        "Formats": summary.formats,
        "Sample rates (Hz)": summary.sample_rates,
        "Channels": summary.channels,
        "Errors": summary.errors,
    }
    for title, values in facets.items():
        rows = ((name, f"{f.tracks:,}", f"{f.hours:,.2f}", f"{f.with_problems:,}") for name, f in values.items())
        lines += [f"## {title}", *_table(("", "tracks", "hours", "with problems"), rows)] if values else []
    for problem, examples in summary.examples.items():
        total = summary.problems[problem]
        lines += [
            f"## {problem}: {total:,}" + (f" (the first {EXAMPLES})" if total > EXAMPLES else ""),
            *_table(("track", "reason", "address"), ((e.track_id, e.reason, e.uri) for e in examples)),
        ]
    if summary.duplicate_groups:
        lines += _group_lines(summary)
    return "\n".join(lines).rstrip() + "\n"


def _group_lines(summary: AuditSummary) -> list[str]:
    lines = [
        "## Groups of copies",
        "",
        f"{summary.duplicate_groups:,} groups. In {summary.contradicting_groups:,} of them copies carry different "
        "genres or artists: at most one of those labels is right.",
    ]
    rows = []
    for number, group in enumerate(summary.first_groups, start=1):
        fault = f"differ in {' and '.join(group.differ)}" if group.differ else ""
        rows += [(str(number), copy.track_id, copy.genre or "", copy.artist or "", fault) for copy in group.first]
        if group.tracks > len(group.first):
            rows.append((str(number), f"and {group.tracks - len(group.first):,} more", "", "", fault))
    return lines + _table(("group", "track", "genre", "artist", "labels"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    header = list(header)
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return ["", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *body, ""]


def _cell(text: str) -> str:
    """Names come from a corpus: none of them may break the table or become HTML."""
    text = " ".join(text.split())
    for character, entity in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}.items():
        text = text.replace(character, entity)
    return text
