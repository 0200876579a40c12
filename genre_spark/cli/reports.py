"""`genre-spark report`: what people look at."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Set, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted
from genre_spark.files import printable

app = typer.Typer()


@app.command()
@stage
def report(
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Page to write.")],
    run: Annotated[list[Path] | None, typer.Option(help="Evaluated run folder; repeatable.")] = None,
    experiment: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What `genre-spark experiment` wrote, as a section.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="What `genre-spark evaluate --bundle` wrote, as a section; repeatable."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the figures as PNG and SVG files too.")
    ] = None,
    audio_mb: Annotated[
        int,
        typer.Option(
            metavar="MB", min=0, max=1_000, help="Most that excerpts of confused tracks may take in the page."
        ),
    ] = 8,
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Read no audio: no excerpts and no spectrograms.")
    ] = False,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="What a reader has to know, at the top.")] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Write one self-contained page over evaluated runs and bundles, and their summary to the terminal."""
    from genre_spark.evaluation.figure_files import save_figures
    from genre_spark.evaluation.other_datasets import other_dataset_rows, print_other_datasets
    from genre_spark.evaluation.report import build_report
    from genre_spark.evaluation.summary import print_summary, summary_rows

    settings = read_settings(config, set_)
    runs, evaluations = run or [], evaluation or []
    with contextlib.ExitStack() as shown:

        def on_tracks(total: int) -> Callable[[], None]:
            return shown.enter_context(counted(stderr, "excerpts of tracks", total, "tracks")).by_one

        build_report(
            runs, out, note=note, audio=None if no_audio else settings.audio, audio_mb=audio_mb, experiment=experiment,
            evaluations=evaluations, on_tracks=on_tracks,
        )  # fmt: skip
    written = save_figures(runs, figures, evaluations) if figures and (runs or evaluations) else []
    console = Console(highlight=False)
    if runs:
        print_summary(summary_rows(runs), console)
    if evaluations:
        print_other_datasets(other_dataset_rows(evaluations), console)
    stdout.print(f"report -> {escape(printable(out))}")
    if figures:
        stdout.print(f"{len(written)} figures -> {escape(printable(figures))}")
