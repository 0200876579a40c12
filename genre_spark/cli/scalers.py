"""`genre-spark fit-scaler`: mean and variance of a split's training part, with Spark."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Overwrite, Set, fail, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted

app = typer.Typer()


@app.command()
@stage
def fit_scaler(
    dataset: Annotated[str, typer.Option(help="Dataset folder, or its address.")],
    split: Annotated[
        str,
        typer.Option(
            metavar="SCHEME|FILE",
            help="study, official, artist, artist-kfold, or a split.parquet. Its training part is fitted on.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: a file FEATURE.npz for each feature.")],
    features: Annotated[str | None, typer.Option(metavar="A,B,...", help="Features, by name; all by default.")] = None,
    per: Annotated[
        Literal["band", "cell"] | None,
        typer.Option(
            help="band: a mean per coefficient or mel band, over time; cell: per band and frame. "
            "train.standardise by default."
        ),
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Fit the standardisation of all features in one pass over a dataset, with Spark."""
    import pyarrow.compute as pc

    from genre_spark.corpora.splits import split_digest
    from genre_spark.dataset.scaler import fitted_file, save_fitted
    from genre_spark.dataset.scaler_job import fit_scalers
    from genre_spark.dataset.store import open_dataset
    from genre_spark.spark import build_session

    settings = read_settings(config, set_)
    per = per or settings.train.standardise
    opened = open_dataset(dataset)
    named = None if features is None else [name.strip() for name in features.split(",") if name.strip()]
    specs = [opened.spec(name) for name in named or [spec.name for spec in opened.manifest.specs]]
    files = [fitted_file(out, spec.name) for spec in specs]
    for file in files:
        if file.exists() and not overwrite:
            fail(f"{file}: exists; replace it with --overwrite, or name another folder for --out")
    made = _split(opened, split, settings)
    training = made.filter(pc.equal(made["part"], "training"))["track_id"].to_pylist()
    spark = build_session(settings.spark, "genre-spark fit-scaler")
    with counted(stderr, "fitting scalers", len(training), "tracks") as progress:
        scalers = fit_scalers(
            spark, opened, training, features=[spec.name for spec in specs], per=per, on_tracks=progress.to
        )
        progress.to(len(training))
    digest = split_digest(made)
    for spec, file in zip(specs, files, strict=True):
        save_fitted(file, scalers[spec.name], spec, digest)
    stdout.print(
        f"scalers of {', '.join(scalers)} (per {per}) on {len(training)} training tracks of split {digest} -> "
        f"{escape(str(out))}"
    )


def _split(dataset: Any, split: str, settings: Any) -> Any:
    """Split that is named by its scheme or its file, as `train` makes it of the dataset's tracks."""
    from genre_spark.corpora.splits import Scheme, make_split, read_split

    if split in get_args(Scheme):
        return make_split(dataset.tracks(), split, settings.split)  # type: ignore[arg-type]
    if split.endswith(".parquet") or Path(split).exists():
        return read_split(Path(split))
    return fail(f"{split}: no split file, and no scheme; known are {', '.join(get_args(Scheme))}")
