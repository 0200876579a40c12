"""`genre-spark experiment`: models x splits x seeds through one protocol."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from genre_spark.cli.command import Config, Debug, Set, read_settings, stage, stderr, stdout
from genre_spark.cli.results_table import results_table

if TYPE_CHECKING:
    from genre_spark.experiments.plan import Cell

app = typer.Typer()


@app.command()
@stage
def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Models, splits and seeds.")],
    dataset: Annotated[list[str], typer.Option(help="Dataset folder, or its address; repeatable.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets the run folders and the tables.")],
    config: Config = None,
    set_: Set = None,
    debug: Debug = False,
) -> None:
    """Train models x splits x seeds, judge each once, and write one table. What is finished isn't computed again."""
    from genre_spark.dataset.store import open_dataset
    from genre_spark.experiments.plan import overrides_of, read_experiment

    wanted = read_experiment(file)
    settings = read_settings(config, [*overrides_of(wanted.settings), *(set_ or ())])
    opened = [open_dataset(each) for each in dataset]
    from genre_spark.experiments.protocol import run_experiment
    from genre_spark.experiments.results import PAGE
    from genre_spark.spark import build_session

    def told(what: str, cell: "Cell", position: int, of: int) -> None:
        stderr.print(f"{what} {escape(cell.name)} ({position + 1} of {of})")

    results = run_experiment(
        wanted, opened, settings, out, lambda: build_session(settings.spark, "genre-spark experiment"), on_cell=told
    )
    Console().print(results_table(results))
    stdout.print(f"all columns, and the differences with their intervals -> {escape(str(out / PAGE))}")
