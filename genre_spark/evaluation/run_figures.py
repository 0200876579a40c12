"""Figures of runs: what each reached on which part, and how right one is when it answers only what it is sure of.

Built as those of `genre_spark.evaluation.figures`: with matplotlib's objects alone, no pyplot, and no parameter stays
changed.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from genre_spark.evaluation.corpus_figures import SERIES
from genre_spark.evaluation.figure_style import COLOURS, shown_name, styled
from genre_spark.evaluation.metrics import wilson_interval
from genre_spark.evaluation.summary import SummaryRow
from genre_spark.models.calibration import Threshold

# Each part has a line of its own: equal accuracies would hide one another.
_MARKERS = {"training": ("o", 0.0), "validation": ("s", -0.13), "test": ("D", 0.13)}


def accuracies_figure(rows: Sequence[SummaryRow]) -> Figure:
    """Draw the accuracy of each run on each part, with the interval of the part that judges it.

    The interval takes an artist's tracks together where artists are known.

    Parameters
    ----------
    rows : sequence of SummaryRow
        From `genre_spark.evaluation.summary.summary_rows`. For one of the study's models the study's accuracies stand
        beside them as crosses: they are of other data.
    """
    with styled():
        figure = Figure(figsize=(8, 1.4 + 0.56 * max(len(rows), 2)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            # Behind the markers: the reader looks for its ends.
            height = place + _MARKERS[row.judged_part][1]
            axes.plot(row.honest_interval, (height, height), color=SERIES[row.judged_part], linewidth=2, alpha=0.45)
            axes.plot(
                (row.chance, row.chance), (place - 0.32, place + 0.32), ":", color=COLOURS["muted"], label="chance"
            )
            for part, share in row.accuracies.items():
                if share is not None:
                    marker, offset = _MARKERS[part]
                    axes.plot(
                        share, place + offset, marker, color=SERIES[part], markersize=7, markeredgecolor="white",
                        label=part, clip_on=False, zorder=3,
                    )  # fmt: skip
            if row.study:
                studied = {"training": row.study.training_accuracy, "validation": row.study.validation_accuracy}
                for part, share in studied.items():
                    axes.plot(
                        share, place - 0.36, "x", color=SERIES[part], markersize=6, label=f"the study, {part}", zorder=3
                    )
        names = [f"{shown_name(row.name, 30)}\n{shown_name(row.split, 30)} split" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.6), xlabel="accuracy")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="x")
        _legend(figure, axes)
        return figure


def coverage_figure(
    confidence: Sequence[float], right: Sequence[bool], thresholds: Sequence[Threshold] = (), *, title: str = ""
) -> Figure:
    """Draw how often a model is right on the tracks that it is surest of, by how many of them it answers.

    Parameters
    ----------
    confidence : sequence of float
        The largest probability of each track.
    right : sequence of bool
        Whether that genre is the true one.
    thresholds : sequence of Threshold
        Confidences below which the model would rather not answer; marked where they fall on these tracks.
    title : str
        Written above the axes.
    """
    sure = np.asarray(confidence, dtype=float)
    order = np.argsort(-sure, kind="stable")
    hits = np.cumsum(np.asarray(right, dtype=bool)[order])
    # A threshold answers all tracks of one confidence or none: a point of the curve is the last of them.
    answers = 1 + np.flatnonzero(np.diff(sure[order], append=-1.0))
    right_of = hits[answers - 1]
    intervals = [wilson_interval(hit, n) for hit, n in zip(right_of.tolist(), answers.tolist(), strict=True)]
    low, high = np.array(intervals).reshape(-1, 2).T
    shares, percents = answers / max(len(sure), 1), PercentFormatter(1, decimals=0, symbol=" %")
    with styled():
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot(title=shown_name(title, 80))
        axes.fill_between(shares, low, high, color=COLOURS["cell"], alpha=0.18, linewidth=0, label="95 % interval")
        axes.plot(shares, right_of / answers, color=COLOURS["cell"], linewidth=1.8, label="right of them")
        marks: dict[int, list[str]] = {}
        for threshold in thresholds:
            answered = int((sure >= threshold.threshold).sum())
            # Several thresholds may answer the same tracks, or none.
            marks.setdefault(answered, []).append(f"{100 * threshold.precision:g} %")
        marks.pop(0, None)
        for number, answered in enumerate(sorted(marks)):
            point = (answered / len(sure), hits[answered - 1] / answered)
            axes.plot(*point, "o", color=COLOURS["validation"], markersize=6, zorder=3, label="threshold chosen for")
            # At two heights: neighbours are often close.
            axes.annotate(
                ", ".join(marks[answered]), point, (0, -8 - 13 * (number % 2)), textcoords="offset points",
                ha="center", va="top", size=9.5, color=COLOURS["validation"],
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="tracks answered, the surest first", ylabel="right")
        axes.xaxis.set_major_formatter(percents)
        axes.yaxis.set_major_formatter(percents)
        axes.grid(axis="y")
        _legend(figure, axes)
        return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Name each kind of mark once, above the axes."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=3, frameon=False, handlelength=1.4,
        columnspacing=1.4,
    )  # fmt: skip
