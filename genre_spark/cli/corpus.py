"""`genre-spark corpus ...`: which tracks exist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Set, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted

app = typer.Typer(help="Make a track table: which tracks exist.", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="Folder of the corpus.")]
TracksOut = Annotated[Path, typer.Option("--out", metavar="TRACKS.parquet", help="Track table to write.")]
Genres = Annotated[
    list[str] | None,
    typer.Option("--genre", metavar="NAME", help="Only tracks of this genre; repeatable.", show_default="all genres"),
]


@app.command()
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

    read_settings(config, set_)
    _write_table(load_fma(root, subset), out, genres)


@app.command()
@stage
def gtzan(
    root: Root, out: TracksOut, genres: Genres = None, config: Config = None, set_: Set = None, debug: Debug = False
) -> None:
    """GTZAN: ROOT holds `<genre>/<genre>.NNNNN.wav`."""
    from genre_spark.corpora.gtzan import load_gtzan

    read_settings(config, set_)
    _write_table(load_gtzan(root), out, genres)


@app.command()
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

    read_settings(config, set_)
    _write_table(load_folder(root, table), out, genres)


@app.command()
@stage
def synthetic(
    root: Root, out: TracksOut, genres: Genres = None, config: Config = None, set_: Set = None, debug: Debug = False
) -> None:
    """Compose music-like MP3s in FMA's layout under ROOT (settings: synthetic.*)."""
    from genre_spark.corpora.fma import load_fma
    from genre_spark.corpora.synthesis_styles import FMA_SMALL_GENRES
    from genre_spark.corpora.synthetic import write_synthetic_corpus
    from genre_spark.corpora.tracks import check_genres

    settings = read_settings(config, set_).synthetic
    chosen = check_genres(genres, FMA_SMALL_GENRES) if genres else FMA_SMALL_GENRES
    with counted(stderr, "composing", settings.clips_per_genre * len(chosen), "clips") as advance:
        write_synthetic_corpus(root, settings, genres=chosen, on_clip=advance.by_one)
    _write_table(load_fma(root), out, None)


def _write_table(table: Any, path: Path, genres: Sequence[str] | None) -> None:
    from genre_spark.corpora.tracks import keep_genres, write_tracks

    if genres:
        table = keep_genres(table, genres)
    write_tracks(table, path)
    known = table["genre"].drop_null().unique()
    stdout.print(f"{table.num_rows} tracks of {len(known)} genres -> {escape(str(path))}")
