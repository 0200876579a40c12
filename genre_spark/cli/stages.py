"""The stages behind the track table: extract, train, evaluate."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Overwrite, Set, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted

app = typer.Typer()

# Options of the stages that keep a dataset up to date.
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Try tracks again that are error rows.")]
Prune = Annotated[bool, typer.Option("--prune", help="Remove tracks that the track table lacks.")]
Wait = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0, help="How long to wait for another job on the same dataset.")
]
ProgressJson = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Add a JSON line to it every extract.progress_s seconds; - is standard output, which then has nothing "
        "else.",
    ),
]


@app.command()
@stage
def extract(
    tracks: Annotated[Path, typer.Option(metavar="TRACKS.parquet", help="Track table.")],
    out: Annotated[str, typer.Option(metavar="DATASET", help="Dataset: a folder, or an address such as s3://...")],
    features: Annotated[str, typer.Option(metavar="A,B,...", help="Features, by name.")] = "mfcc_mean,mfcc,melgram",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute all anew, and replace a dataset of other features.")
    ] = False,
    retry_errors: RetryErrors = False,
    prune: Prune = False,
    wait: Wait = None,
    progress_json: ProgressJson = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Bring a Parquet dataset up to date with a track table, with Spark: only what is new or changed is computed."""
    from genre_spark.cli.extraction import extraction_shown, summary_line
    from genre_spark.dataset.extract import extract as run_extraction
    from genre_spark.features.spec import resolve_specs
    from genre_spark.filesystems import masked
    from genre_spark.spark import build_session

    settings = read_settings(config, [*(set_ or ()), *([] if wait is None else [f"extract.wait_s={wait}"])])
    specs = resolve_specs([name.strip() for name in features.split(",") if name.strip()], settings.features)
    every_s = settings.extract.progress_s
    with extraction_shown(stderr, progress_json=progress_json, every_s=every_s, dataset=masked(out)) as show:
        dataset = run_extraction(
            lambda: build_session(settings.spark, "genre-spark extract"), tracks, specs, out, settings,
            overwrite=overwrite, retry_errors=retry_errors, prune=prune, on_progress=show,
        )  # fmt: skip
    if progress_json != "-":
        stdout.print(escape(summary_line(show.last, dataset)))


@app.command()
@stage
def train(
    dataset: Annotated[str, typer.Option(help="Dataset folder, or its address.")],
    model: Annotated[Literal["dnn", "cnn1d", "cnn2d", "linear518", "cnn_time"], typer.Option(help="Architecture.")],
    run: Annotated[Path, typer.Option(help="Run folder to write.")],
    split: Annotated[
        Literal["study", "official", "artist", "artist-kfold", "all"] | None,
        typer.Option(
            help="study: 70/30 at random; official: the corpus's own; artist (the default), artist-kfold: no artist in "
            "two parts; all: nothing is kept back."
        ),
    ] = None,
    study: Annotated[
        bool,
        typer.Option(
            "--study", help="As the study did: its split and its epochs, the last weights; wins over --config."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was stopped; begin where there is none.")
    ] = False,
    mlflow: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Log to MLflow too (train.mlflow_experiment).")
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Train a model on a dataset's training part."""
    from genre_spark.dataset.store import open_dataset
    from genre_spark.models.fitting_study import study_overrides

    settings = read_settings(config, [*(study_overrides(model) if study else []), *(set_ or ())])
    if mlflow is not None:
        settings = settings.model_copy(
            update={"train": settings.train.model_copy(update={"mlflow_experiment": mlflow or None})}
        )
    opened = open_dataset(dataset)  # before the seconds that Keras takes to start
    from genre_spark.models.train import train as run_training

    epochs = getattr(settings.models, model).epochs
    with counted(stderr, f"training {model}", epochs, "epochs") as progress:
        record = run_training(
            opened, model, split or ("study" if study else "artist"), run, settings,
            overwrite=overwrite, resume=resume, on_epoch=progress.epoch,
        )  # fmt: skip
    stdout.print(
        f"{model}: {record.trainable_parameters:,} parameters, {record.epochs_run} of {record.epochs} epochs in "
        f"{record.training_s:.1f} s on {record.tracks['training']} tracks, weights of epoch {record.best_epoch} "
        f"-> {escape(str(run))}"
    )


@app.command()
@stage
def evaluate(
    run: Annotated[list[Path] | None, typer.Option(help="Run folder; repeatable.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder, to hold against any dataset in place of a run's own.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="With --bundle, the dataset; with --run, where its own is, if it was moved since the training."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="With --bundle: folder of this machine to write.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Score a dataset with Spark: predictions, metrics, the confusion matrix, and the tracks behind it."""
    from genre_spark.cli.evaluation import outcome_line
    from genre_spark.errors import RunError
    from genre_spark.evaluation.score import check_out, evaluate_bundle
    from genre_spark.evaluation.score import evaluate as run_evaluation
    from genre_spark.models.run import EVALUATION, read_run_record
    from genre_spark.spark import build_session

    settings = read_settings(config, set_)
    if bundle is not None:
        if run or dataset is None or out is None:
            raise RunError("--bundle needs --dataset DATASET and --out DIR, and takes no --run")
        from genre_spark.dataset.store import open_dataset
        from genre_spark.models.bundle import read_description

        check_out(out)  # before the seconds that Spark takes to start
        model, tracks = read_description(bundle).architecture, open_dataset(dataset).manifest.counts["features"]
        spark = build_session(settings.spark, "genre-spark evaluate")
        with counted(stderr, f"scoring {model}", tracks, "tracks") as progress:
            metrics = evaluate_bundle(spark, bundle, dataset, out, settings.evaluate, on_tracks=progress.to)
        stdout.print(escape(outcome_line(model, metrics, out)))
        return
    if not run or out is not None:
        raise RunError("name a run with --run RUN, or a model with --bundle BUNDLE --dataset DATASET --out DIR")
    records = [read_run_record(folder) for folder in run]
    spark = build_session(settings.spark, "genre-spark evaluate")
    for folder, record in zip(run, records, strict=True):
        with counted(stderr, f"scoring {record.model}", sum(record.tracks.values()), "tracks") as progress:
            metrics = run_evaluation(spark, folder, settings.evaluate, dataset_path=dataset, on_tracks=progress.to)
        stdout.print(escape(outcome_line(record.model, metrics, folder / EVALUATION)))
