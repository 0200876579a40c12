"""An archive's folder that somebody unpacked by hand: it is told by the list of sums that came with it.

FMA's zips hold a file `checksums` with a line `<SHA-1>  <name below the folder>` for every member but README.txt and
`checksums` itself. It saves fetching seven gigabytes only to see that all is there.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

from genre_spark.corpora.fma_archives import Archive
from genre_spark.corpora.unpack import RECORD, sizes_there, write_record

_LIST = "checksums"
_LINE = re.compile(r"([0-9a-f]{40}) [ *]([^\s]+)")
_UNLISTED = ("README.txt", _LIST)
# 106,574 lines of 56 characters are the longest list; whatever is larger is none.
_MAX_LIST_BYTES = 1 << 24
_BLOCK = 1 << 20

logger = logging.getLogger(__name__)


def accept_by_checksums(root: Path, archive: Archive, on_bytes: Callable[[int, int], None]) -> bool:
    """Tell whether a folder without a record holds all of its archive; if so, write the record.

    Why not is logged, because then the zip is fetched. Sums are computed only where no file is missing.

    Parameters
    ----------
    root : Path
        The folder is `root / archive.name`.
    archive : Archive
        What it is supposed to hold.
    on_bytes : callable
        Called with the bytes that are checked, and the bytes in all.

    Raises
    ------
    DownloadError
        If the folder can't be listed, or the record can't be written.
    OSError
        If a file can't be read.
    """
    folder = root / archive.name
    there = sizes_there(root, archive)
    # With a record of another edition, or a damaged one, the list may be of that edition too.
    if not there or (folder / RECORD).exists():
        return False
    sums = _read_list(folder / _LIST, archive)
    if sums is None:
        logger.warning(
            "%s: has files, but no complete list %s to check them by; %s is needed for that. Without --download they "
            "are taken as they are", folder, _LIST, archive.zip_name,
        )  # fmt: skip
        return False
    missing = [name for name in sums if name not in there]
    if missing:
        logger.warning(
            "%s: lacks %d of %d files, such as %s; %s is needed to complete it",
            folder, len(missing), len(sums), missing[0], archive.zip_name,
        )  # fmt: skip
        return False
    wrong = _differing(folder, sums, sum(there[name] for name in sums), on_bytes)
    if wrong:
        logger.warning(
            "%s: %d of %d files differ from its list %s, such as %s; %s is needed to repair them",
            folder, len(wrong), len(sums), _LIST, wrong[0], archive.zip_name,
        )  # fmt: skip
        return False
    write_record(root, archive, {name: size for name, size in there.items() if name in sums or name in _UNLISTED})
    return True


def _read_list(path: Path, archive: Archive) -> dict[str, str] | None:
    """Sums by name, without those of members that are left out; None where the list is none or not the whole one."""
    try:
        if path.stat().st_size > _MAX_LIST_BYTES:
            return None
        lines = path.read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    matches = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in matches if match is not None}
    known = all(archive.expects(name) or name in archive.left_out for name in sums)
    # FMA once published a smaller corpus under the same name.
    if None in matches or not known or len(sums) < archive.approx_members - len(_UNLISTED):
        return None
    return {name: value for name, value in sums.items() if name not in archive.left_out}


def _differing(folder: Path, sums: dict[str, str], total: int, on_bytes: Callable[[int, int], None]) -> list[str]:
    before = 0

    def tell(done: int) -> None:
        on_bytes(before + done, total)

    wrong = []
    for name, expected in sums.items():
        if sha1_of(folder / name, tell) != expected:
            wrong.append(name)
        before += (folder / name).stat().st_size
    return wrong


def sha1_of(path: Path, on_bytes: Callable[[int], None]) -> str:
    """SHA-1 of a file's content, 40 hexadecimal digits; it is the sum that FMA publishes."""
    digest = hashlib.sha1(usedforsecurity=False)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            on_bytes(done)
    return digest.hexdigest()
