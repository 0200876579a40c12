"""How all figures look."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.style

# Blue and vermilion are told apart with every common colour blindness (after Okabe and Ito); darkened until small text
# in them has a contrast of 4.5 on white.
COLOURS = {
    "ink": "#1f2328",
    "muted": "#59636e",
    "grid": "#d8dee4",
    "training": "#0069a8",
    "validation": "#b84a00",
    "cell": "#14609f",
    "cell-ink": "#fffffe",  # not quite white, to be told from a white ground
}

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same on every machine
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,  # a genre may be called $$
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",  # text stays text
}


@contextmanager
def styled(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Give figures their look for a while; no parameter of matplotlib stays changed.

    Parameters
    ----------
    more : mapping of str to object, optional
        Further parameters.
    """
    with matplotlib.style.context(["default", {**_STYLE, **(more or {})}]), warnings.catch_warnings():
        # A genre in a script that matplotlib's font lacks: the browser has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def shown_name(name: str, length: int) -> str:
    """Turn a name into what a figure can show: on one line, without control characters, not longer than `length`."""
    # XML has no place for control characters.
    text = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
