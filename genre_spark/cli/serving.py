"""`genre-spark serve`: a page on which a song is dropped."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Set, fail, read_settings, stage, stderr, stdout

app = typer.Typer()


@app.command()
@stage
def serve(
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: a free one.")] = 0,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Take a --host that other machines reach: no login, no TLS."),
    ] = False,
    open_: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Show the page in a browser; by default where there is a screen."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Answer 'not sure' below the threshold of this precision, as predict does."),
    ] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Serve a page on this machine: drop a song, see its genres, its timeline and its spectrogram. Ctrl-C ends it."""
    from genre_spark.serving.server import has_screen, is_loopback
    from genre_spark.serving.server import serve as run_server

    settings = read_settings(config, set_)
    if not is_loopback(host):
        if not allow_remote:
            fail(f"--host {host}: other machines reach it, and there is no login and no TLS; say --allow-remote too")
        stderr.print(
            f"[bold yellow]warning:[/] whoever reaches {escape(host)} can use this page: no login, no TLS",
            soft_wrap=True,
        )
    try:
        run_server(
            bundle, settings, host=host, port=port, precision=precision,
            open_browser=has_screen() if open_ is None else open_, say=lambda text: stdout.print(escape(text)),
        )  # fmt: skip
    except KeyboardInterrupt:
        # That is how it ends.
        stderr.print("ended")
