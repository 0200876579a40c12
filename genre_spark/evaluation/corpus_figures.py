"""Figures of a corpus: how many tracks there are and whose, how a clip sounds, and how genres differ.

The notebooks show them beside those of `genre_spark.evaluation.figures`, and they are built alike: with matplotlib's
objects alone, no pyplot, and no parameter stays changed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genre_spark.evaluation.figure_style import COLOURS, shown_name, styled
from genre_spark.features.audio import Pcm
from genre_spark.features.mel import mel_bank
from genre_spark.features.spec import FeatureSpec

# A part, or an answer, has one colour in all figures. The third is told from the others by its lightness.
SERIES = {
    "training": COLOURS["training"],
    "validation": COLOURS["validation"],
    "test": COLOURS["ink"],
    "right": COLOURS["training"],
    "wrong": COLOURS["validation"],
}
_OTHER = (COLOURS["cell"], COLOURS["muted"], COLOURS["validation"], COLOURS["ink"])

NOTES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
_CHROMA = ("chroma_stft", "chroma_cqt", "chroma_cens")
# Marks on the axis of a mel spectrogram, in Hz.
_OCTAVES_HZ = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
# Columns of a waveform's picture: more are no wider than a line.
_COLUMNS = 1_500


def counts_figure(
    names: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[int]]], *, xlabel: str = "tracks"
) -> Figure:
    """Draw counts as stacked bars, a row for each name and a panel for each way of counting.

    Parameters
    ----------
    names : sequence of str
        What the rows are of, from the top: genres, artists.
    panels : mapping of str to mapping of str to sequence of int
        By the panel's title, and in it by series (parts of a split; `right` and `wrong`): a count for each of `names`.
    xlabel : str
        What is counted.

    Raises
    ------
    ValueError
        If a series has not as many counts as there are names.
    """
    places = np.arange(len(names))
    series = list(dict.fromkeys(name for counts in panels.values() for name in counts))
    with styled():
        # Two inches for names, a fifth of one for a row.
        figure = Figure(figsize=(2 + 3.3 * len(panels), 1.3 + 0.21 * max(len(names), 3)), layout="constrained")
        for axes, (title, counts) in zip(_panels(figure, len(panels), sharex=True), panels.items(), strict=True):
            begin = np.zeros(len(names))
            for name, column in counts.items():
                widths = np.asarray(column)
                if widths.shape != places.shape:
                    raise ValueError(f"{title}: {name} has {len(widths)} counts for {len(places)} names")
                colour = SERIES.get(name, _OTHER[series.index(name) % len(_OTHER)])
                # A light edge keeps small neighbours apart.
                axes.barh(
                    places, widths, left=begin, height=0.78, color=colour, edgecolor="white", linewidth=0.6, label=name
                )
                begin += widths
            axes.set(title=shown_name(title, 60), xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
            axes.set_yticks(places, [shown_name(name, 28) for name in names], size=9.5)
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(axis="x")
            axes.set_axisbelow(True)
        if len(series) > 1:
            handles = {
                label: handle
                for axes in figure.axes
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            figure.legend(
                list(handles.values()), list(handles), loc="outside upper left", ncols=len(handles), frameon=False
            )
        return figure


def values_figure(
    groups: Sequence[str], values: Mapping[str, Sequence[float]], *, order: Sequence[str] | None = None
) -> Figure:
    """Draw every track as a dot, a row for each group and a panel for each quantity; a bar marks the group's median.

    Parameters
    ----------
    groups : sequence of str
        The group of each track, for instance its genre.
    values : mapping of str to sequence of float
        By the quantity's name, with its unit: a number for each track.
    order : sequence of str, optional
        Groups from the top; by default sorted.
    """
    order = sorted(set(groups)) if order is None else order
    panels = dict(values.items())  # of a pandas table the length is that of its rows
    group_of = np.asarray(groups, dtype=object)
    with styled():
        figure = Figure(figsize=(1.7 + max(2.4 * len(panels), 4), 1 + 0.34 * max(len(order), 2)), layout="constrained")
        for axes, (title, column) in zip(_panels(figure, len(panels)), panels.items(), strict=True):
            numbers = np.asarray(column, dtype=float)
            for place, group in enumerate(order):
                inside = numbers[group_of == group]
                # Spread so that equal values can be counted: by the golden ratio, which never repeats itself.
                spread = (np.arange(len(inside)) * 0.618034 % 1 - 0.5) * 0.56
                axes.plot(
                    inside, place + spread, "o", color=COLOURS["cell"], alpha=0.5, markersize=4, markeredgewidth=0
                )
                if inside.size:
                    middle = float(np.median(inside))
                    axes.plot(
                        [middle, middle],
                        [place - 0.36, place + 0.36],
                        color=COLOURS["validation"],
                        linewidth=2.4,
                        solid_capstyle="butt",
                    )
            axes.set(xlabel=shown_name(title, 40), ylim=(len(order) - 0.5, -0.5))
            axes.set_yticks(range(len(order)), [shown_name(group, 22) for group in order])
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.grid(axis="x")
        return figure


def profiles_figure(
    groups: Sequence[str], profiles: np.ndarray, *, xlabel: str, label: str = "standard deviations from the mean"
) -> Figure:
    """Draw a row of numbers for each group, coloured by sign and size.

    Parameters
    ----------
    groups : sequence of str
        Names of the rows, from the top.
    profiles : np.ndarray [shape=(groups, n)]
        Around 0, for instance the means of standardised MFCCs.
    xlabel : str
        What the columns are.
    label : str
        What the numbers are.
    """
    rows = np.asarray(profiles, dtype=float)
    limit = max(float(np.nanpercentile(np.abs(rows), 99)), 1e-9)
    with styled():
        figure = Figure(figsize=(8, 1.2 + 0.3 * max(len(groups), 3)), layout="constrained")
        axes = figure.add_subplot()
        # Red to blue, white at 0: told apart with every common colour blindness.
        picture = axes.imshow(rows, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set(xlabel=xlabel)
        axes.set_yticks(range(len(groups)), [shown_name(group, 22) for group in groups])
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(picture, ax=axes, label=label.replace(" from", "\nfrom"))
        return figure


def clip_figure(
    pcm: Pcm,
    arrays: Mapping[str, np.ndarray],
    specs: Sequence[FeatureSpec],
    *,
    span_s: tuple[float, float] | None = None,
) -> Figure:
    """Draw a clip's waveform and below it features over the same time.

    Parameters
    ----------
    pcm : Pcm
        The clip.
    arrays : mapping of str to np.ndarray [shape=(rows, t)]
        As `genre_spark.features.extract_file` gives them; what is filled up behind the clip's end is left out.
    specs : sequence of FeatureSpec
        Which of them to draw, from the top: features over time, no summaries.
    span_s : tuple of float, optional
        Begin and end of what is drawn, in seconds; by default the whole clip.

    Raises
    ------
    ValueError
        If a spec has no time axis, or nothing of the clip lies in the span.
    """
    begin_s, end_s = span_s or (0.0, pcm.duration_s)
    end_s = min(end_s, pcm.duration_s)
    if not 0 <= begin_s < end_s:
        raise ValueError(f"span_s={span_s} holds nothing of a clip of {pcm.duration_s:.2f} s")
    heights = [1.0, *(0.8 if arrays[spec.name].shape[0] == 1 else 1.7 for spec in specs)]
    with styled():
        figure = Figure(figsize=(9, 0.6 + sum(heights)), layout="constrained")
        waveform, *others = figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, height_ratios=heights, gridspec_kw={"hspace": 0.08}
        )[:, 0]
        _draw_waveform(waveform, pcm, begin_s, end_s)
        for axes, spec in zip(others, specs, strict=True):
            _draw_feature(axes, arrays[spec.name], spec, begin_s, end_s)
        figure.axes[len(heights) - 1].set(xlabel="time (s)")
        waveform.set_xlim(begin_s, end_s)
        return figure


def _panels(figure: Figure, number: int, *, sharex: bool = False) -> Sequence[Axes]:
    """Axes side by side, whose rows have their names on the left only."""
    axes: Sequence[Axes] = figure.subplots(1, number, sharex=sharex, sharey=True, squeeze=False)[0]
    return axes


def _draw_waveform(axes: Axes, pcm: Pcm, begin_s: float, end_s: float) -> None:
    first, last = round(begin_s * pcm.sample_rate), round(end_s * pcm.sample_rate)
    samples = pcm.samples[first:last]
    edges = np.unique(np.linspace(0, len(samples), _COLUMNS, endpoint=False).astype(int))
    low, high = np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
    times = (first + edges) / pcm.sample_rate
    # The line shows what is flat, such as silence.
    axes.fill_between(times, low, high, color=COLOURS["cell"], linewidth=0.5, edgecolor=COLOURS["cell"])
    peak = max(float(np.abs(samples).max()), 0.05)
    axes.set(ylabel="sample", ylim=(-1.05 * peak, 1.05 * peak))


def _draw_feature(axes: Axes, array: np.ndarray, spec: FeatureSpec, begin_s: float, end_s: float) -> None:
    if array.ndim != 2:
        raise ValueError(f"{spec.name} of shape {array.shape} has no time axis")
    frame_s = spec.hop_length / spec.sample_rate
    first, last = int(begin_s / frame_s), max(int(np.ceil(end_s / frame_s)), int(begin_s / frame_s) + 1)
    seen = array[:, first:last]
    name = spec.kind.replace("_", " ")
    if len(seen) == 1:
        axes.plot((first + np.arange(seen.shape[1])) * frame_s, seen[0], color=COLOURS["training"], linewidth=1.1)
        axes.set(ylabel=name.replace(" ", "\n"))
        axes.grid(axis="y")
        return
    # The first two MFCCs, level and tilt of the spectrum, are far from all others, and would leave them one colour.
    low, high = np.percentile(seen[2:] if spec.kind == "mfcc" and len(seen) > 2 else seen, [2, 99.5])
    extent = (first * frame_s, (first + seen.shape[1]) * frame_s, -0.5, len(seen) - 0.5)
    picture = axes.imshow(
        seen, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=low, vmax=high, interpolation="nearest"
    )
    label = "MFCC" if spec.kind == "mfcc" else name
    if spec.kind == "mel_spectrogram":
        label = "mel band at (Hz)"
        _mark_hertz(axes, spec)
    elif spec.kind in _CHROMA and len(seen) == len(NOTES):
        label = "pitch class"
        axes.set_yticks(range(len(NOTES)), NOTES, size=8)
    axes.set(ylabel=label)
    axes.figure.colorbar(picture, ax=axes, pad=0.01, label="dB" if spec.kind == "mel_spectrogram" else None)


def _mark_hertz(axes: Axes, spec: FeatureSpec) -> None:
    bank = mel_bank(spec.sample_rate, spec.n_fft, spec.n_mels, spec.fmin, spec.fmax)
    hertz = bank.argmax(axis=1) * spec.sample_rate / spec.n_fft
    bands = {int(np.abs(hertz - mark).argmin()): f"{mark:,}" for mark in _OCTAVES_HZ if mark <= hertz[-1]}
    # Low octaves have few bands: from the top, those whose text has room.
    marked = [last := max(bands)] if bands else []
    for band in sorted(bands, reverse=True):
        if last - band >= len(hertz) / 12:
            marked.append(last := band)
    axes.set_yticks(marked, [bands[band] for band in marked], size=8.5)
