"""`genre-spark corpus ...`: which tracks exist."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.filesize import decimal
from rich.markup import escape

from genre_spark.cli import audits
from genre_spark.cli.command import Config, Debug, Set, fail, read_settings, stage, stderr, stdout
from genre_spark.cli.progress import counted, transferred

# What was taken for genres is seen at a glance; a library may have thousands.
_GENRES_SHOWN = 8

app = typer.Typer(help="Which tracks exist, and whether they and their split can be trusted.", no_args_is_help=True)
app.add_typer(audits.app)

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
    download: Annotated[bool, typer.Option("--download", help="Fetch and unpack first what ROOT lacks.")] = False,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Mirror that holds the zips.", show_default="FMA's own")
    ] = None,
    keep_archives: Annotated[bool, typer.Option(help="Keep the zips once they are unpacked.")] = True,
    genres: Genres = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Free Music Archive: ROOT holds `fma_metadata/tracks.csv` and `fma_small/` (or another subset)."""
    from genre_spark.corpora.fma import load_fma

    read_settings(config, set_)
    if download:
        _download(root, subset, base_url, keep_archives=keep_archives)
    elif base_url is not None:
        fail("--base-url says where to download from: add --download")
    _write_table(load_fma(root, subset), out, genres)


def _download(root: Path, subset: str, base_url: str | None, *, keep_archives: bool) -> None:
    from genre_spark.corpora.download import Plan, download_fma
    from genre_spark.corpora.fma_archives import FMA_URL

    def tell(plan: Plan) -> None:
        if plan.needed_bytes:
            about = "about " if plan.is_approximate else ""
            needed, fetched, unpacked, free = (
                escape(decimal(size))
                for size in (plan.needed_bytes, plan.download_bytes, plan.unpack_bytes, plan.free_bytes)
            )
            stderr.print(f"needs {about}{needed} ({fetched} to download, {unpacked} unpacked); {free} are free")
        else:
            stderr.print(f"{escape(str(root))}: all is there already")

    with transferred(stderr) as on_progress:
        download_fma(
            root,
            subset,
            base_url=base_url or FMA_URL,
            on_plan=tell,
            on_progress=on_progress,
            keep_archives=keep_archives,
        )


@app.command()
@stage
def gtzan(
    root: Root,
    out: TracksOut,
    fault_filtered: Annotated[
        bool,
        typer.Option(
            "--fault-filtered",
            help="Take the fault-filtered split of Kereliuk, Sturm and Larsen (2015) for the corpus's own.",
        ),
    ] = False,
    genres: Genres = None,
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """GTZAN: ROOT holds `<genre>/<genre>.NNNNN.wav` (or `.au`, `.mp3`)."""
    from genre_spark.corpora.gtzan import load_gtzan

    read_settings(config, set_)
    _write_table(load_gtzan(root, fault_filtered=fault_filtered), out, genres)


@app.command()
@stage
def folder(
    root: Annotated[str, typer.Option(metavar="DIR", help="Folder or address (s3://bucket/music) of the library.")],
    out: TracksOut,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv", help="Columns track_id, path[, genre, artist, album, split, duration_s, licence]."
        ),
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
    counts = Counter(genre for genre in table["genre"].to_pylist() if genre is not None)
    named = ", ".join(f"{genre} {count}" for genre, count in counts.most_common(_GENRES_SHOWN))
    more = ", ..." if len(counts) > _GENRES_SHOWN else ""
    which = escape(f" ({named}{more})") if named else ""
    stdout.print(f"{table.num_rows} tracks of {len(counts)} genres{which} -> {escape(str(path))}")
