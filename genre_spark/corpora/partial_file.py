"""The file that a download grows in, and the note beside it that says which file on which server it is a part of."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genre_spark.errors import DownloadError
from genre_spark.files import complete_file


class PartialFile:
    """What has come of a file.

    Parameters
    ----------
    path : Path
        The partial file; the note is beside it, with `.json` after its name.
    url : str
        Address of the whole file, without a password. A part of another address is not gone on with: its validators
        say nothing about this one.

    Attributes
    ----------
    total : int or None
        Size of the whole file in bytes, as far as it is known.
    furthest : int
        The most bytes that were ever there.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        self.total: int | None = None
        self._note = path.with_name(f"{path.name}.json")
        self._etag = ""
        self._modified = ""
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise DownloadError(f"{path}: something other than a file stands there; move it away")
        self._known = self._read_note()
        self.furthest = self.size()

    def size(self) -> int:
        """Bytes that are safe on disk."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._unwritable(error) from None

    def is_complete(self) -> bool:
        """Tell whether as many bytes are there as the whole file has."""
        return self._known and self.total is not None and self.size() == self.total and self.path.exists()

    def range_headers(self) -> dict[str, str]:
        """Headers that ask for the rest, if the file is still the same; none where there is nothing to go on with."""
        have = self.size()
        validator = self._etag or self._modified
        # Without a validator the size is all there is to tell another file by, and the sum in the end.
        if not have or not self._known or not (validator or self.total) or have > (self.total or have):
            self.discard()
            return {}
        return {"Range": f"bytes={have}-", **({"If-Range": validator} if validator else {})}

    def is_same(self, headers: Mapping[str, str], total: int | None) -> bool:
        """Tell whether an answer is about the file that this is a part of."""
        etag = headers.get("ETag", "")
        same_tag = not (etag and self._etag) or etag == self._etag
        return same_tag and (total is None or self.total is None or total == self.total)

    def begin(self, headers: Mapping[str, str], total: int | None) -> None:
        """Start anew with the file that an answer brings."""
        self.discard()
        etag = headers.get("ETag", "")
        # If-Range takes no weak tags (RFC 9110, 13.1.5).
        self._etag = etag if etag.startswith('"') else ""
        self._modified = headers.get("Last-Modified", "")
        self.total = total
        self._write_note()

    def append(
        self, blocks: Iterator[bytes], max_bytes: int, on_bytes: Callable[[int, int | None], None] | None
    ) -> None:
        """Write what comes.

        Raises
        ------
        DownloadError
            If more comes than the file may have, or it can't be written.
        """
        size = self.size()
        limit = max_bytes if self.total is None else self.total
        # What the network raises must not be taken for the disk's.
        try:
            file = self.path.open("ab")
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            for block in blocks:
                size += len(block)
                if size > limit:
                    file.close()
                    self.discard()
                    raise DownloadError(f"{self.url}: sends more than {limit} bytes; it is not what it should be")
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:
                    raise self._unwritable(error) from None
                self.furthest = max(self.furthest, size)
                if on_bytes is not None:
                    on_bytes(size, self.total)
        finally:
            try:
                file.close()
            except OSError as error:
                raise self._unwritable(error) from None

    def end_here(self) -> None:
        """Note that this is the whole file."""
        self.total = self.size()
        self._write_note()

    def take_place(self, path: Path) -> None:
        """Let the file stand at `path`."""
        try:
            self.path.replace(path)
            self._note.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def discard(self) -> None:
        """Forget what has come."""
        try:
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None
        self._known = False
        self.total = None

    def _write_note(self) -> None:
        note = {"url": self.url, "etag": self._etag, "last_modified": self._modified, "total": self.total}
        with complete_file(self._note, DownloadError) as partial:
            partial.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        self._known = True

    def _read_note(self) -> bool:
        try:
            note: Any = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        if not isinstance(note, dict) or note.get("url") != self.url:
            return False
        etag, modified, total = note.get("etag"), note.get("last_modified"), note.get("total")
        if not isinstance(etag, str) or not isinstance(modified, str) or not (total is None or type(total) is int):
            return False
        # They become headers.
        if not (etag + modified).isprintable():
            return False
        self._etag, self._modified, self.total = etag, modified, total
        return True

    def _unwritable(self, error: OSError) -> DownloadError:
        reason = error.strerror or error
        return DownloadError(f"{self.path}: can't be written: {reason}; what has come is kept, run again to go on")
