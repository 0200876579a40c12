import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics_file import read_metrics
from genre_spark.evaluation.summary import (
    chance_percent,
    compact,
    duration,
    of_hundred,
    percent,
    points,
    print_summary,
    summary_rows,
)  # fmt: skip


def printed(runs: list[Path], width: int) -> str:
    out = io.StringIO()
    print_summary(summary_rows(runs), Console(width=width, file=out))
    return out.getvalue()


def test_a_part_that_does_not_exist_is_a_dash(make_run) -> None:
    [row] = summary_rows([make_run("cnn1d", split="study")])
    assert row.accuracies["test"] is None
    assert row.judged_part == "validation"
    assert percent(row.accuracies["test"]) == "\N{EN DASH}"


def test_a_summary_row_holds_what_the_run_and_the_study_say(make_run) -> None:
    run = make_run("cnn1d")
    [row] = summary_rows([run])
    metrics = read_metrics(run)
    assert (row.model, row.name, row.split, row.genres) == ("cnn1d", "cnn1d-artist", "artist", 8)
    assert (row.n, row.chance, row.accuracy) == (120, 0.125, metrics["accuracy"])
    assert row.accuracies == {part: metrics["parts"][part]["accuracy"] for part in ("training", "validation", "test")}
    assert row.study is not None
    assert (row.study.study_name, row.study.parameters, row.parameters) == ("3D", 255_656, 255_656)


def test_an_evaluation_older_than_the_model_is_refused(make_run) -> None:
    run = make_run("dnn")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"labels": record["labels"][::-1]}))
    with pytest.raises(RunError, match="of other genres than its model"):
        summary_rows([run])


@pytest.mark.parametrize("width", [80, 100])
def test_the_printed_table_is_whole_at_the_width_of_a_terminal(make_run, width: int) -> None:
    runs = [make_run("dnn"), make_run("cnn1d"), make_run("cnn2d"), make_run("cnn2d", split="official")]
    text = printed(runs, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    rows = [line.split() for line in text.splitlines()]
    accuracy = f"{100 * read_metrics(runs[2])['accuracy']:.1f}"
    [ours] = [row for row in rows if row[:2] == ["cnn2d", "artist"]]
    low, high = (f"{100 * end:.0f}" for end in read_metrics(runs[2])["accuracy_interval"])
    assert ours[4:] == [accuracy, f"{low}\N{EN DASH}{high}", "12.5", "120", "2.80", "M", "1.3", "min"]
    [theirs] = [row for row in rows if row[:4] == ["cnn2d", "(4D)", "the", "study"]]
    assert theirs[4:6] == ["96.8", "42"]
    for heading in ("valid.", "chance", "judged", "meters", "trained"):
        assert heading in text
    assert "no like-for-like comparison" in " ".join(text.split())


def test_a_model_of_ones_own_is_printed_without_the_study(make_run) -> None:
    text = printed([make_run("[bold]mine[/bold]")], 100)
    assert "[bold]mine" in text.replace("\n", "")
    assert "study" not in text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59, "59.0 s"), (90, "1.5 min"), (25_200, "7.0 h")])
def test_a_duration_is_told_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\xa0", " ") == text


@pytest.mark.parametrize(("share", "text"), [(0.123, "+12.3"), (-0.05, "\N{MINUS SIGN}5.0"), (0.0, "+0.0")])
def test_a_difference_is_told_in_points_with_its_sign(share: float, text: str) -> None:
    assert points(share) == text


def test_the_interval_takes_an_artists_tracks_together(make_run, write_answers) -> None:
    run = make_run("dnn")
    # Ten tracks of each of 12 artists, all right or all wrong.
    write_answers(run, [artist < 3 for artist in range(12) for _ in range(10)],
                  [f"artist {artist}" for artist in range(12) for _ in range(10)])  # fmt: skip
    metrics = read_metrics(run)
    [row] = summary_rows([run])
    assert row.honest_interval == tuple(metrics["accuracy_interval_by_artist"])
    low, high = row.honest_interval
    assert f"{100 * low:.0f}\N{EN DASH}{100 * high:.0f}" in printed([run], 80)
    assert high - low > 2 * (row.interval[1] - row.interval[0])


def test_runs_of_one_model_and_split_are_told_apart_by_their_folders(make_run) -> None:
    runs = [make_run("dnn", name="first"), make_run("dnn", name="second"), make_run("dnn", split="official")]
    text = printed([*runs, make_run("dnn", name="second")], 80)
    assert [line.split()[0] for line in text.splitlines() if " artist " in line] == ["first", "second", "second"]
    assert "second (2)" in text
    assert any(line.split()[:2] == ["dnn", "official"] for line in text.splitlines())


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (4_152, "4.15 k"), (88_584, "88.6 k"), (255_656, "256 k"), (999_600, "1.00 M"),
     (2_796_648, "2.80 M"), (1_500_000_000, "1.50 G")],
)  # fmt: skip
def test_a_large_count_has_three_digits(number: int, text: str) -> None:
    assert compact(number).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "none"),
        (0.0003, "fewer than 1"),
        (0.01, "about 1"),
        (0.5, "about 50"),
        (0.998, "more than 99"),
        (1.0, "all"),
    ],
)
def test_a_share_is_told_in_counts_of_a_hundred(share: float, text: str) -> None:
    assert of_hundred(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.125, "12.5 %"), (1 / 3_000, "< 0.1 %"), (0.0005, "0.1 %")])
def test_guessing_among_thousands_of_genres_is_not_nothing(share: float, text: str) -> None:
    assert chance_percent(share).replace("\xa0", " ") == text
