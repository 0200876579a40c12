"""GTZAN: a folder per genre with thirty-second clips named `blues/blues.00000.wav`.

`gtzan_fault_filtered.csv` is the fault-filtered split of C. Kereliuk, B. L. Sturm and J. Larsen, "Deep Learning and
Music Adversaries", IEEE Transactions on Multimedia 17(11), 2015: 443 clips for training, 197 for validation and 290 for
test. It leaves out 70 that are repeated or distorted (B. L. Sturm, "The GTZAN dataset", 2013) and parts artists as far
as they are known. The authors publish it as `{train,valid,test}_filtered.txt` of https://github.com/coreyker/dnn-mgr;
here the numbers of the clips stand by genre and part, runs as `first-last`.
"""

import csv
import logging
import re
from importlib import resources
from pathlib import Path

import pyarrow as pa

from genre_spark.corpora.tracks import track_table
from genre_spark.errors import CorpusError

# The original archive unpacks to `genres`, the widespread copy with WAV files to `genres_original`.
ROOT_FOLDERS = ("genres", "genres_original")

_NAME = re.compile(r"(?P<track_id>(?P<genre>.+)\.\d{5})\.(wav|au|mp3)", re.IGNORECASE | re.ASCII)

logger = logging.getLogger(__name__)


def load_gtzan(root: Path, *, fault_filtered: bool = False) -> pa.Table:
    """Tracks of a GTZAN copy; artists and albums are unknown.

    Parameters
    ----------
    root : Path
        Folder that holds a folder per genre, or the folder above it.
    fault_filtered : bool
        Take the published fault-filtered split as the corpus's own and leave out the clips that are in none of its
        parts. Otherwise there is no split.

    Raises
    ------
    CorpusError
        If there is no such folder, it holds no clip named as GTZAN's are (or none of the split), or one clip is there
        in two formats.
    """
    root = Path(root)
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder; unpack GTZAN into it")
    root = next((root / name for name in ROOT_FOLDERS if (root / name).is_dir()), root)
    found: dict[str, tuple[Path, str]] = {}
    ignored = 0
    for path in _visible_files(root):
        match = _NAME.fullmatch(path.name)
        if match is None or match["genre"] != path.parent.name:
            ignored += 1
            continue
        track_id = match["track_id"]
        if track_id in found:
            raise CorpusError(f"{path}: {found[track_id][0].name} is the same clip; keep one of the two")
        found[track_id] = path, match["genre"]
    if not found:
        raise CorpusError(f"{root}: no GTZAN clips; it must hold files such as {root}/blues/blues.00000.wav")
    if ignored:
        logger.warning("%d files under %s are not named as GTZAN's clips: ignored", ignored, root)
    parts = fault_filtered_split() if fault_filtered else {}
    rows = [
        {"track_id": track_id, "uri": path.resolve().as_uri(), "genre": genre, "split": parts.get(track_id)}
        for track_id, (path, genre) in found.items()
        if not fault_filtered or track_id in parts
    ]
    if not rows:
        raise CorpusError(f"{root}: none of its {len(found)} clips is in the fault-filtered split; load it without")
    if len(rows) < len(found):
        logger.warning(
            "%d of %d clips are in no part of the fault-filtered split (faulty, or not GTZAN's): left out",
            len(found) - len(rows), len(found),
        )  # fmt: skip
    if fault_filtered and len(rows) < len(parts):
        logger.warning("%d of the %d clips of the split are not under %s", len(parts) - len(rows), len(parts), root)
    return track_table(rows, str(root))


def fault_filtered_split() -> dict[str, str]:
    """Part of each clip that the fault-filtered split keeps, by `track_id`."""
    parts: dict[str, str] = {}
    with resources.files("genre_spark.corpora").joinpath("gtzan_fault_filtered.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for run in row["clips"].split():
                first, _, last = run.partition("-")
                for number in range(int(first), int(last or first) + 1):
                    parts[f"{row['genre']}.{number:05}"] = row["part"]
    return parts


def _visible_files(root: Path) -> list[Path]:
    try:
        genres = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        return [
            path
            for genre in genres
            for path in sorted(genre.iterdir())
            if not path.name.startswith(".") and path.is_file()
        ]
    except OSError as error:
        raise CorpusError(f"{error.filename}: can't be listed: {error.strerror}; make it readable") from None
