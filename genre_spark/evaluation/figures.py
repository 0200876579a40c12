"""The study's figures: curves by epoch and confusion matrices.

Figures are built with matplotlib's objects alone: no pyplot, no display, and no parameter stays changed. As SVG their
colours are CSS variables (`--figure-ink` and so on), so that a page can show them on a dark ground.
"""

import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator, PercentFormatter

from genre_spark.errors import RunError
from genre_spark.evaluation.confusion_matrix import most_confused
from genre_spark.evaluation.figure_style import COLOURS, shown_name, styled
from genre_spark.evaluation.metrics import row_shares
from genre_spark.evaluation.study import STUDY
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import complete_file

# From this share on, light text is easier to read on a cell than dark text.
LIGHT_TEXT_FROM = 0.75


def accuracy_figure(
    history: Mapping[str, Sequence[float]],
    *,
    model: str,
    chance: float | None = None,
    title: str = "",
    best_epoch: int = 0,
    of_segments: bool = False,
) -> Figure:
    """Draw accuracy by epoch, training and validation.

    Parameters
    ----------
    history : mapping of str to sequence of float
        As `genre_spark.models.run.read_history` returns it.
    model : str
        For one of the study's models its final accuracies are drawn as dashed lines.
    chance : float, optional
        Accuracy of guessing, drawn as a dotted line.
    title : str
        Written above the axes.
    best_epoch : int
        Epoch, from 1, whose weights the run kept: it is marked, and its values stand in the legend. 0: the last one.
    of_segments : bool
        The curves count segments of tracks; that is said at the axis.
    """
    with styled():
        figure, axes = _curves(history, "accuracy", "{:.1%}", best_epoch)
        quantity = "accuracy on segments" if of_segments else "accuracy"
        axes.set(ylim=(0, 1), title=shown_name(title, 80), ylabel=quantity)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        if model in STUDY:
            study = STUDY[model]
            for part, value in (("training", study.training_accuracy), ("validation", study.validation_accuracy)):
                _level(axes, value, f"study {100 * value:.4g} %", COLOURS[part], "--")
        if chance is not None:
            guessing = f"{100 * chance:.1f}" if chance >= 0.0005 else "< 0.1"
            _level(axes, chance, f"chance {guessing} %", COLOURS["muted"], ":")
        return figure


def loss_figure(history: Mapping[str, Sequence[float]], *, title: str = "", best_epoch: int = 0) -> Figure:
    """Draw loss by epoch, training and validation.

    Parameters
    ----------
    history : mapping of str to sequence of float
        As `genre_spark.models.run.read_history` returns it.
    title : str
        Written above the axes.
    best_epoch : int
        As `accuracy_figure` takes it.
    """
    with styled():
        figure, axes = _curves(history, "loss", "{:.2f}", best_epoch)
        axes.set_title(shown_name(title, 80))
        finite = [value for name in ("loss", "val_loss") for value in history[name] if np.isfinite(value)]
        # A loss has no upper end; from 0 on, the two curves' distance is seen in proportion.
        axes.set_ylim(0, 1.08 * max([*finite, 1e-6]))
        return figure


def kept_place(history: Mapping[str, Sequence[float]], best_epoch: int) -> int:
    """Place, from 0, of the epoch whose weights a run kept: of the last one where `best_epoch` isn't among them."""
    epochs = list(history["epoch"])
    return epochs.index(best_epoch) if best_epoch in epochs else len(epochs) - 1


def confusion_figure(confusion: np.ndarray, labels: Sequence[str], *, title: str = "") -> Figure:
    """Draw a confusion matrix: counts and shares of the true genre, coloured by share.

    Of more than `confusion_matrix.MOST_SHOWN` genres those with most mistakes have rows, and one row holds the others:
    where it meets their column, right and wrong answers are counted together, and the cell is not coloured.

    Parameters
    ----------
    confusion : np.ndarray [shape=(genres, genres)]
        Counts, rows true, columns predicted.
    labels : sequence of str
        Genres in the order of the rows.
    title : str
        Written above the axes.
    """
    shown = most_confused(confusion, labels)
    counts, n = shown.counts, len(shown.names)
    shares, names = row_shares(counts), [shown_name(label, 22) for label in shown.names]
    coloured = shares.copy()
    if shown.left_out:
        coloured[-1, -1] = 0.0
    most = f" (the {len(shown.labels)} of {len(labels):,} with most mistakes)" if shown.left_out else ""
    cell_inches, size = (0.62, 10.5) if n <= 12 else (0.46, 7.5)
    cells = max(n, 4) * cell_inches
    with styled():
        # Long names take room of their own, not that of the cells.
        longest = max(_width_inches(name) for name in names)
        size_inches = (cells + longest + 0.6, cells + longest / math.sqrt(2) + 0.9)
        figure = Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot(aspect="equal", title=shown_name(title, 80))
        # From clear to full instead of from white: the ground of the page, light or dark, shines through.
        red, green, blue = matplotlib.colors.to_rgb(COLOURS["cell"])
        clear_to_full = LinearSegmentedColormap.from_list("share", [(red, green, blue, 0.0), (red, green, blue, 1.0)])
        axes.pcolormesh(
            np.arange(n + 1) - 0.5,
            np.arange(n + 1) - 0.5,
            coloured,
            cmap=clear_to_full,
            vmin=0,
            vmax=1,
            edgecolors=COLOURS["grid"],
            linewidth=0.6,
        )
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            ink = "muted" if not count else "cell-ink" if coloured[row, column] >= LIGHT_TEXT_FROM else "ink"
            lines = f"{_compact(int(count))}\n{100 * share:.0f} %" if count else "0"
            cell = axes.text(column, row, lines, ha="center", va="center", size=size, color=COLOURS[ink])
            cell.set_in_layout(False)  # it lies within the axes; measuring hundreds of cells takes seconds
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n), names)
        axes.set(xlabel="predicted genre", ylabel=f"true genre{most}", ylim=(n - 0.5, -0.5))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return figure


# What stands on the axis of a feature's rows.
_ROWS = {"mfcc": "MFCC", "mfcc_delta": "MFCC", "mel_spectrogram": "mel band", "fma_518": "column of features.csv"}


def feature_figure(array: np.ndarray, spec: FeatureSpec) -> Figure:
    """Draw one track's feature: bars for a summary over time, else a picture over time.

    Parameters
    ----------
    array : np.ndarray [shape=spec.shape]
    spec : FeatureSpec
    """
    rows = _ROWS.get(spec.kind, spec.kind.replace("_", " "))
    with styled():
        figure = Figure(figsize=(8, 2.8), layout="constrained")
        axes = figure.add_subplot(title=f"{spec.name} {spec.shape}")
        if array.ndim == 1:
            axes.bar(np.arange(len(array)), array, color=COLOURS["cell"])
            axes.set(xlabel=rows, ylabel=", ".join(spec.summary or ()))
            return figure
        end_s = array.shape[1] * spec.hop_length / spec.sample_rate
        # The first coefficient is a level far from all others; without limits it would leave them one colour.
        low, high = np.percentile(array, [2, 99.5])
        picture = axes.imshow(
            array, origin="lower", aspect="auto", extent=(0, end_s, 0, len(array)), cmap="magma", vmin=low, vmax=high
        )
        axes.set(xlabel="time (s)", ylabel=rows)
        figure.colorbar(picture, ax=axes, label="dB" if spec.kind == "mel_spectrogram" else None)
        return figure


def to_svg(figure: Figure, *, ids: str = "", description: str = "") -> str:
    """Turn a figure into an `<svg>` element that can stand in an HTML page beside others.

    Parameters
    ----------
    figure : Figure
    ids : str
        Prefix of all ids in the element; by default a digest of its content, so that different figures never share
        one (a clip path that is found in another figure would hide the curve).
    description : str
        Alternative text.

    Returns
    -------
    str
        The same for the same figure: no date, no random id. Text is text, colours are CSS variables with fallbacks.
    """
    out = io.StringIO()
    with styled({"svg.hashsalt": "genre_spark"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    digest = hashlib.sha256(out.getvalue().encode()).hexdigest()[:10]
    root = ElementTree.fromstring(out.getvalue())  # noqa: S314 - matplotlib wrote it, names in it are escaped
    return _inline(root, f"{ids or f'figure-{digest}'}-", description)


def save_png(figure: Figure, path: Path) -> None:
    """Save a figure on a white ground; the file appears under its name only when it is complete."""
    with styled(), complete_file(path, RunError) as partial:
        figure.savefig(partial, format="png", dpi=160, facecolor="white")


def save_svg(figure: Figure, path: Path) -> None:
    """Save a figure as a file for a text or slides: on a white ground, with text as text, the same each time."""
    with styled({"svg.hashsalt": "genre_spark"}), complete_file(path, RunError) as partial:
        figure.savefig(partial, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})


def _width_inches(text: str) -> float:
    """Width of a text on an axis; of one line, without mathematics."""
    if not text:
        return 0.0
    return float(TextPath((0, 0), text, size=matplotlib.rcParams["font.size"]).get_extents().width) / 72


def _curves(history: Mapping[str, Sequence[float]], quantity: str, value: str, best_epoch: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    epochs, place = np.asarray(history["epoch"]), kept_place(history, best_epoch)
    for part, column, marker in (("training", quantity, "o"), ("validation", f"val_{quantity}", "s")):
        values = np.asarray(history[column])
        finite = np.flatnonzero(np.isfinite(values))
        marked = finite[finite <= place][-1:]
        of_it = value.format(values[marked[0]]).replace("%", " %") if marked.size else "not finite"
        # The marker is also what is seen of a training of one epoch.
        axes.plot(
            epochs,
            values,
            color=COLOURS[part],
            linewidth=1.8,
            marker=marker,
            markersize=5,
            markevery=marked.tolist(),
            label=f"{part} {of_it}",
            clip_on=False,
            zorder=3,
        )
    if place < len(epochs) - 1:
        axes.axvline(
            epochs[place], color=COLOURS["muted"], linewidth=0.9, zorder=2, label=f"kept: epoch {epochs[place]:.0f}"
        )
    axes.set(xlabel="epoch", ylabel=quantity, xlim=(min(epochs[0], 1) - 0.5, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, handlelength=1.2, columnspacing=1.1)
    return figure, axes


def _level(axes: Axes, value: float, text: str, colour: str, linestyle: str) -> None:
    axes.axhline(value, color=colour, linestyle=linestyle, linewidth=1.2, zorder=2)
    # Outside of the axes no curve can run through it.
    axes.annotate(
        text, (1, value), (4, 0), ("axes fraction", "data"), "offset points", va="center", size=9.5, color=colour
    )


def _compact(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1_000:.0f}k"


def _inline(root: ElementTree.Element, prefix: str, description: str) -> str:
    variables = {colour: f"var(--figure-{name}, {colour})" for name, colour in COLOURS.items()}
    for parent in list(root.iter()):
        for child in list(parent):
            # A <style> in an inline SVG would style the whole page; the metadata names foreign addresses.
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        # In HTML the parser knows SVG's elements by their bare names.
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            bare = name.rpartition("}")[2]
            if bare == "id":
                value = prefix + value
            elif bare == "href":
                value = value.replace("#", f"#{prefix}", 1)
            elif bare == "style":
                value = re.sub("#[0-9a-f]{6}", lambda match: variables.get(match[0], match[0]), value)
            element.set(bare, value.replace("url(#", f"url(#{prefix}"))
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    if description:
        root.set("role", "img")
        root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")
