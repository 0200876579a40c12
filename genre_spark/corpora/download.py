"""Downloading the Free Music Archive: fetched with patience, checked against its published sums, unpacked safely.

ROOT/fma_small.zip                kept, unless the caller says otherwise
ROOT/fma_small/, fma_metadata/    what `load_fma` reads
ROOT/fma_small.zip.part           what has come of an unfinished download
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import filelock
from rich.filesize import decimal

from genre_spark.corpora.checksums import accept_by_checksums, sha1_of
from genre_spark.corpora.fetch import Patience, fetch, shown
from genre_spark.corpora.fma_archives import ARCHIVES, FMA_URL, Archive
from genre_spark.corpora.partial_file import PartialFile
from genre_spark.corpora.unpack import bytes_to_unpack, missing_members, sizes_there, unpack
from genre_spark.corpora.zip_members import list_members
from genre_spark.errors import DownloadError
from genre_spark.files import is_leftover

_METADATA = "metadata"
_LOCK = ".download.lock"
# The composed corpus has the same layout, and its clips would be taken for damaged ones.
_SYNTHETIC = ".synthetic.json"

# Called with what is being done, the bytes done and the bytes in all (approximate where the server doesn't say).
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """What is still to be done, and the room for it.

    Attributes
    ----------
    download_bytes, unpack_bytes : int
        What is still to fetch and still to unpack.
    free_bytes : int
        Room where the zips lie.
    is_approximate : bool
        Whether sizes are rounded ones: those of an archive that isn't there yet.
    """

    download_bytes: int
    unpack_bytes: int
    free_bytes: int
    is_approximate: bool

    @property
    def needed_bytes(self) -> int:
        """All the room that is needed."""
        return self.download_bytes + self.unpack_bytes


@dataclass(frozen=True)
class _Work:
    """What is to be done for one archive; `only` names the members to repair, None stands for all."""

    archive: Archive
    only: frozenset[str] | None
    zip_is_right: bool
    download_bytes: int
    unpack_bytes: int


def download_fma(
    root: Path,
    subset: str,
    *,
    base_url: str = FMA_URL,
    on_plan: Callable[[Plan], None] | None = None,
    on_progress: OnProgress | None = None,
    keep_archives: bool = True,
    patience: Patience | None = None,
    archives: Mapping[str, Archive] = ARCHIVES,
) -> None:
    """Fetch and unpack FMA's metadata and one subset, or complete what an earlier call began.

    What is there and right is neither fetched nor unpacked again: an unpacked archive with all members in their sizes,
    or with the right sums where it was unpacked by hand; a zip with the right sum, whoever put it there; the bytes of
    an interrupted download.

    Parameters
    ----------
    root : Path
        Folder of the corpus; it is made where it is missing.
    subset : {"small", "medium", "large", "full"}
        Which archive of clips.
    base_url : str
        Address of the folder that holds the zips: FMA's own or a mirror.
    on_plan : callable, optional
        Told once what is to be done, before anything is fetched.
    on_progress : callable, optional
        Called with what is being done ("fetching fma_small.zip", "checking ...", "unpacking ..."), the bytes done and
        the bytes in all. While unpacking by several threads, one at a time.
    keep_archives : bool
        Whether the zips stay when they are unpacked; a later repair needs them.
    patience : Patience, optional
        Waits and attempts of the download.
    archives : mapping of str to Archive
        What is published: "metadata" and the subsets.

    Raises
    ------
    DownloadError
        If the subset or address is impossible, there is no room, the server refuses or serves something else, or `root`
        can't be written, holds a synthetic corpus or another zip of that name, or is being downloaded to already.
    """
    root = Path(root)
    wanted = _wanted(subset, archives)
    base_url = _checked_url(base_url)
    report = on_progress or (lambda what, done, total: None)
    with _named_errors(root):
        # A corpus that is complete may lie where nothing can be written.
        if all(_is_done(root, archive, keep_archives) for archive in wanted):
            _tell_plan(root, [], on_plan)
            return
        with _alone_in(root):
            work = [_look(root, archive, report) for archive in wanted]
            _tell_plan(root, work, on_plan)
            for item in work:
                zip_path = root / item.archive.zip_name
                if item.only is None or item.only:
                    if not item.zip_is_right:
                        _fetch(base_url, zip_path, item.archive, patience, report)
                    _unpack(root, zip_path, item, report)
                if not keep_archives:
                    zip_path.unlink(missing_ok=True)


def _wanted(subset: str, archives: Mapping[str, Archive]) -> tuple[Archive, Archive]:
    subsets = [name for name in archives if name != _METADATA]
    if subset not in subsets:
        raise DownloadError(f"fma: unknown subset {subset!r}; known are {', '.join(subsets)}")
    return archives[_METADATA], archives[subset]


def _checked_url(base_url: str) -> str:
    try:
        pieces = urlsplit(base_url)
        sound = pieces.scheme in ("http", "https") and bool(pieces.hostname) and not (pieces.query or pieces.fragment)
    except ValueError:
        sound = False
    if re.match("file:|/|~", base_url, re.IGNORECASE):
        raise DownloadError(f"{base_url!r}: is on this machine, not a mirror; put its zips into the corpus's folder")
    if not sound or re.search(r"\s", base_url):
        masked = re.sub("//[^/]*@", "//***@", base_url)
        raise DownloadError(f"{masked!r}: not the address of a folder; it looks like {FMA_URL}")
    return base_url.rstrip("/") + "/"


def _is_done(root: Path, archive: Archive, keep_archives: bool) -> bool:
    return missing_members(root, archive) == {} and (keep_archives or not (root / archive.zip_name).exists())


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Keep a second download out of `root`, also one by a process that ends by itself or is killed."""
    if (root / _SYNTHETIC).exists():
        raise DownloadError(f"{root}: holds a synthetic corpus; name another folder")
    if root.exists() and not root.is_dir():
        raise DownloadError(f"{root}: is a file, not a folder; name another place")
    root.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DownloadError(f"{root}: another download into this folder is running; wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _named_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where, reason = error.filename or root, error.strerror or error
        raise DownloadError(f"{where}: can't be read or written: {reason}; look at its permissions and disk") from None


def _look(root: Path, archive: Archive, report: OnProgress) -> _Work:
    """See what is there of an archive."""
    zip_path = root / archive.zip_name
    part = _part_path(zip_path)
    for leftover in root.glob(f".{part.name}*"):
        if is_leftover(leftover.name):
            leftover.unlink()
    missing = missing_members(root, archive)
    by_hand = missing is None and not zip_path.exists()
    if by_hand and accept_by_checksums(
        root, archive, lambda done, all_: report(f"checking {archive.name}", done, all_)
    ):
        missing = {}
    if missing == {}:
        return _Work(archive, frozenset(), zip_is_right=False, download_bytes=0, unpack_bytes=0)
    only = None if missing is None else frozenset(missing)
    if _is_right_zip(zip_path, archive, report):
        PartialFile(part, "").discard()
        unpack_bytes = bytes_to_unpack(root, archive, list_members(zip_path, archive))
        return _Work(archive, only, zip_is_right=True, download_bytes=0, unpack_bytes=unpack_bytes)
    have = part.stat().st_size if part.exists() else 0
    if missing is None:
        unpack_bytes = max(archive.approx_unpacked_bytes - sum(sizes_there(root, archive).values()), 0)
    else:
        unpack_bytes = sum(missing.values())
    return _Work(archive, only, False, max(archive.approx_zip_bytes - have, 0), unpack_bytes)


def _part_path(zip_path: Path) -> Path:
    return zip_path.with_name(f"{zip_path.name}.part")


def _is_right_zip(zip_path: Path, archive: Archive, report: OnProgress) -> bool:
    """Check a zip that is there already; a wrong one stays, for it is not ours."""
    if not zip_path.exists():
        return False
    if not zip_path.is_file():
        raise DownloadError(f"{zip_path}: is no file; move it away")
    found = _sha1(zip_path, archive, report)
    if found != archive.sha1:
        size = zip_path.stat().st_size
        what = "not what was published"
        if size < archive.approx_zip_bytes:
            what = f"perhaps an unfinished download, {decimal(size)} of {decimal(archive.approx_zip_bytes)}"
        raise DownloadError(
            f"{zip_path}: SHA-1 is {found}, expected {archive.sha1}: {what}; complete it, or delete it and run again "
            "to have it fetched"
        )
    return True


def _sha1(path: Path, archive: Archive, report: OnProgress) -> str:
    total = path.stat().st_size
    return sha1_of(path, lambda done: report(f"checking {archive.zip_name}", done, total))


def _fetch(base_url: str, zip_path: Path, archive: Archive, patience: Patience | None, report: OnProgress) -> None:
    url = base_url + archive.zip_name
    part = fetch(
        url,
        _part_path(zip_path),
        max_bytes=archive.max_zip_bytes,
        patience=patience,
        on_bytes=lambda done, total: report(
            f"fetching {archive.zip_name}", done, max(done, total or archive.approx_zip_bytes)
        ),
    )
    found = _sha1(part.path, archive, report)
    if found != archive.sha1:
        part.discard()
        raise DownloadError(
            f"{zip_path}: SHA-1 is {found}, expected {archive.sha1}: {shown(url)} serves something else than was "
            "published, or it was damaged on the way; it is removed, run again or name another address"
        )
    part.take_place(zip_path)


def _unpack(root: Path, zip_path: Path, item: _Work, report: OnProgress) -> None:
    needed = bytes_to_unpack(root, item.archive, list_members(zip_path, item.archive))
    folder = root / item.archive.name
    if needed > (free := _free_bytes(folder)):
        raise DownloadError(
            f"{folder}: needs {decimal(needed)} to unpack {item.archive.zip_name}, but only {decimal(free)} are free; "
            "make room and run again, the zip is kept"
        )
    unpack(
        zip_path,
        root,
        item.archive,
        only=item.only,
        on_bytes=lambda done, total: report(f"unpacking {item.archive.zip_name}", done, total),
    )


def _tell_plan(root: Path, work: list[_Work], on_plan: Callable[[Plan], None] | None) -> None:
    """Tell the plan, and refuse what can't fit; a subset's folder may be a link to another disk."""
    plan = Plan(
        download_bytes=sum(item.download_bytes for item in work),
        unpack_bytes=sum(item.unpack_bytes for item in work),
        free_bytes=_free_bytes(root),
        is_approximate=any(item.download_bytes for item in work),
    )
    if on_plan is not None:
        on_plan(plan)
    needs: dict[int, tuple[Path, int, int]] = {}
    for item in work:
        for path, fetched, unpacked in (
            (root, item.download_bytes, 0),
            (root / item.archive.name, 0, item.unpack_bytes),
        ):
            place = _existing(path)
            first, to_fetch, to_unpack = needs.get(device := place.stat().st_dev, (place, 0, 0))
            needs[device] = (first, to_fetch + fetched, to_unpack + unpacked)
    for place, to_fetch, to_unpack in needs.values():
        if to_fetch + to_unpack > (free := _free_bytes(place)):
            about = "about " if plan.is_approximate else ""
            raise DownloadError(
                f"{place}: needs {about}{decimal(to_fetch + to_unpack)} ({decimal(to_fetch)} to download, "
                f"{decimal(to_unpack)} unpacked), but only {decimal(free)} are free; make room or name another folder"
            )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    return next((place for place in (path, *path.absolute().parents) if place.exists()), path)
