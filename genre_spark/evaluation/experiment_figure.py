"""The models of an experiment side by side: a dot and a 95 % interval each."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from genre_spark.evaluation.experiment_results import ResultRow
from genre_spark.evaluation.figure_style import COLOURS, shown_name, styled


def experiment_figure(rows: Sequence[ResultRow], *, title: str = "") -> Figure:
    """Draw the accuracy of each model with its interval.

    Parameters
    ----------
    rows : sequence of ResultRow
        From top to bottom.
    title : str
        Written above the axes.
    """
    with styled():
        figure = Figure(figsize=(8, 1.1 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot(title=shown_name(title, 80))
        for position, row in enumerate(rows):
            axes.plot(
                [row.accuracy_low, row.accuracy_high], [position, position], color=COLOURS["muted"], linewidth=2.2,
                solid_capstyle="butt",
            )  # fmt: skip
            axes.plot([row.accuracy], [position], "o", color=COLOURS["training"], markersize=7, clip_on=False)
            axes.annotate(
                f"{100 * row.accuracy:.1f} %", (1, position), (6, 0), ("axes fraction", "data"), "offset points",
                va="center", size=9.5, color=COLOURS["ink"],
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [shown_name(row.model, 28) for row in rows])
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        return figure
