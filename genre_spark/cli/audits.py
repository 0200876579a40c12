"""`genre-spark corpus validate`, `split` and `leaks`: what tells whether tracks and split can be trusted."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Overwrite, Set, fail, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted

app = typer.Typer()

Tracks = Annotated[Path, typer.Option(metavar="TRACKS.parquet", help="Track table.")]
Audit = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Audit of these tracks: what it knows of identical recordings counts too."),
]


@app.command()
@stage
def validate(
    tracks: Tracks,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the audit to write.")],
    clean: Annotated[
        Path | None,
        typer.Option(metavar="TRACKS.parquet", help="Write a track table without broken, too short and silent ones."),
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Read every file with Spark: what is broken, too short, silent, clipped, mislabelled or there twice."""
    from genre_spark.corpora.tracks import read_tracks, write_tracks
    from genre_spark.dataset.audit import SUMMARY_TEXT, clean_tracks
    from genre_spark.dataset.audit import validate as run_validation
    from genre_spark.spark import build_session

    settings = read_settings(config, set_)
    table = read_tracks(tracks)
    spark = build_session(settings.spark, "genre-spark corpus validate")
    with counted(stderr, "validating", table.num_rows, "tracks") as progress:
        run_validation(spark, table, out, settings, overwrite=overwrite, on_tracks=progress.to)
    Console(highlight=False).print(Markdown((out / SUMMARY_TEXT).read_text(encoding="utf-8")))
    stdout.print(f"audit -> {escape(str(out))}")
    if clean is not None:
        kept = clean_tracks(table, out)
        write_tracks(kept, clean)
        stdout.print(f"{kept.num_rows} of {table.num_rows} tracks -> {escape(str(clean))}")


@app.command()
@stage
def split(
    tracks: Tracks,
    out: Annotated[Path, typer.Option(metavar="SPLIT.parquet", help="Split to write: track_id, genre, part.")],
    scheme: Annotated[str, typer.Option(help="study, official, artist or artist-kfold.")] = "artist",
    audit: Audit = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Split tracks into training, validation and test, as `train` splits those of a dataset (settings: split.*)."""
    from genre_spark.corpora.splits import split_digest, write_split

    settings = read_settings(config, set_)
    table = _tracks(tracks, audit)
    made = _split(table, scheme, settings)
    write_split(made, out)
    counts = {row["values"]: row["counts"] for row in made["part"].value_counts().to_pylist()}
    parts = ", ".join(f"{counts[part]} {part}" for part in sorted(counts, key=lambda part: -counts[part]))
    stdout.print(f"{scheme} split {split_digest(made)}: {parts} -> {escape(str(out))}")


@app.command()
@stage
def leaks(
    tracks: Tracks,
    split: Annotated[
        str, typer.Option(metavar="SCHEME|FILE", help="study, official, artist, artist-kfold, or a split.parquet.")
    ],
    audit: Audit = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write every track that shares something across parts.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Tell which artists, albums and identical recordings stand on both sides of a split."""
    from genre_spark.cli.leak_table import print_leaks, write_crossing
    from genre_spark.corpora.leaks import audit_leaks
    from genre_spark.corpora.splits import read_split

    settings = read_settings(config, set_)
    table = _tracks(tracks, audit)
    is_file = split.endswith(".parquet") or Path(split).exists()
    made = read_split(Path(split)) if is_file else _split(table, split, settings)
    print_leaks(audit_leaks(table, made, settings.split.group_by), Console(highlight=False))
    if out is not None:
        rows = write_crossing(table, made, settings.split.group_by, out)
        stdout.print(f"{rows} rows -> {escape(str(out))}")


def _tracks(path: Path, audit: Path | None) -> Any:
    from genre_spark.corpora.tracks import read_tracks

    table = read_tracks(path)
    if audit is not None:
        from genre_spark.dataset.audit import with_pcm_hashes

        table = with_pcm_hashes(table, audit)
    return table


def _split(table: Any, scheme: str, settings: Any) -> Any:
    from genre_spark.corpora.splits import Scheme, make_split

    if scheme not in get_args(Scheme):
        fail(f"{scheme}: no split file, and no scheme; known are {', '.join(get_args(Scheme))}")
    return make_split(table, scheme, settings.split)  # type: ignore[arg-type]
