import io

from rich.console import Console

from genre_spark.cli.results_table import results_table
from genre_spark.evaluation.bootstrap import Estimate
from genre_spark.experiments.results import Comparison, Results, Row


def row(model: str, accuracy: float, **changes: object) -> Row:
    numbers = {
        "split": "artist-kfold", "part": "test", "n": 238, "groups": 66, "macro_f1": Estimate(accuracy, 0.4, 0.5),
        "seed_spread": 0.01, "training_accuracy": 0.9, "gap": 0.9 - accuracy, "validation_accuracy": 0.5,
        "parameters": 10_000_000, "training_s": 12_345.6, "trainings": 10,
    } | changes  # fmt: skip
    return Row(model=model, accuracy=Estimate(accuracy, accuracy - 0.1, accuracy + 0.1), **numbers)


def shown(results: Results) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(results_table(results))
    return console.file.getvalue().splitlines()


def test_eighty_columns_hold_each_models_numbers_and_the_best_comes_first() -> None:
    rows = [row("svm:mfcc_mean", 0.504), row("linear518", 0.708), row("dnn", 0.515)]
    comparisons = [
        Comparison("linear518", "svm:mfcc_mean", "artist-kfold", 66, Estimate(0.2, 0.1, 0.3)),
        Comparison("dnn", "svm:mfcc_mean", "artist-kfold", 66, Estimate(0.01, -0.07, 0.08)),
    ]
    lines = shown(Results(rows, comparisons, ("artist",)))
    assert max(map(len, lines)) <= 80
    models = [line.split()[1] for line in lines if line.lstrip().startswith("artist-kfold")]
    assert models == ["linear518", "dnn", "svm:mfcc_mean"]
    assert "70.8 (60.8 to 80.8)" in " ".join(lines)
    (best,) = [line for line in lines if "linear518" in line]
    assert best.split()[-1] == "better"
    assert "beside svm:mfcc_mean" in " ".join(lines)


def test_what_was_judged_on_validation_says_so_and_names_are_no_markup() -> None:
    lines = shown(Results([row("[red]dnn", 0.5, split="study", part="validation")], [], ("artist",)))
    assert "study (validation)" in " ".join(lines)
    assert "[red]dnn" in " ".join(lines)
