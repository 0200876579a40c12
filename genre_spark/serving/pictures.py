"""The song as a picture: which genre when, and below it the mel spectrogram on the same time axis."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from genre_spark.evaluation.figure_style import COLOURS, styled
from genre_spark.evaluation.figures import to_svg
from genre_spark.features.mel import mel_bank
from genre_spark.serving.listener import N_FFT, N_MELS, RATE
from genre_spark.serving.worker import Heard

# Rows of the timeline; more genres are in the table only.
MOST_ROWS = 8
# Inches of a figure whose text is as large as the page's: on a wide screen, and on a phone. The page shows one of them.
WIDTHS = {"wide": 9.2, "narrow": 4.4}
_TICKS_HZ = (250, 1_000, 4_000)
_LONGEST_LABEL = {"wide": 22, "narrow": 11}


class Picture(NamedTuple):
    """An `<svg>` element, for which width it is, and where in it the time axis lies.

    Attributes
    ----------
    width : str
        A key of `WIDTHS`.
    svg : str
    begin, end : float
        Shares of the width at which the song begins and ends.
    """

    width: str
    svg: str
    begin: float
    end: float


def song_pictures(heard: Heard, labels: Sequence[str], description: str) -> list[Picture]:
    """Draw a song, once for each width.

    Parameters
    ----------
    heard : Heard
    labels : sequence of str
        Genres. Drawn are the `MOST_ROWS` that are the most probable at some time, the most probable on average on top.
    description : str
        Alternative text.
    """
    p = heard.of_moments
    drawn = sorted(
        np.argsort(-p.max(axis=0), kind="stable")[:MOST_ROWS].tolist(), key=lambda genre: -p[:, genre].mean()
    )
    return [_picture(width, heard, [(genre, labels[genre]) for genre in drawn], description) for width in WIDTHS]


def _picture(width: str, heard: Heard, ranked: Sequence[tuple[int, str]], description: str) -> Picture:
    with styled():
        row_inches = 0.3
        figure = Figure(figsize=(WIDTHS[width], row_inches * len(ranked) + 3.0), layout="constrained")
        heights = [row_inches * len(ranked), 2.0]
        above, below = figure.subplots(2, sharex=True, height_ratios=heights)
        _draw_timeline(above, heard, [number for number, _ in ranked])
        above.set_yticks(range(len(ranked)), [_shown(label, _LONGEST_LABEL[width]) for _, label in ranked])
        _draw_spectrogram(below, heard)
        # Drawing is what finds the places of the axes.
        svg = _without_styles(to_svg(figure, ids=f"song-{width}", description=description))
        place = below.get_position()
        return Picture(width, svg, place.x0, place.x1)


def _draw_timeline(axes: Axes, heard: Heard, numbers: Sequence[int]) -> None:
    # From clear to full: the ground of the page, light or dark, shines through.
    rgb = matplotlib.colors.to_rgb(COLOURS["cell"])
    clear_to_full = LinearSegmentedColormap.from_list("probability", [(*rgb, 0.0), (*rgb, 1.0)])
    axes.pcolormesh(
        cell_edges_s(heard.spans_s, heard.duration_s),
        np.arange(len(numbers) + 1) - 0.5,
        heard.of_moments[:, numbers].T,
        cmap=clear_to_full,
        vmin=0,
        vmax=1,
    )
    for row in range(1, len(numbers)):
        axes.axhline(row - 0.5, color=COLOURS["grid"], linewidth=0.8)
    axes.set(ylim=(len(numbers) - 0.5, -0.5))
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_spectrogram(axes: Axes, heard: Heard) -> None:
    n_mels = len(heard.shades)
    axes.imshow(
        heard.shades, origin="lower", aspect="auto", extent=(0, heard.duration_s, -0.5, n_mels - 0.5), cmap="magma",
        vmin=0, vmax=255, interpolation="none",
    )  # fmt: skip
    bank = mel_bank(RATE, N_FFT, N_MELS, 0.0, None)
    centres_hz = bank.argmax(axis=1) * RATE / N_FFT
    axes.set_yticks(
        np.interp(_TICKS_HZ, centres_hz, np.arange(len(centres_hz))), [f"{hz / 1_000:g} kHz" for hz in _TICKS_HZ]
    )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 1.5, 2, 3, 6, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{int(seconds // 60)}:{int(seconds % 60):02d}"))
    axes.set(xlim=(0, heard.duration_s))


def cell_edges_s(spans_s: np.ndarray, duration_s: float) -> np.ndarray:
    """Where the cells of overlapping windows end: in the middle between two windows' middles.

    Parameters
    ----------
    spans_s : np.ndarray [shape=(moments, 2)]
        Begins and ends, in seconds.
    duration_s : float
        The cells fill the song from its beginning to its end.

    Returns
    -------
    np.ndarray [shape=(moments + 1,)]
    """
    middles = spans_s.mean(axis=1)
    return np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [duration_s]])


def _shown(label: str, length: int) -> str:
    # XML has no place for control characters.
    text = " ".join("".join(char if char.isprintable() else " " for char in label).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _without_styles(svg: str) -> str:
    """Turn `style` attributes into SVG's own for the same: the page's policy forbids inline styles."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - `to_svg` wrote it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name, value in _declarations(element.attrib.pop("style", "")):
            # The page has its own font.
            if name != "font-family":
                element.set(name, value)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    for length in ("width", "height"):
        root.attrib.pop(length, None)
    return ElementTree.tostring(root, encoding="unicode")


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in filter(None, map(str.strip, style.split(";"))):
        name, _, value = declaration.partition(":")
        yield name.strip(), value.strip()
