"""Where audio and tables may lie: this machine, an object store, or anything that fsspec opens.

An address is a path, or `scheme://authority/path` with the path percent-encoded as in a `file://` URI: the S3 key
`röck/50% #1?.mp3` is `s3://bucket/r%C3%B6ck/50%25%20%231%3F.mp3`. Blanks and umlauts may stand as they are; `?` and `#`
must be encoded, because they end a path.

Credentials come from the environment or from the stores' own files (`~/.aws`, Google's and Azure's defaults), never
from an address: addresses stand in track tables, logs and reports.
"""

import contextlib
import functools
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as pafs

from genre_spark.errors import GenreSparkError
from genre_spark.files import printable
from genre_spark.object_stores import NATIVE_SCHEMES, native_filesystem, store_environment

_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_WEB = ("http", "https")
# abfs has the container before the @, the others a login name; elsewhere only credentials stand there.
_USER_SCHEMES = ("abfs", "abfss", "ftp", "hdfs", "sftp", "smb", "ssh", "webhdfs")
_SECRET_NAME = re.compile(r"secret|token|passw|pwd|credential|auth|signature|api_?key|access_?key|account_?key", re.I)
_DENIED = re.compile(r"Access[_ ]?Denied|Forbidden|Unauthorized|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT", re.I)
_SECRET_PARAMETERS = frozenset({"sig", "key", "sas", "policy"})


def is_remote(address: str | Path) -> bool:
    """Tell whether an address names something else than a file of this machine."""
    match = None if isinstance(address, Path) else _ADDRESS.fullmatch(address)
    return match is not None and match["scheme"].lower() != "file"


def local_path(address: str | Path, error: type[GenreSparkError]) -> Path:
    """Path on this machine that a plain path or a `file://` address names."""
    match = None if isinstance(address, Path) else _ADDRESS.fullmatch(address)
    if match is None:
        return Path(address)
    if match["scheme"].lower() != "file" or match["authority"] not in ("", "localhost") or not match["path"]:
        raise error(f"{masked(str(address))}: must be a file on this machine; mount or copy it first")
    if match["query"] or match["fragment"]:
        raise error(f"{masked(str(address))}: holds ? or #; write them as %3F and %23")
    return Path(os.fsdecode(unquote_to_bytes(match["path"])))


def masked(address: str | Path) -> str:
    """Address as it may be shown: without a password and without the values of a query."""
    text = printable(address)
    match = _ADDRESS.fullmatch(text)
    if match is None or match["scheme"].lower() == "file":
        return text
    shown = f"{match['scheme']}://"
    if not _has_secret_authority(match):
        return shown + match["authority"] + match["path"] + ("?***" if match["query"] else "")
    # A secret key may hold slashes, so it can reach into the path: all before the last @ is taken for it.
    _, at, rest = text[len(shown) :].rpartition("@")
    return f"{shown}***{at}{re.split('[?#]', rest)[0]}" if at else f"{shown}***"


def remote_address(address: str, error: type[GenreSparkError]) -> str:
    """Check a remote address, without a look at the network, and return it percent-encoded in one way.

    Parameters
    ----------
    address : str
        `scheme://authority/path`.
    error : type of GenreSparkError
        Raised, with the address and what is wrong.

    Raises
    ------
    GenreSparkError
        If the address holds credentials or a query that only credentials need, its path isn't plain, or nothing here
        opens its scheme. The message never shows a secret.
    """
    scheme, authority, path, query = _split(address, error)
    return f"{scheme}://{authority}{quote(path, safe=_safe(scheme))}{query}"


def join_address(root: str, relative: str) -> str:
    """Address of a file below a root; `relative` is a name as the store has it, with nothing encoded."""
    return f"{root.rstrip('/')}/{quote(relative)}"


@contextlib.contextmanager
def open_file(address: str | Path, error: type[GenreSparkError]) -> Iterator[pa.NativeFile]:
    """Open a file for reading, wherever it lies.

    Parameters
    ----------
    address : str or Path
        A path, `file://`, `s3://` (`s3a://`), `gs://` (`gcs://`), `abfs(s)://`, `hdfs://`, or whatever fsspec opens.
    error : type of GenreSparkError
        Raised, with the address and the reason on one line, when it can't be opened or read.

    Yields
    ------
    pyarrow.NativeFile
        With `size()` and `read()`.
    """
    with _reasons(address, error):
        filesystem, path = open_address(address, error)
        with filesystem.open_input_file(path) as file:
            yield file


def list_files(address: str, error: type[GenreSparkError]) -> list[str]:
    """Paths of the visible files below a remote folder, relative to it, sorted; nothing in them is encoded.

    What has a part that begins with a dot is hidden.
    """
    with _reasons(address, error):
        filesystem, root = open_address(address, error)
        entries = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    below = len(root.strip("/")) + 1
    paths = [entry.path.lstrip("/")[below:] for entry in entries if entry.type == pafs.FileType.File]
    return sorted(path for path in paths if not any(re.match(r"\.(?!\.?$)", part) for part in path.split("/")))


def open_address(address: str | Path, error: type[GenreSparkError]) -> tuple[pafs.FileSystem, str]:
    """File system that an address lies on, and the path there.

    Those of object stores are made once per process and environment.
    """
    if not is_remote(address):
        return pafs.LocalFileSystem(), str(local_path(address, error).absolute())
    scheme, authority, path, query = _split(str(address), error)
    with _reasons(address, error):
        if scheme in NATIVE_SCHEMES:
            # A fork inherits the cache but not the threads of the libraries behind it: hence the process in the key.
            filesystem, prefix = _native(scheme, authority, os.getpid(), store_environment())
            return filesystem, posixpath.join(prefix, path.strip("/"))
        import fsspec

        if scheme in _WEB:
            path = quote(path, safe=_safe(scheme))
        filesystem, path = fsspec.core.url_to_fs(f"{scheme}://{authority}{path}{query}")
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def reason_line(reason: Exception, address: str, action: str = "read") -> str:
    """Say on one line, and without a secret, why something at an address can't be read (`action`: or written)."""
    text = " ".join(str(reason).split())
    # Before it stands the name of the file, in which any word can be.
    text = text.partition("AWS Error ")[2] or text
    if "NO_SUCH_BUCKET" in text and action != "read":
        return f"can't be {action}: there is no such bucket; make it, or check its name and the store's address"
    if isinstance(reason, FileNotFoundError) or "NO_SUCH_BUCKET" in text:
        return "no such file or folder; check the bucket's name too"
    if isinstance(reason, PermissionError) or _DENIED.search(text):
        # S3 answers so for a missing file too, where the bucket may not be listed.
        denied = "access denied (or no such file)" if action == "read" else f"can't be {action}: access denied"
        return f"{denied}; check the credentials in the environment or in the store's own files"
    if re.search(r"HTTP status 301|PermanentRedirect", text):
        return "the bucket is in another region; set AWS_REGION"
    text = re.sub(r" ?\(Request ID: [^)]*\)", "", text)
    for name, value in os.environ.items():
        if len(value) >= 8 and (_SECRET_NAME.search(name) or name.lower().endswith("_key")):
            text = text.replace(value, "***")
    return f"can't be {action}: {text[:300] or type(reason).__name__}"


_native = functools.lru_cache(maxsize=32)(native_filesystem)


def _split(address: str, error: type[GenreSparkError]) -> tuple[str, str, str, str]:
    """Scheme, authority, decoded path and query of a remote address that passes all checks."""
    shown = masked(address)
    match = _ADDRESS.fullmatch(address)
    if match is None or match["scheme"].lower() == "file":
        raise error(f"{shown}: is no remote address")
    scheme, authority = match["scheme"].lower(), match["authority"]
    if "::" in authority:
        raise error(f"{shown}: chained addresses (::) are not opened; unpack it first")
    if _has_secret_authority(match):
        raise error(f"{shown}: credentials don't belong into an address; set them in the environment")
    query = match["query"] or ""
    if query and any(_is_secret(name) for name, _ in parse_qsl(query[1:], keep_blank_values=True)):
        raise error(f"{shown}: its query holds credentials; set them in the environment")
    if match["fragment"] is not None or (query and scheme not in _WEB):
        raise error(f"{shown}: a path ends at ? and #; in a name write them as %3F and %23")
    if not authority and scheme in NATIVE_SCHEMES and scheme != "hdfs":
        raise error(f"{shown}: names no bucket; write {scheme}://bucket/path")
    try:
        path = unquote(match["path"], errors="strict")
    except UnicodeDecodeError:
        raise error(f"{shown}: its percent-encoded bytes are no UTF-8; rename the file") from None
    if scheme not in _WEB:
        path = path.removesuffix("/")
    parts = path.split("/")[1:]
    if scheme not in _WEB and (not all(parts) or {".", ".."} & set(parts)):
        raise error(f"{shown}: has an empty part, . or .. in its path; such names can't be opened: rename it")
    if "::" in path:  # fsspec would take it for a chain, too
        raise error(f"{shown}: has :: in its path; such names can't be opened: rename it")
    _check_scheme(scheme, shown, error)
    return scheme, authority, path, query


def _check_scheme(scheme: str, shown: str, error: type[GenreSparkError]) -> None:
    if scheme in NATIVE_SCHEMES:
        return
    try:
        import fsspec
    except ImportError:
        raise error(f"{shown}: nothing here opens {scheme}://; `pip install 'genre-spark[remote]'`") from None
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as reason:
        raise error(f"{shown}: {scheme}:// needs more: {' '.join(str(reason).split())}") from None
    except ValueError:
        raise error(f"{shown}: nothing here opens {scheme}://; copy it, or install its fsspec package") from None


def _has_secret_authority(match: re.Match[str]) -> bool:
    authority = match["authority"]
    user, at, _ = authority.rpartition("@")
    if at:
        return ":" in user or match["scheme"].lower() not in _USER_SCHEMES
    # What follows a colon is a port, or the beginning of a password with a slash in it.
    _, colon, port = authority.rpartition(":")
    return bool(colon) and not port.isdecimal() and not authority.endswith("]")


def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_PARAMETERS or _SECRET_NAME.search(name) is not None


def _safe(scheme: str) -> str:
    return "/:@!$&'()*+,;=~" if scheme in _WEB else "/"


@contextlib.contextmanager
def _reasons(address: str | Path, error: type[GenreSparkError]) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the address."""
    try:
        yield
    except GenreSparkError:
        raise
    except Exception as reason:  # fsspec's file systems raise what their libraries raise
        raise error(f"{masked(address)}: {reason_line(reason, str(address))}") from None
