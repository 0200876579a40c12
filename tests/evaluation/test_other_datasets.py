import io
from pathlib import Path

import pytest
from rich.console import Console

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics_file import read_evaluation, read_metrics
from genre_spark.evaluation.other_datasets import other_dataset_rows, print_other_datasets


def printed(folders: list[Path], width: int) -> str:
    out = io.StringIO()
    print_other_datasets(other_dataset_rows(folders), Console(width=width, file=out))
    return out.getvalue()


def test_a_line_says_what_the_evaluation_says(make_evaluation) -> None:
    folder = make_evaluation("mine")
    metrics = read_evaluation(folder)
    [row] = other_dataset_rows([folder])
    assert (row.name, row.model, row.feature, row.dataset_name) == ("mine", "dnn", "mfcc_mean", "other-dataset")
    assert (row.n, row.genres, row.not_judged, row.chance) == (120, 8, 4 + 2 + 3, 0.125)
    assert (row.accuracy, list(row.interval)) == (metrics["accuracy"], metrics["accuracy_interval"])
    assert row.interval_by_artist is not None
    assert list(row.interval_by_artist) == metrics["accuracy_interval_by_artist"]


@pytest.mark.parametrize(
    ("dataset", "name"), [("s3://bucket/a/b/", "b"), ("/music/set", "set"), ("s3://bucket", "bucket"), ("/", "/")]
)
def test_a_dataset_is_named_by_the_last_part_of_its_address(make_evaluation, dataset: str, name: str) -> None:
    [row] = other_dataset_rows([make_evaluation(dataset=dataset)])
    assert row.dataset_name == name


@pytest.mark.parametrize("width", [80, 100])
def test_the_printed_table_is_whole_at_the_width_of_a_terminal(make_evaluation, width: int) -> None:
    folder = make_evaluation()
    text = printed([folder, make_evaluation(model="unbroken" * 4, by_artist=False)], width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    metrics = read_evaluation(folder)
    ends = "\N{EN DASH}".join(f"{100 * end:.1f}" for end in metrics["accuracy_interval_by_artist"])
    [row] = [line.split() for line in text.splitlines() if line.split()[:1] == ["dnn"]]
    assert row[1:4] == ["other-dataset", f"{100 * metrics['accuracy']:.1f}", ends]
    assert row[-4:] == ["12.5", "120", "?", "9"]


def test_names_move_no_cursor_and_are_no_markup(make_evaluation) -> None:
    text = printed([make_evaluation(model="[red]\x1b[2J", dataset="s3://b/[b]set[b]\n\x9b")], 100)
    assert "[red]" in text
    assert "[b]set[b]" in text
    assert not {"\x1b", "\x9b"} & set(text)


def test_the_folder_of_a_run_is_read_alike_but_is_no_evaluation_of_a_bundle(make_run) -> None:
    run = make_run("dnn", epochs=1)
    assert read_evaluation(run / "evaluation") == read_metrics(run)
    with pytest.raises(RunError, match="is what a run reached on its own test tracks; name the run with --run"):
        other_dataset_rows([run / "evaluation"])


def test_an_evaluation_of_nobody_knows_what_is_refused(make_evaluation) -> None:
    with pytest.raises(RunError, match="names no bundle or no dataset; run `genre-spark evaluate --bundle .* again"):
        other_dataset_rows([make_evaluation(bundle=None)])
