"""Who may ask, and what a browser may do with the answer.

A page on loopback has two kinds of strangers: other web pages in the same browser, which can send requests to it but
must not read or steer it, and names of files, which are shown and must not become code.
"""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genre_spark.serving.refusals import ForeignOrigin

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

# The browser runs this server's script and style alone, no inline ones, and asks no other machine for anything.
# `data:`: the spectrogram within its SVG. `blob:`: the song, which the page plays from the visitor's own file.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # With `no-referrer` browsers call the origin of this page's own form `null`, as they do a stranger's.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class SecurityHeaders:
    """Gives every answer the headers above, those to failed requests included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)


def allowed_hosts(host: str, names: Sequence[str]) -> list[str]:
    """Names under which the page may be asked for: another one is a foreign name that was made to point here.

    Parameters
    ----------
    host : str
        Address that the server listens on.
    names : sequence of str
        Further ones, of the settings.
    """
    return [*LOOPBACK, f"[{host}]" if ":" in host else host, *names]


def check_origin(request: Request) -> None:
    """Refuse what another web page sends.

    Browsers tell where a request comes from and let no page change that; programs such as curl tell nothing, and need
    no browser to do what they do.

    Raises
    ------
    ForeignOrigin
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = request.headers["host"]
    # `https`: behind a proxy. `null`: where a proxy or an extension forbids referrers; a sandboxed page of anybody has
    # that origin too, and browsers that don't say `same-origin` beside it can't tell the two apart.
    is_own = origin in (None, f"http://{host}", f"https://{host}") or (origin == "null" and site == "same-origin")
    if not is_own or site not in (None, "same-origin"):
        raise ForeignOrigin("another web page sent this; drop the file on the page of this server")
