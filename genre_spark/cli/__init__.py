"""`genre-spark <stage>`: what the Makefile, the jobs and a person call.

A command reads the settings, calls one public function of one room, and says in one line what came of it. What a stage
needs is imported only when it runs.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from genre_spark import __version__
from genre_spark.cli import corpus, experiments, exports, prediction, reports, scalers, serving, stages
from genre_spark.cli.command import stdout

app = typer.Typer(
    name="genre-spark",
    help="From a music library to features, genre models and an honest confusion matrix, on Spark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(corpus.app, name="corpus")
app.add_typer(stages.app)
app.add_typer(reports.app)
app.add_typer(prediction.app)
app.add_typer(scalers.app)
app.add_typer(exports.app)
app.add_typer(experiments.app)
app.add_typer(serving.app)


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
