"""`genre-spark export`: a trained model for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from genre_spark.cli.command import Debug, Overwrite, stage, stdout

app = typer.Typer()


@app.command()
@stage
def export(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE_OR_RUN", help="Bundle folder, or the run that has it.")],
    format_: Annotated[Literal["keras", "savedmodel", "onnx"], typer.Option("--format", help="Form of the model.")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="File (*.keras, *.onnx) or folder to write.")],
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write a trained model as .keras, SavedModel or ONNX, checked to give the same probabilities."""
    from genre_spark.evaluation.judged import interval_of_accuracy
    from genre_spark.evaluation.metrics_file import METRICS, read_metrics
    from genre_spark.models.bundle import DESCRIPTION, read_description
    from genre_spark.models.run import BUNDLE, EVALUATION

    is_run = not (source / DESCRIPTION).exists() and (source / BUNDLE).is_dir()
    read_description(source / BUNDLE if is_run else source)  # before the seconds that Keras takes to start
    metrics = None
    if is_run and (source / EVALUATION / METRICS).exists():
        found = read_metrics(source)
        low, high = interval_of_accuracy(found)
        metrics = {name: found[name] for name in ("accuracy", "n", "chance", "macro_f1")}
        metrics |= {"accuracy_low": low, "accuracy_high": high}
    from genre_spark.models.export import export_model

    worst = export_model(source, format_, out, metrics=metrics, overwrite=overwrite)
    stdout.print(f"{format_} -> {escape(str(out))} (probabilities differ by {worst:.1g} at most)")
