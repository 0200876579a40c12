"""A leak audit as a person reads it, and all that crosses a border as a table for other programs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genre_spark.corpora.leaks import LeakAudit, LeakKind, crossing_tracks
from genre_spark.errors import SplitError
from genre_spark.files import complete_file

KINDS: dict[LeakKind, str] = {
    "artist": "artists",
    "album": "albums",
    "pcm": "identical recordings",
    "group": "groups of these",
}
EXAMPLES = 5


def print_leaks(audit: LeakAudit, console: Console) -> None:
    """Print how much stands on both sides, where, and the worst examples of each kind."""
    judged = audit.tracks.get(audit.judged, 0)
    table = Table(box=SIMPLE_HEAD, title="What stands in more than one part", title_justify="left", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("how many", "their tracks", f"{audit.judged} tracks with\nsuch a one in training"):
        table.add_column(heading, justify="right")
    for kind, name in KINDS.items():
        leak = audit.kinds[kind]
        share = f"{leak.judged_with_fellow:,} ({leak.judged_with_fellow / max(judged, 1):.0%})"
        table.add_row(name, f"{leak.crossing:,}", f"{leak.tracks:,}", share)
    console.print(table)
    if audit.kinds["group"].crossing and len(audit.tracks) > 2:
        for border in audit.kinds["group"].borders:
            leaks = ", ".join(f"{audit.kinds[kind].borders[border].crossing:,} {name}" for kind, name in KINDS.items())
            console.print(f"{border.replace('-', ' and ')}: {leaks}")
    for kind, name in KINDS.items():
        leak = audit.kinds[kind]
        if not leak.examples or kind == "group":
            continue
        console.print(Text(f"{name}, those with most {audit.judged} tracks first:"))
        for example in leak.examples[:EXAMPLES]:
            where = ", ".join(f"{count:,} {part}" for part, count in example.tracks.items())
            console.print(Text(f"  {example.value}: {where}"))
        if leak.crossing > EXAMPLES:
            console.print(f"  and {leak.crossing - EXAMPLES:,} more")
    for line in _unknown(audit):
        console.print(Text(line), style="yellow")
    kinds = ", ".join(KINDS[kind] for kind in audit.by)
    if not any(leak.crossing for leak in audit.kinds.values()):
        console.print("Nothing that is known stands in more than one part.")
    elif not audit.kinds["group"].crossing:
        console.print(f"None of what split.group_by names ({kinds}) stands in more than one part; the rest does.")


def write_crossing(tracks: pa.Table, split: pa.Table, by: Any, out: Path) -> int:
    """Write every track that shares something across parts as CSV: kind, value, track_id, part.

    Returns
    -------
    int
        Number of rows.
    """
    rows = crossing_tracks(tracks, split, by)
    with complete_file(out, SplitError) as partial:
        pyarrow.csv.write_csv(rows, partial)
    return rows.num_rows


def _unknown(audit: LeakAudit) -> list[str]:
    all_tracks = sum(audit.tracks.values())
    lines = []
    if audit.tracks_not_found:
        lines.append(f"{audit.tracks_not_found:,} tracks of the split are not in the track table.")
    if audit.tracks_without_artist:
        lines.append(f"{audit.tracks_without_artist:,} of {all_tracks:,} tracks name no artist: theirs can't be told.")
    if audit.tracks_without_album:
        lines.append(f"{audit.tracks_without_album:,} of {all_tracks:,} tracks name no album.")
    if audit.tracks_without_pcm_hash:
        lines.append(
            f"The signal of {audit.tracks_without_pcm_hash:,} of {all_tracks:,} tracks is unknown: identical "
            "recordings among them can't be seen (`genre-spark corpus validate` reads them; then give --audit)."
        )
    return lines
