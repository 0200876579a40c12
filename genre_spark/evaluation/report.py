"""What people look at: one self-contained HTML page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from genre_spark.corpora.groups import KINDS
from genre_spark.corpora.tracks import PARTS
from genre_spark.errors import RunError
from genre_spark.evaluation.comparison import (
    compare_splits,
    fellows,
    grouped_by,
    is_unknown,
    shared_kinds,
    unknown_kinds,
    unknown_tracks,
)  # fmt: skip
from genre_spark.evaluation.figures import accuracy_figure, confusion_figure, loss_figure, to_svg
from genre_spark.evaluation.metrics import genre_metrics, row_shares
from genre_spark.evaluation.reliability_figure import reliability_figure
from genre_spark.evaluation.study import STUDY_DATA, STUDY_SOURCE
from genre_spark.evaluation.summary import (
    SummaryRow,
    duration,
    percent,
    points,
    read_evaluated,
    some_runs,
    study_percent,
    summary_row,
    thousands,
)
from genre_spark.models.reliability import BINS, ReliabilityBin, error_by_chance
from genre_spark.models.run import read_history, write_atomically

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
}


def build_report(runs: Sequence[Path], out: Path, *, note: str | None = None) -> None:
    """Write the report: one HTML file without scripts that loads nothing from anywhere.

    Parameters
    ----------
    runs : sequence of Path
        Evaluated run folders.
    out : Path
        The HTML file; it appears under its name only when it is complete.
    note : str, optional
        Shown at the top: what a reader has to know about the data.

    Raises
    ------
    RunError
        If no run is given, one is unfinished, not evaluated, or was trained again since, or `out` is a folder.
    """
    if out.is_dir():
        raise RunError(f"{out}: is a folder; name a file, such as {out / 'report.html'}")
    sections = [_section(number, run) for number, run in enumerate(some_runs(runs), start=1)]
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
    )  # fmt: skip
    environment.globals.update(is_unknown=is_unknown, unknown_tracks=unknown_tracks)
    page = environment.get_template("report.html.j2").render(
        rows=[section["row"] for section in sections],
        sections=sections,
        verdicts=_verdicts([section["row"] for section in sections]),
        comparisons=compare_splits([section["row"] for section in sections]),
        some_unknown=any(unknown_tracks(section["row"].leaks, kind) for section in sections for kind in KINDS),
        note=note,
        parts=PARTS,
        judged=JUDGED,
        bins=BINS,
        study_source=STUDY_SOURCE,
        study_data=STUDY_DATA,
    )
    write_atomically(out, page)


def _what_split(row: SummaryRow) -> str:
    return SPLITS.get(row.split, "a split of its own").format(grouped_by=grouped_by(row.leaks))


def _verdicts(rows: Sequence[SummaryRow]) -> list[dict[str, Any]]:
    """One verdict per group of comparable runs; first those that speak for new music, then those of unseen tracks."""
    groups: dict[tuple[str, ...], list[SummaryRow]] = {}
    for row in rows:
        groups.setdefault(row.comparable, []).append(row)
    verdicts = [{"best": max(group, key=lambda row: row.accuracy), "rows": group} for group in groups.values()]
    return sorted(verdicts, key=lambda verdict: _flatters(verdict["best"]))


def _flatters(row: SummaryRow) -> tuple[bool, bool]:
    return bool(shared_kinds(row.leaks)), row.judged_part != "test"


def _section(number: int, run: Path) -> dict[str, Any]:
    record, metrics = read_evaluated(run)
    history, row = read_history(run), summary_row(run, record, metrics)
    confusion = np.array(metrics["confusion"], dtype=np.int64).reshape(row.genres, row.genres)
    reliability = None
    if metrics["reliability"] is not None:
        reliability = [ReliabilityBin.model_validate(found) for found in metrics["reliability"]]
    mistaken = confusion - np.diag(np.diag(confusion))
    worst = np.unravel_index(int(mistaken.argmax()), mistaken.shape)
    ends = f"after {len(history['epoch'])} epochs, training {{}} and validation {{}}"
    return {
        "id": f"run-{number}",
        "row": row,
        "record": record,
        "metrics": metrics,
        "history": [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)],
        "shares": row_shares(confusion).tolist(),
        "means": {name: float(values.mean()) for name, values in genre_metrics(confusion).items()},
        "commonest": confusion.sum(axis=1).max() / max(row.n, 1),
        "mistake": {
            "count": int(mistaken[worst]),
            "true": metrics["labels"][worst[0]],
            "predicted": metrics["labels"][worst[1]],
        },
        "settings": json.dumps(record.settings, indent=2, ensure_ascii=False, default=str),
        "accuracy_svg": to_svg(
            accuracy_figure(history, model=record.model, chance=row.chance),
            ids=f"run-{number}-accuracy",
            description=f"Curve of the accuracy of {record.model}: "
            + ends.format(percent(history["accuracy"][-1]), percent(history["val_accuracy"][-1])),
        ),
        "loss_svg": to_svg(
            loss_figure(history),
            ids=f"run-{number}-loss",
            description=f"Curve of the loss of {record.model}: "
            + ends.format(f"{history['loss'][-1]:.2f}", f"{history['val_loss'][-1]:.2f}"),
        ),
        "confusion_svg": to_svg(
            confusion_figure(confusion, metrics["labels"]),
            ids=f"run-{number}-confusion",
            description=f"Confusion matrix of {record.model} on {row.n} {row.judged_part} tracks; "
            "the table below holds its numbers",
        ),
        "reliability": reliability,
        "ece_by_chance": None if reliability is None else error_by_chance(reliability),
        "reliability_svg": None if reliability is None else _reliability_svg(number, row, reliability),
    }


def _reliability_svg(number: int, row: SummaryRow, table: Sequence[ReliabilityBin]) -> str:
    return to_svg(
        reliability_figure(table),
        ids=f"run-{number}-reliability",
        description=f"Reliability diagram of {row.model} on {row.n} {row.judged_part} tracks: calibration error "
        f"{percent(row.ece)}; the table beside it holds its numbers",
    )
