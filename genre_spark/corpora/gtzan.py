"""GTZAN: a folder per genre with thirty-second clips named `blues/blues.00000.wav`."""

import logging
import re
from pathlib import Path

import pyarrow as pa

from genre_spark.corpora.tracks import track_table
from genre_spark.errors import CorpusError

# The original archive unpacks to `genres`, the widespread copy with WAV files to `genres_original`.
ROOT_FOLDERS = ("genres", "genres_original")

_NAME = re.compile(r"(?P<track_id>(?P<genre>.+)\.\d{5})\.(wav|au|mp3)", re.IGNORECASE | re.ASCII)

logger = logging.getLogger(__name__)


def load_gtzan(root: Path) -> pa.Table:
    """Tracks of a GTZAN copy; artists, albums and a split are unknown.

    Parameters
    ----------
    root : Path
        Folder that holds a folder per genre, or the folder above it.

    Raises
    ------
    CorpusError
        If there is no such folder, it holds no clip named as GTZAN's are, or one clip is there in two formats.
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
    return track_table(
        [
            {"track_id": track_id, "uri": path.resolve().as_uri(), "genre": genre}
            for track_id, (path, genre) in found.items()
        ],
        str(root),
    )


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
