"""What an experiment found, as it fits a terminal; `results.md` has all columns."""

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from genre_spark.experiments.results import Results


def results_table(results: "Results") -> Table:
    """Put split, model, accuracy with its interval, macro-F1, gap and verdict into 80 columns, the best first.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Table
        Numbers in %, the gap between training and judged part in points.
    """
    verdicts = {(each.split, each.model): each.verdict for each in results.comparisons}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("split", "model"):
        table.add_column(heading, no_wrap=True)
    for heading in ("accuracy (95 %)", "macro-F1", "gap"):
        table.add_column(heading, justify="right", no_wrap=True)
    if verdicts:
        table.add_column("verdict")
        table.caption = Text(f"The verdict is beside {results.comparisons[0].reference}, on the same tracks.")
        table.caption_justify = "left"
    for row in sorted(results.rows, key=lambda row: (row.split, -row.accuracy.value)):
        value, low, high = (100 * end for end in (row.accuracy.value, row.accuracy.low, row.accuracy.high))
        cells = [
            f"{row.split} (validation)" if row.part == "validation" else row.split,
            row.model,
            f"{value:.1f} ({low:.1f} to {high:.1f})",
            f"{100 * row.macro_f1.value:.1f}",
            f"{100 * row.gap:.1f}",
        ]
        if verdicts:
            cells.append(verdicts.get((row.split, row.model), ""))
        table.add_row(*map(Text, cells))
    return table
