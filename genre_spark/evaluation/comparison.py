"""The same model under two splits: one that lets it know who made what it is judged on, and one that doesn't."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genre_spark.corpora.groups import KINDS, Kind
from genre_spark.corpora.leaks import LeakAudit
from genre_spark.evaluation.summary import SummaryRow, thousands

# What training may hold of a judged track, and what stands for all three.
FELLOWS: dict[Kind, tuple[str, str]] = {
    "artist": ("the artist of", "artist"),
    "album": ("the album of", "album"),
    "pcm": ("a copy of", "recording"),
}


@dataclass(frozen=True)
class Comparison:
    """Accuracies of one model on tracks of the same table, split in two ways.

    Parameters
    ----------
    model : str
    leaking, disjoint : SummaryRow
        A run whose judged tracks share artists, albums or recordings with its training tracks, and one where, as far as
        is known, none does.
    difference : float
        Accuracy of `leaking` minus that of `disjoint`.
    interval : tuple of float
        95 % interval of the difference, from that of each (by artist where artists are known), were the two sets of
        judged tracks independent.
    """

    model: str
    leaking: SummaryRow
    disjoint: SummaryRow
    difference: float
    interval: tuple[float, float]


def compare_splits(rows: Sequence[SummaryRow]) -> list[Comparison]:
    """Pair the runs that differ in the split alone: every leaking one with the first disjoint one of its model.

    Runs are of the same kind when model, feature, track table, genres and training settings are the same.
    """
    comparisons = []
    for leaking in rows:
        shared = shared_kinds(leaking.leaks)
        partners = (row for row in rows if row.same_task == leaking.same_task and _is_free_of(shared, row.leaks))
        disjoint = next(partners, None)
        if not shared or disjoint is None:
            continue
        interval = difference_interval(
            leaking.accuracy, leaking.honest_interval, disjoint.accuracy, disjoint.honest_interval
        )
        comparisons.append(Comparison(leaking.model, leaking, disjoint, leaking.accuracy - disjoint.accuracy, interval))
    return comparisons


def shared_kinds(leaks: LeakAudit) -> list[Kind]:
    """What judged tracks share with training tracks: not by way of others, as members of a group may."""
    return [kind for kind in KINDS if leaks.kinds[kind].judged_with_fellow]


def unknown_tracks(leaks: LeakAudit, kind: Kind) -> int:
    """Number of tracks of which it isn't known what they would share."""
    return {
        "artist": leaks.tracks_without_artist,
        "album": leaks.tracks_without_album,
        "pcm": leaks.tracks_without_pcm_hash,
    }[kind]


def is_unknown(leaks: LeakAudit, kind: Kind) -> bool:
    """Tell whether a count of nothing means nothing, as it is of none of the tracks known."""
    return unknown_tracks(leaks, kind) >= sum(leaks.tracks.values())


def fellows(leaks: LeakAudit) -> str:
    """Say of how many judged tracks training holds what: "the artist of 3 and a copy of 1 of them", or nothing."""
    found = [f"{FELLOWS[kind][0]} {thousands(leaks.kinds[kind].judged_with_fellow)}" for kind in shared_kinds(leaks)]
    if found:
        return f"{joined(found, 'and')} of them"
    known = [FELLOWS[kind][1] for kind in KINDS if not is_unknown(leaks, kind)]
    return f"no {joined(known, 'or')} of theirs" if known else "nothing that is known of them"


def unknown_kinds(leaks: LeakAudit) -> str:
    """Name what is not known of all tracks: "artists and albums"; of recordings, silence has nothing to be known."""
    kinds = [kind for kind in KINDS if (is_unknown(leaks, kind) if kind == "pcm" else unknown_tracks(leaks, kind))]
    return joined([f"{FELLOWS[kind][1]}s" for kind in kinds], "and")


def grouped_by(leaks: LeakAudit) -> str:
    """Name what joins tracks to groups: "artist, album or recording"."""
    return joined([FELLOWS[kind][1] for kind in leaks.by], "or")


def difference_interval(
    first: float, first_interval: tuple[float, float], second: float, second_interval: tuple[float, float]
) -> tuple[float, float]:
    """Interval of the difference of two proportions from the interval of each.

    R. G. Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10 (Wilson's
    intervals without continuity correction).

    Parameters
    ----------
    first, second : float
        Proportions of two samples that have nothing to do with each other.
    first_interval, second_interval : tuple of float
        Wilson's interval of each; also that of an effective sample.

    Returns
    -------
    tuple of float
        Lower and upper end of the interval of ``first - second``.
    """
    (first_low, first_high), (second_low, second_high) = first_interval, second_interval
    difference = first - second
    return (
        difference - math.hypot(first - first_low, second_high - second),
        difference + math.hypot(first_high - first, second - second_low),
    )


def joined(words: Sequence[str], last: str) -> str:
    """Join words as in a sentence: "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _is_free_of(kinds: Sequence[Kind], leaks: LeakAudit) -> bool:
    """Tell whether a run leaks nothing, and knows it of the kinds that another one leaks."""
    return not shared_kinds(leaks) and not any(is_unknown(leaks, kind) for kind in kinds)
