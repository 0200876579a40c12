"""Listens on an address and runs the routes until it is told to end."""

import logging
import os
import socket
import sys
import threading
import webbrowser
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from genre_spark.errors import EnvironmentSetupError, GenreSparkError
from genre_spark.models.bundle import read_description
from genre_spark.models.calibration import threshold_of
from genre_spark.serving.app import Server, State
from genre_spark.serving.guards import allowed_hosts
from genre_spark.serving.worker import Worker
from genre_spark.settings import Settings

# Far more than browsers of one machine open; further connections are answered 503.
_MOST_CONNECTIONS = 64


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    bundle: Path,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    precision: float | None = None,
    open_browser: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Parameters
    ----------
    bundle : Path
        The model.
    settings : Settings
        `serve` and `audio` are used.
    host : str
        Address to listen on. There is no login and no TLS: whoever reaches it may use it.
    port : int
        0: a free one.
    precision : float, optional
        As `genre_spark.models.predict.predict_files` takes it.
    open_browser : bool
        Show the page in the visitor's browser.
    say : callable
        Told in a line where the page is and what becomes of the model.

    Raises
    ------
    BundleError, ModelError
        If there is no such model, or it can't be loaded.
    EnvironmentSetupError
        If the address can't be listened on, or is that of all interfaces and no name is set under which to ask.
    KeyboardInterrupt
        At Ctrl-C and SIGTERM, when all has ended.
    """
    description = read_description(bundle)  # before anything is started
    if precision is not None:
        threshold_of(description.calibration, precision)
    seen: list[State] = []
    failures: list[GenreSparkError] = []

    def on_state(state: State, error: GenreSparkError | None) -> None:
        seen.append(state)
        if error is None:
            say("the model is ready")
        elif "ready" in seen:
            # Later on the machine may be in a better mood.
            say(str(error))
        else:
            failures.append(error)
            running.should_exit = True

    routes = Server(
        Worker(bundle, settings.audio, precision),
        description,
        settings.serve,
        hosts=allowed_hosts(host, settings.serve.host_names),
        precision=precision,
        on_state=on_state,
    )
    running = uvicorn.Server(
        uvicorn.Config(
            routes.app,
            log_config=None,
            access_log=False,
            # The names of the programs and their versions are nobody's business.
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=0,
            ws="none",
            http="h11",
            lifespan="on",
        )
    )
    with _listening(host, port) as listener:
        address, elsewhere = shown_address(host, listener.getsockname(), settings.serve.host_names)
        say(f"{address} (Ctrl-C ends it{elsewhere}); loading the model, which takes some seconds")
        if open_browser:
            # Some browsers keep who opened them waiting.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        # That requests are cut off when it ends isn't worth a message.
        logging.getLogger("uvicorn.error").addFilter(_is_no_goodbye)
        running.run(sockets=[listener])
    if failures:
        raise failures[0]


def shown_address(host: str, bound: tuple, names: Sequence[str]) -> tuple[str, str]:
    """Where the page is for a browser on this machine, and what to say of other machines.

    Parameters
    ----------
    host : str
        Address that was asked for.
    bound : tuple
        What the socket says of it, as `getsockname` does.
    names : sequence of str
        Further ones, of the settings.

    Raises
    ------
    EnvironmentSetupError
        If it is the address of all interfaces and there are no further names: other machines could only be refused.
    """
    elsewhere = ""
    if ip_address(bound[0]).is_unspecified:
        if not names:
            raise EnvironmentSetupError(
                f"--host {host}: the page would answer under no name that other machines know; give the address of "
                "one interface, or the names: --set 'serve.host_names=[NAME_OR_ADDRESS]'"
            )
        # No browser can ask for all addresses.
        host, elsewhere = "::1" if ":" in bound[0] else "127.0.0.1", f"; other machines ask for {', '.join(names)}"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound[1]}/", elsewhere


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # A browser that is quicker than the server waits.
        listener.listen()
    except OSError as error:
        listener.close()
        raise EnvironmentSetupError(
            f"{host}:{port}: can't be listened on: {error.strerror or error}; another --port may be free"
        ) from None
    return listener


def _is_no_goodbye(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is not CancelledError and not record.getMessage().startswith("Cancel ")


def has_screen() -> bool:
    """Tell whether a person sits before this machine, who would see a browser."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
