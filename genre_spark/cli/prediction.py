"""The commands that answer: `predict` for a person's files, `predict-library` for a library, with Spark."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Set, fail, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted
from genre_spark.cli.stages import ProgressJson, Prune, RetryErrors, Wait

if TYPE_CHECKING:
    from genre_spark.models.predict import Failure, Prediction
    from genre_spark.models.timeline import TimedPrediction

app = typer.Typer()


@app.command()
@stage
def predict(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Audio files; folders, for all audio below them; patterns between quotes, such as 'music/**/*.mp3'.",
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle.")],
    format_: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="Form of the answer.")] = "table",
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Genres of a file in a table; JSON and CSV have all.")
    ] = 3,
    timeline: Annotated[
        bool,
        typer.Option(
            "--timeline",
            help="How the genre moves through each file: the answer for a window as long as the model reads at once, "
            "again and again through all of it.",
        ),
    ] = False,
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time from one window of the timeline to the next; by default half a window, or a segment where the "
            "model reads segments.",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Answer 'not sure' below the threshold at which this share of the answers on validation was right: "
            "0.7, 0.8, 0.9 or 0.95, as far as the model reaches them.",
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Predict the genre of audio files. Status 1 when no file at all could be read.

    What a model reads of a song is what its feature takes: statistics (mfcc_mean, fma_518) are of all of it, other
    features of the beginning: 29.0 s (mfcc), 29.1 s (melgram), or up to the end of the last segment. --timeline goes
    through the rest, too.
    """
    from genre_spark.cli.audio_files import audio_files
    from genre_spark.models.bundle import load_bundle, read_description
    from genre_spark.models.calibration import threshold_of

    settings = read_settings(config, set_)
    if sys.stdout is None:
        fail("standard output is closed (>&-), where the answers go; send them to a file: > answers.json")
    if hop is not None and not timeline:
        fail(f"--hop {hop:g} is about a timeline: add --timeline")
    description = read_description(bundle)  # before the seconds that Keras takes to start
    threshold = 0.0 if precision is None else threshold_of(description.calibration, precision)
    paths = audio_files(files)
    from genre_spark.cli.predictions import print_predictions
    from genre_spark.models.predict import Failure, predict_files
    from genre_spark.models.timeline import check_hop, predict_timelines

    check_hop(hop)
    any_is_read = False

    def answers(done: Callable[[], None]) -> "Iterator[Prediction | TimedPrediction | Failure]":
        nonlocal any_is_read
        loaded = load_bundle(bundle)
        results: Iterator[Prediction | TimedPrediction | Failure]
        if timeline:
            results = predict_timelines(loaded, paths, audio=settings.audio, hop_s=hop, precision=precision)
        else:
            results = predict_files(loaded, paths, audio=settings.audio, precision=precision)
        for result in results:
            any_is_read |= not isinstance(result, Failure)
            done()
            yield result

    out = sys.stdout  # itself: a bar puts something in its place that prints to standard error
    with contextlib.ExitStack() as shown:
        if format_ != "table" and out.isatty():
            # The answers come one by one and are a progress of their own, which a bar would tear.
            results = answers(lambda: None)
        else:
            progress = shown.enter_context(counted(stderr, "predicting", len(paths), "files"))
            results = answers(progress.by_one)
        if format_ == "table":
            results = iter(list(results))
            shown.close()
        print_predictions(
            results, format_, labels=description.labels, timeline=timeline, top=top, sure_from=threshold, file=out
        )
    if not any_is_read:
        raise typer.Exit(1)


@app.command()
@stage
def predict_library(
    tracks: Annotated[Path, typer.Option(metavar="TRACKS.parquet", help="Track table; genres may be unknown.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Predictions: a folder, or an address such as s3://...")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Predict all anew, and replace predictions of another model.")
    ] = False,
    retry_errors: RetryErrors = False,
    prune: Prune = False,
    wait: Wait = None,
    progress_json: ProgressJson = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Bring the predictions for a library up to date, with Spark: only what is new or changed is predicted."""
    from genre_spark.cli.extraction import extraction_shown, summary_line
    from genre_spark.filesystems import masked
    from genre_spark.models.bundle import read_description
    from genre_spark.spark import build_session

    settings = read_settings(config, [*(set_ or ()), *([] if wait is None else [f"extract.wait_s={wait}"])])
    read_description(bundle)  # before anything is started
    from genre_spark.models.library import predict_library as run_prediction

    every_s = settings.extract.progress_s
    with extraction_shown(stderr, progress_json=progress_json, every_s=every_s, dataset=masked(out)) as show:
        predictions = run_prediction(
            lambda: build_session(settings.spark, "genre-spark predict-library"), tracks, bundle, out, settings,
            overwrite=overwrite, retry_errors=retry_errors, prune=prune, on_progress=show,
        )  # fmt: skip
    if progress_json != "-":
        stdout.print(escape(summary_line(show.last, predictions)))
