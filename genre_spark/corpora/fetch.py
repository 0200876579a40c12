"""Fetching one large file over HTTP, so that what has come is never lost: a broken download goes on where it broke.

NAME.part         what has come so far
NAME.part.json    of which file it is: address, validators (ETag, Last-Modified) and size; written first

The environment is respected as by every program that uses requests: HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE.
"""

import email.utils
import logging
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import tenacity
import urllib3

from genre_spark.corpora.partial_file import PartialFile
from genre_spark.errors import DownloadError

_BLOCK = 1 << 18
_MAX_REDIRECTS = 5
# Other statuses of 400 to 499 say that asking again is in vain.
_PASSING = (408, 425, 429)
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18}|\*)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask it again.

    Parameters
    ----------
    attempts : int
        Give up after so many attempts in a row that brought nothing new.
    first_wait_s, longest_wait_s : float
        Bounds of the wait between two attempts, which doubles each time; also of what a server asks for (Retry-After).
    connect_timeout_s, read_timeout_s : float
        Longest wait for a connection, and for the next bytes on it.
    """

    attempts: int = 8
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    connect_timeout_s: float = 20.0
    read_timeout_s: float = 60.0


class _Interrupted(Exception):  # caught in this file: it is no error before the last attempt
    """An attempt failed in a way that may pass."""

    def __init__(self, what: str, *, progressed: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(what)
        self.progressed = progressed
        self.retry_after_s = retry_after_s


def fetch(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    patience: Patience | None = None,
    on_bytes: Callable[[int, int | None], None] | None = None,
) -> PartialFile:
    """Fetch a file, or what is still missing of it.

    Parameters
    ----------
    url : str
        Address, http or https. A redirect from https to http, or to anything else, is refused.
    path : Path
        The partial file. Its content is complete when this function returns, but nobody has checked it.
    max_bytes : int
        A larger file is refused.
    patience : Patience, optional
        Waits and attempts.
    on_bytes : callable, optional
        Called with the bytes that are there and the bytes in all, or None where the server doesn't say.

    Returns
    -------
    PartialFile
        To be taken into its place, or discarded when it turns out to be wrong.

    Raises
    ------
    DownloadError
        If the server refuses, attempts are used up, or the file is too large or can't be written. What has come is
        kept and the next call goes on from there, unless the file on the server is another one by then.
    """
    patience = patience or Patience()
    part = PartialFile(path, shown(url))
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Interrupted),
        stop=tenacity.stop_after_attempt(patience.attempts),
        wait=_wait(patience),
        after=_count_anew,
        before_sleep=lambda state: _tell(part.url, state, patience),
        reraise=True,
    )
    session = _Session()
    with session:
        try:
            retrying(_attempt, session, url, part, max_bytes, patience, on_bytes)
        except _Interrupted as error:
            raise DownloadError(
                f"{part.url}: {error}; gave up after {patience.attempts} attempts that brought nothing new, "
                "run again to go on"
            ) from None
    return part


def shown(url: str) -> str:
    """Address without the password that may stand in it."""
    pieces = urlsplit(url)
    return urlunsplit(pieces._replace(netloc=pieces.netloc.rpartition("@")[2]))


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = _MAX_REDIRECTS
        self.was_answered = False

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = urlsplit(resp.url).scheme, urlsplit(urljoin(resp.url, target)).scheme
            if there not in ("http", "https") or (here == "https" and there != "https"):
                raise DownloadError(f"{shown(resp.url)}: redirects from {here} to {there}, which is not followed")
        return target


def _attempt(
    session: _Session,
    url: str,
    part: PartialFile,
    max_bytes: int,
    patience: Patience,
    on_bytes: Callable[[int, int | None], None] | None,
) -> None:
    """Go on until the file is complete; raise `_Interrupted` if another attempt may help."""
    if part.is_complete():
        return
    before = part.furthest
    headers = {"Accept-Encoding": "identity", **part.range_headers()}
    timeout = (patience.connect_timeout_s, patience.read_timeout_s)
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            session.was_answered = True
            if _begin(response, part, max_bytes):
                return
            # Not iter_content: what it had read of a block when the connection broke would be lost.
            blocks = iter(lambda: response.raw.read1(_BLOCK, decode_content=False), b"")
            part.append(blocks, max_bytes, on_bytes)
    except requests.RequestException as error:
        if isinstance(error, ValueError | requests.TooManyRedirects):
            raise DownloadError(f"{part.url}: can't be asked for: {_reason(error)}") from None
        if (advice := _in_vain(error, session)) is not None:
            raise DownloadError(f"{part.url}: {_reason(error)}; {advice}") from None
        what = _reason(error)
        if isinstance(error, requests.exceptions.ProxyError):
            what += f" {shown(requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or '')}"
        raise _Interrupted(what, progressed=part.furthest > before) from None
    except urllib3.exceptions.HTTPError as error:
        raise _Interrupted(_reason(error), progressed=part.furthest > before) from None
    except OSError as error:
        # requests says so when REQUESTS_CA_BUNDLE names a file that isn't there.
        raise DownloadError(f"{part.url}: can't be asked for: {error}") from None
    if part.total is None:
        part.end_here()
    elif not part.is_complete():
        what = f"the answer ended after {part.size()} of {part.total} bytes"
        raise _Interrupted(what, progressed=part.furthest > before)


def _in_vain(error: Exception, session: _Session) -> str | None:
    """What to do about a failure that will not pass by itself; None for one that may."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "if a proxy signs here, name its certificate in REQUESTS_CA_BUNDLE"
    if "WRONG_VERSION_NUMBER" in text:
        return "what answers there speaks no https; write http:// if you trust the way to it"
    # Off the net a resolver says "temporary failure"; this answer says that there is no such name.
    cause = _innermost(error).__cause__
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME and not session.was_answered:
        return "look at the address, or name a mirror"
    return None


def _begin(response: requests.Response, part: PartialFile, max_bytes: int) -> bool:
    """Judge an answer's head and make the partial file ready for its body; True if there is nothing left to fetch."""
    status = response.status_code
    have = part.size()
    headers = response.headers
    given = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if status == 416 and have:
        if given is not None and given[2] == str(have):
            part.end_here()
            return True
        part.discard()
        raise _Interrupted("the server has no such range; starting anew")
    if status not in (200, 206):
        said = f"answers {status} {response.reason or ''}".rstrip()
        if status in _PASSING or status >= 500:
            raise _Interrupted(said, retry_after_s=_retry_after_s(headers.get("Retry-After")))
        raise DownloadError(f"{part.url}: {said}; look at the address, or name a mirror")
    if headers.get("Content-Encoding", "identity") not in ("identity", ""):
        raise DownloadError(f"{part.url}: is sent as {headers['Content-Encoding']}, not as it is; name a mirror")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(f"{part.url}: answers with a web page; is there a login page or a proxy in the way?")
    if status == 206:
        total = None if given is None or given[2] == "*" else int(given[2])
        if not have or given is None or given[1] != str(have) or not part.is_same(headers, total):
            part.discard()
            raise _Interrupted("the server answered with another range or file than was asked for; starting anew")
        part.total = part.total or total
    else:
        length = _LENGTH.fullmatch(headers.get("Content-Length", ""))
        total = int(length[0]) if length is not None else None
        if total is not None and total > max_bytes:
            raise DownloadError(f"{part.url}: has {total} bytes, but {max_bytes} is the limit; look at the address")
        part.begin(headers, total)
    return False


def _retry_after_s(value: str | None) -> float:
    """Seconds that a server asks to wait, from either form of the header (RFC 9110, 10.2.3)."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _wait(patience: Patience) -> Callable[[tenacity.RetryCallState], float]:
    backoff = tenacity.wait_exponential(patience.first_wait_s) + tenacity.wait_random(0, patience.first_wait_s)

    def wait(state: tenacity.RetryCallState) -> float:
        return min(max(backoff(state), _failure(state).retry_after_s), patience.longest_wait_s)

    return wait


def _failure(state: tenacity.RetryCallState) -> _Interrupted:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, _Interrupted)  # nothing else is retried
    return error


def _count_anew(state: tenacity.RetryCallState) -> None:
    # Only bytes beyond all earlier ones count: a server that knows no ranges and breaks halfway would never end.
    if _failure(state).progressed:
        state.attempt_number = 0


def _tell(url: str, state: tenacity.RetryCallState, patience: Patience) -> None:
    count = f"attempt {state.attempt_number} of {patience.attempts}: " if state.attempt_number else ""
    logger.warning("%s: %s%s; trying again in %.0f s", url, count, _failure(state), state.upcoming_sleep)


def _reason(error: Exception) -> str:
    """Innermost cause of a network error, in one line."""
    error = _innermost(error)
    text = getattr(error, "reason", None) or next(iter(error.args), None)
    text = text if isinstance(text, str) else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _innermost(error: Exception) -> Exception:
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    return error
