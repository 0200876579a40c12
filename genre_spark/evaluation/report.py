"""What people look at: one self-contained HTML page."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from genre_spark.corpora.groups import KINDS
from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import RunError
from genre_spark.evaluation.comparison import (
    compare_splits,
    fellows,
    grouped_by,
    is_unknown,
    joined,
    shared_kinds,
    unknown_kinds,
    unknown_tracks,
)  # fmt: skip
from genre_spark.evaluation.confused_tracks import left_out, with_excerpts
from genre_spark.evaluation.experiment_figure import experiment_figure
from genre_spark.evaluation.experiment_results import SplitResults, read_results
from genre_spark.evaluation.figures import to_svg
from genre_spark.evaluation.other_dataset_section import other_dataset_sections
from genre_spark.evaluation.run_section import run_sections
from genre_spark.evaluation.same_tracks import JudgedRun, no_clear_difference
from genre_spark.evaluation.study import STUDY_DATA, STUDY_SOURCE
from genre_spark.evaluation.summary import (
    SummaryRow,
    chance_percent,
    duration,
    judged_tracks,
    of_hundred,
    percent,
    points,
    some_runs,
    study_percent,
    thousands,
)
from genre_spark.models.reliability import BINS
from genre_spark.models.run import write_atomically
from genre_spark.settings_sections import AudioSettings

# What a split means for the reader of an accuracy.
SPLITS = {
    "study": "random, as in the study: an artist may stand on both sides",
    "official": "the corpus's own",
    "artist": "no {grouped_by} stands in two parts",
    "artist-kfold": "one fold of several; no {grouped_by} stands in two parts",
}
# How far the judged part can be trusted to speak for new music.
JUDGED = {
    "training": "training tracks, which the model learned from",
    "validation": "validation tracks, which the training watched: expect less on new music",
    "test": "test tracks that no training saw",
    "all": "tracks of a dataset that it was held against",
}
AUDIO_MB = 8


def build_report(
    runs: Sequence[Path],
    out: Path,
    *,
    note: str | None = None,
    audio: AudioSettings | None = None,
    audio_mb: float = AUDIO_MB,
    experiment: Path | None = None,
    evaluations: Sequence[Path] = (),
    on_tracks: Callable[[int], Callable[[], None]] | None = None,
) -> None:
    """Write the report: one HTML file that loads nothing from anywhere, and can be read without its one small script.

    Parameters
    ----------
    runs : sequence of Path
        Evaluated run folders; there may be none beside an experiment or evaluations.
    out : Path
        The HTML file; it appears under its name only when it is complete.
    note : str, optional
        Shown at the top: what a reader has to know about the data.
    audio : AudioSettings, optional
        Limits on the decoding of the confused tracks that the page lets people hear; None: no audio is read.
    audio_mb : float
        Most that those may take in the page, in MB (10**6 bytes); 0: no audio is read.
    experiment : Path, optional
        Folder that `genre-spark experiment` wrote.
    evaluations : sequence of Path
        Folders that `genre-spark evaluate --bundle` wrote: sections of their own, ranked with nothing.
    on_tracks : callable, optional
        Called with the number of tracks that will be decoded; what it returns is called after each.

    Raises
    ------
    RunError
        If neither a run, an experiment nor an evaluation is given, a run is unfinished, not evaluated, or was trained
        again since, an evaluation is missing, damaged or that of a run, or `out` is a folder.
    ExperimentError
        If the experiment has no results, or they are damaged.
    """
    if out.is_dir():
        raise RunError(f"{out}: is a folder; name a file, such as {out / 'report.html'}")
    results = [] if experiment is None else read_results(experiment)
    runs = runs if results or evaluations else some_runs(runs)
    sections, of_others = run_sections(runs), other_dataset_sections(evaluations)
    if audio is not None and audio_mb > 0:
        _let_hear([*sections, *of_others], audio, budget=round(audio_mb * 1e6), on_tracks=on_tracks)
    rows: list[SummaryRow] = [section["row"] for section in sections]
    environment = _environment()
    script = environment.get_template("report.js").render()
    page = environment.get_template("report.html.j2").render(
        rows=rows,
        sections=sections,
        verdicts=_verdicts(sections),
        evaluations=of_others,
        left_out=left_out([section["pairs"] for section in (*sections, *of_others)]),
        audio_mb=f"{audio_mb:g}",
        comparisons=compare_splits(rows),
        experiment=[_chart(number, results) for number, results in enumerate(results, start=1)],
        some_unknown=any(unknown_tracks(row.leaks, kind) for row in rows for kind in KINDS),
        some_study=any(row.study for row in rows),
        note=note,
        parts=PARTS,
        bins=BINS,
        study_source=STUDY_SOURCE,
        study_data=STUDY_DATA,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_atomically(out, page)


def _let_hear(
    sections: Sequence[dict[str, Any]],
    audio: AudioSettings,
    *,
    budget: int,
    on_tracks: Callable[[int], Callable[[], None]] | None,
) -> None:
    pairs = with_excerpts([section["pairs"] for section in sections], audio, budget=budget, on_tracks=on_tracks)
    for section, heard in zip(sections, pairs, strict=True):
        section["pairs"] = heard
        section["has_excerpts"] = any(track.excerpt for pair in heard or () for track in pair.tracks)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genre_spark.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, study_percent=study_percent, duration=duration, thousands=thousands,
        fellows=fellows, unknown_kinds=unknown_kinds, shared_kinds=shared_kinds, what_split=_what_split,
        of_hundred=of_hundred, chance_percent=chance_percent, judged_tracks=judged_tracks, what_tracks=_what_tracks,
        some_names=_some_names, heard_of=_heard_of,
    )  # fmt: skip
    environment.globals.update(is_unknown=is_unknown, unknown_tracks=unknown_tracks)
    return environment


def _what_split(row: SummaryRow) -> str:
    return SPLITS.get(row.split, "a split of its own").format(grouped_by=grouped_by(row.leaks))


def _what_tracks(row: SummaryRow) -> str:
    """Count the judged tracks, and say how far they can be trusted: "1 test track that no training saw"."""
    said = JUDGED[row.judged_part]
    return f"{thousands(row.n)} {said if row.n != 1 else said.replace('tracks', 'track', 1)}"


def _heard_of(section: Mapping[str, Any]) -> str:
    """Say how many of the judged tracks were training tracks."""
    heard, n = section["heard"], section["row"].n
    if n == 1:
        return "The one judged track was a training track"
    what = "was a training track" if heard == 1 else "were training tracks"
    return f"{thousands(heard)} of {thousands(n)} judged tracks {what}"


def _some_names(names: Sequence[str], most: int = 3) -> str:
    """Join names, the first ones where there are many: "a, b, c and 4 others"."""
    left = len(names) - most
    return joined(names, "and") if left < 2 else joined([*names[:most], f"{left} others"], "and")


def _verdicts(sections: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One verdict per group of comparable runs; first those that speak for new music, then those of unseen tracks."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for section in sections:
        groups.setdefault(section["row"].comparable, []).append(section)
    verdicts = []
    for group in groups.values():
        best = max(group, key=lambda section: section["row"].accuracy)
        runs = {section["id"]: JudgedRun(section["folder"], section["row"]) for section in group}
        alike = no_clear_difference(runs.pop(best["id"]), list(runs.values()))
        names = [section["title"] for section in group if any(section["row"] is row for row in alike)]
        verdicts.append({"best": best, "sections": group, "alike": names})
    return sorted(verdicts, key=lambda verdict: _flatters(verdict["best"]["row"]))


def _flatters(row: SummaryRow) -> tuple[bool, bool]:
    return bool(shared_kinds(row.leaks)), row.judged_part != "test"


def _chart(number: int, results: SplitResults) -> dict[str, Any]:
    return {
        "results": results,
        "svg": to_svg(
            experiment_figure(results.rows),
            ids=f"experiment-{number}",
            description=f"Accuracy of {len(results.rows)} models on the {results.split} split with 95 % intervals; the "
            "table below holds the numbers",
        ),
    }
