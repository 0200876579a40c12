"""An answer to a request whose body hasn't been read."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# What is still on its way is thrown away for so long, up to so many bytes; then the connection is cut.
LINGER_S = 1.0
LINGER_BYTES = 4_000_000


class LingeringResponse(Response):
    """Answers, gives the sender a moment to notice, and closes the connection.

    Where a connection is closed with bytes in it that nobody read, the sender's system throws the answer away, and all
    that is seen is "connection reset".
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})
