"""`genre-spark <stage>`: what the Makefile, the jobs and a person call.

A command reads the settings, calls one public function of one room, and says in one line what came of it. What a stage
needs is imported only when it runs.
"""

import functools
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from genre_spark import __version__
from genre_spark.cli_progress import counted
from genre_spark.errors import GenreSparkError
from genre_spark.settings import Settings, load_settings

# Results go to standard output, all that is said about the work to standard error.
stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, highlight=False)

app = typer.Typer(
    name="genre-spark",
    help="From a music library to features, genre models and an honest confusion matrix, on Spark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
corpus = typer.Typer(help="Make a track table: which tracks exist.", no_args_is_help=True)
app.add_typer(corpus, name="corpus")

Config = Annotated[
    list[Path] | None, typer.Option("--config", metavar="FILE.yaml", help="Settings; repeatable, later files win.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; repeatable, wins over files."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Root = Annotated[Path, typer.Option(help="Folder of the corpus.")]
TracksOut = Annotated[Path, typer.Option("--out", metavar="TRACKS.parquet", help="Track table to write.")]
Genres = Annotated[
    list[str] | None,
    typer.Option("--genre", metavar="NAME", help="Only tracks of this genre; repeatable.", show_default="all genres"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands there already.")]


def stage(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its conduct: errors are one line and status 1; a traceback comes only with `--debug`."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        logging.basicConfig(
            level=logging.DEBUG if debug else logging.WARNING,
            format="%(message)s",
            handlers=[RichHandler(console=stderr, show_time=False, show_path=False)],
        )
        # py4j logs tracebacks of its own when a job is interrupted.
        logging.getLogger("py4j").setLevel(logging.WARNING if debug else logging.CRITICAL + 1)
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
            if debug or isinstance(error, typer.Exit):
                raise
            lines = str(error).splitlines() or [""]
            fail(f"unexpected {type(error).__name__}: {lines[0]} (run again with --debug to see where)")

    return run


def _interrupt(number: int, frame: object) -> None:
    # As with Ctrl-C: what was begun is cleaned up on the way out.
    raise KeyboardInterrupt


def fail(message: str) -> None:
    """Say what is wrong in one line and exit with status 1."""
    stderr.print(f"[bold red]error:[/] {escape(' '.join(message.split()))}", soft_wrap=True)
    raise typer.Exit(1)


def _settings(config: Sequence[Path] | None, overrides: Sequence[str] | None) -> Settings:
    return load_settings(config or (), overrides or ())


def _write_table(table: Any, path: Path, genres: Sequence[str] | None) -> None:
    from genre_spark.corpora.tracks import keep_genres, write_tracks

    if genres:
        table = keep_genres(table, genres)
    write_tracks(table, path)
    known = table["genre"].drop_null().unique()
    stdout.print(f"{table.num_rows} tracks of {len(known)} genres -> {escape(str(path))}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@corpus.command()
@stage
def fma(
    root: Root,
    out: TracksOut,
    subset: Annotated[
        Literal["small", "medium", "large", "full"], typer.Option(help="Which of FMA's subsets.")
    ] = "small",
    genres: Genres = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Free Music Archive: ROOT holds `fma_metadata/tracks.csv` and `fma_small/` (or another subset)."""
    from genre_spark.corpora.fma import load_fma

    _settings(config, set_)
    _write_table(load_fma(root, subset), out, genres)


@corpus.command()
@stage
def gtzan(
    root: Root, out: TracksOut, genres: Genres = None, config: Config = None, set_: Set = None, debug: Debug = False
) -> None:
    """GTZAN: ROOT holds `<genre>/<genre>.NNNNN.wav`."""
    from genre_spark.corpora.gtzan import load_gtzan

    _settings(config, set_)
    _write_table(load_gtzan(root), out, genres)


@corpus.command()
@stage
def folder(
    root: Root,
    out: TracksOut,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Columns track_id, path, genre[, artist, album, split]."),
    ] = None,
    genres: Genres = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Music of your own: ROOT/<genre>/*, or what a table names."""
    from genre_spark.corpora.folder import load_folder

    _settings(config, set_)
    _write_table(load_folder(root, table), out, genres)


@corpus.command()
@stage
def synthetic(
    root: Root, out: TracksOut, genres: Genres = None, config: Config = None, set_: Set = None, debug: Debug = False
) -> None:
    """Compose music-like MP3s in FMA's layout under ROOT (settings: synthetic.*)."""
    from genre_spark.corpora.fma import load_fma
    from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
    from genre_spark.corpora.synthetic import write_synthetic_corpus
    from genre_spark.corpora.tracks import check_genres

    settings = _settings(config, set_).synthetic
    chosen = check_genres(genres, FMA_SMALL_GENRES) if genres else FMA_SMALL_GENRES
    with counted(stderr, "composing", settings.clips_per_genre * len(chosen), "clips") as advance:
        write_synthetic_corpus(root, settings, genres=chosen, on_clip=advance.by_one)
    _write_table(load_fma(root), out, None)


@app.command()
@stage
def extract(
    tracks: Annotated[Path, typer.Option(metavar="TRACKS.parquet", help="Track table.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    features: Annotated[str, typer.Option(metavar="A,B,...", help="Features, by name.")] = "mfcc_mean,mfcc,melgram",
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Compute features of every track with Spark into a Parquet dataset."""
    from genre_spark.corpora.tracks import read_tracks
    from genre_spark.dataset.extract import extract as run_extraction
    from genre_spark.features.spec import resolve_specs
    from genre_spark.spark import build_session

    settings = _settings(config, set_)
    specs = resolve_specs(_names(features), settings.features)
    table = read_tracks(tracks)
    spark = build_session(settings.spark, "genre-spark extract")
    with counted(stderr, "extracting", table.num_rows, "tracks") as progress:
        dataset = run_extraction(spark, table, specs, out, settings, overwrite=overwrite, on_tracks=progress.to)
    counts, kinds = dataset.manifest.counts, dataset.manifest.errors
    failed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    names = ", ".join(spec.name for spec in specs)
    errors = f"{counts['errors']} errors ({failed}), see {out / 'errors'}" if kinds else "no errors"
    stdout.print(escape(f"{counts['features']} of {counts['tracks']} tracks with {names} -> {out}; {errors}"))


@app.command()
@stage
def train(
    dataset: Annotated[Path, typer.Option(help="Dataset folder.")],
    model: Annotated[Literal["dnn", "cnn1d", "cnn2d"], typer.Option(help="Architecture.")],
    run: Annotated[Path, typer.Option(help="Run folder to write.")],
    split: Annotated[
        Literal["study", "official", "artist"],
        typer.Option(help="study: 70/30 at random; official: the corpus's own; artist: no artist in two parts."),
    ] = "artist",
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Train a model on a dataset's training part."""
    from genre_spark.dataset.store import open_dataset

    settings = _settings(config, set_)
    opened = open_dataset(dataset)  # before the seconds that Keras takes to start
    from genre_spark.models.train import train as run_training

    epochs = getattr(settings.models, model).epochs
    with counted(stderr, f"training {model}", epochs, "epochs") as progress:
        record = run_training(opened, model, split, run, settings, overwrite=overwrite, on_epoch=progress.epoch)
    stdout.print(
        f"{model}: {record.trainable_parameters:,} parameters, {record.epochs} epochs in {record.training_s:.1f} s "
        f"on {record.tracks['training']} tracks -> {escape(str(run))}"
    )


@app.command()
@stage
def evaluate(
    run: Annotated[list[Path], typer.Option(help="Run folder; repeatable.")],
    dataset: Annotated[Path | None, typer.Option(help="Dataset folder, if it was moved since the training.")] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Score a run's dataset with Spark: predictions, metrics and the confusion matrix."""
    from genre_spark.evaluation.score import evaluate as run_evaluation
    from genre_spark.models.run import read_run_record
    from genre_spark.spark import build_session

    settings = _settings(config, set_)
    records = [read_run_record(folder) for folder in run]
    spark = build_session(settings.spark, "genre-spark evaluate")
    for folder, record in zip(run, records, strict=True):
        with counted(stderr, f"scoring {record.model}", sum(record.tracks.values()), "tracks") as progress:
            metrics = run_evaluation(spark, folder, settings.evaluate, dataset_path=dataset, on_tracks=progress.to)
        stdout.print(
            f"{record.model}: {metrics['accuracy']:.1%} of {metrics['n']} {metrics['part']} tracks right "
            f"(chance {metrics['chance']:.1%}) -> {escape(str(folder / 'evaluation'))}"
        )


@app.command()
@stage
def report(
    run: Annotated[list[Path], typer.Option(help="Run folder; repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Page to write.")],
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Write one self-contained page over evaluated runs, and their summary to the terminal."""
    from genre_spark.evaluation.report import build_report, print_summary, summary_rows

    _settings(config, set_)
    build_report(run, out)
    print_summary(summary_rows(run), Console(highlight=False))
    stdout.print(f"report -> {escape(str(out))}", soft_wrap=True)


@app.command()
@stage
def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder, RUN/bundle.")],
    format_: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="Form of the answer.")] = "table",
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Predict the genre of audio files. Status 1 when no file at all could be read."""
    from genre_spark.models.bundle import load_bundle, read_description

    settings = _settings(config, set_)
    read_description(bundle)  # before the seconds that Keras takes to start
    from genre_spark.cli_predictions import print_predictions
    from genre_spark.models.predict import Failure, predict_files

    results = []
    with counted(stderr, "predicting", len(files), "files") as progress:
        for result in predict_files(load_bundle(bundle), files, max_duration_s=settings.audio.max_duration_s):
            results.append(result)
            progress.by_one()
    print_predictions(results, format_)
    if all(isinstance(result, Failure) for result in results):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        stdout.print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `jobs/*.py` pass their stage and the arguments of `spark-submit`."""
    app(args=list(sys.argv[1:] if arguments is None else arguments))
