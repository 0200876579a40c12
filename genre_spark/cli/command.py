"""What all commands share: options, where they print, and how they behave when something is wrong."""

import functools
import logging
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from genre_spark.errors import GenreSparkError
from genre_spark.files import visible
from genre_spark.settings import Settings, load_settings

# Results go to standard output, all that is said about the work to standard error.
stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, highlight=False)

Config = Annotated[
    list[Path] | None, typer.Option("--config", metavar="FILE.yaml", help="Settings; repeatable, later files win.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; repeatable, wins over files."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands there already.")]


def stage(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its conduct: errors are one line and status 1; a traceback comes only with `--debug`."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        handler = RichHandler(console=stderr, show_time=False, show_path=False)
        # py4j logs tracebacks when a job is interrupted, by its own logger and by the root logger.
        handler.addFilter(lambda record: debug or "py4j" not in record.pathname)
        handler.setFormatter(_VisibleFormatter("%(message)s"))
        logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            command(*args, debug=debug, **kwargs)
        except GenreSparkError as error:
            if debug:
                raise
            fail(str(error))
        except ModuleNotFoundError as error:
            if debug or (error.name or "").startswith("genre_spark"):
                raise
            fail(f"this command needs {error.name}, which is not installed; `pip install 'genre-spark[all]'` brings it")
        except KeyboardInterrupt:
            stderr.print("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if debug or isinstance(error, typer.Exit) or (isinstance(error, BrokenPipeError) and _reader_has_gone()):
                raise
            from genre_spark.spark_failures import explained

            if known := explained(error):
                fail(str(known))
            lines = str(error).splitlines() or [""]
            fail(f"unexpected {type(error).__name__}: {lines[0]} (run again with --debug to see where)")

    return run


class _VisibleFormatter(logging.Formatter):
    """Lines in which names of files and genres can't steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(visible, super().format(record).splitlines()))


def _reader_has_gone() -> bool:
    """Whether nobody reads standard output any more, as after `| head`: click ends quietly then."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _interrupt(number: int, frame: object) -> None:
    # As with Ctrl-C: what was begun is cleaned up on the way out.
    raise KeyboardInterrupt


def fail(message: str) -> None:
    """Say what is wrong in one line and exit with status 1."""
    stderr.print(f"[bold red]error:[/] {escape(visible(' '.join(message.split())))}", soft_wrap=True)
    raise typer.Exit(1)


def read_settings(config: Sequence[Path] | None, overrides: Sequence[str] | None) -> Settings:
    """Settings of a command, from its `--config` and `--set`."""
    return load_settings(config or (), overrides or ())
