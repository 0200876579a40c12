"""The reliability diagram, which shows whether a model is right as often as it is sure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from genre_spark.evaluation.figure_style import COLOURS, styled
from genre_spark.evaluation.metrics import wilson_interval
from genre_spark.models.reliability import ReliabilityBin


def reliability_figure(table: Sequence[ReliabilityBin], *, title: str = "") -> Figure:
    """Draw accuracy against confidence, and below it how many tracks each bin has.

    Parameters
    ----------
    table : sequence of ReliabilityBin
        As `genre_spark.evaluation.metrics.build_metrics` takes it. Bars are accuracies with their 95 % intervals, dots
        the mean confidences: a dot on the diagonal and on the top of its bar is a bin without error.
    title : str
        Written above the axes.
    """
    edges, widths = [found.low for found in table], [found.high - found.low for found in table]
    confidence = [found.confidence for found in table]
    accuracy = np.array([found.accuracy for found in table])
    intervals = [wilson_interval(round(found.accuracy * found.n), found.n) for found in table]
    ends = np.array(intervals).reshape(-1, 2).T
    percents = PercentFormatter(1, decimals=0, symbol=" %")
    with styled():
        figure = Figure(figsize=(5.6, 4.9), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.bar(edges, accuracy, widths, align="edge", color=COLOURS["cell"], alpha=0.55, label="accuracy")
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linestyle=":", linewidth=1.4, label="without error")
        # Of a bin with few tracks the accuracy says little, and a gap may be chance.
        axes.errorbar(
            confidence, accuracy, yerr=np.abs(ends - accuracy), fmt="none", ecolor=COLOURS["ink"], elinewidth=1.0
        )
        axes.plot(
            confidence, accuracy, "o", color=COLOURS["validation"], markersize=4.5, clip_on=False, zorder=3,
            label="mean confidence",
        )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
        axes.yaxis.set_major_formatter(percents)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        counts.bar(edges, [found.n for found in table], widths, align="edge", color=COLOURS["muted"], alpha=0.55)
        counts.set(xlabel="confidence: the largest probability", ylabel="tracks")
        counts.xaxis.set_major_formatter(percents)
        counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        figure.legend(loc="outside upper left", ncols=3, frameon=False, handlelength=1.4, columnspacing=1.4)
        return figure
