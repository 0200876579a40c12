"""The report on bundles that were held against datasets, alone and beside runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics_file import read_evaluation
from genre_spark.evaluation.report import build_report
from genre_spark.evaluation.summary import ABSENT
from genre_spark.settings import Settings
from tests.evaluation.test_report import Page


def page_of(out: Path, runs: list[Path], evaluations: list[Path], **options: Any) -> Page:
    build_report(runs, out, evaluations=evaluations, **options)
    return Page(out.read_text(encoding="utf-8"))


def percent(share: float) -> str:
    return f"{100 * share:.1f}\xa0%"


def section_of(page: Page, heading: str) -> str:
    """Words from a section's heading on: of the last place where it stands."""
    return page.words[page.words.rindex(heading) :]


def test_an_evaluation_alone_has_a_section_with_all_that_needs_no_training_record(
    make_evaluation, tmp_path: Path
) -> None:
    folder = make_evaluation(confused=[{}])
    metrics = read_evaluation(folder)
    page = page_of(tmp_path / "report.html", [], [folder])
    words = section_of(page, "dnn on other-dataset")
    low, high = map(percent, metrics["accuracy_interval_by_artist"])
    assert (
        f"{percent(metrics['accuracy'])} of 120 tracks were named rightly (95\xa0% interval {low} to {high})" in words
    )
    low, high = map(percent, metrics["accuracy_interval"])
    assert f"(40 artists), as they are right or wrong together; track by track it would be {low} to {high}." in words
    assert "Guessing gets 12.5\xa0%" in words
    assert "Not judged: 6 tracks of 2 genres that the model doesn't know (Polka, <Zouk>)." in words
    assert "3 tracks have no genre and count for nothing here." in words
    for said in ("0123456789abcdef", "s3://bucket/other-dataset", "mfcc_mean", "Folk taken for Rock: 3 of 15 tracks"):
        assert said in words
    cells = [int(cell["data-n"]) for cell in page.named("td") if "data-n" in cell]
    assert cells == [count for row in metrics["confusion"] for count in row]
    assert [svg["aria-label"].split(":")[0] for svg in page.named("svg")] == [
        "Reliability diagram of dnn on 120 tracks"
    ]
    for absent in ("epoch", "All settings", "trainable parameters", "all tracks", "Who stands on both sides"):
        assert absent not in page.words


def test_the_ten_seconds_are_about_the_evaluation_where_there_is_no_run(make_evaluation, tmp_path: Path) -> None:
    folder = make_evaluation()
    right = round(100 * read_evaluation(folder)["accuracy"])
    page = page_of(tmp_path / "report.html", [], [folder])
    said = f"Of 100 tracks of “other-dataset” dnn gets about {right} right; guessing gets about 12."
    assert said in page.words
    assert "Not judged: 9 tracks of genres that the model doesn't know, or of none." in page.words
    assert "an evaluation on another dataset." in page.words
    again = make_evaluation("second", dataset="/music/more/", share=0.2, labels=["a", "b"])
    page = page_of(tmp_path / "report.html", [], [folder, again])
    assert said in page.words
    assert "2 evaluations on other datasets." in page.words
    assert "one of those that it knows. On 2 sets of tracks:" in page.words
    assert "Of 100 tracks of “more” dnn gets" in page.words


def test_beside_runs_an_evaluation_is_ranked_with_nothing(make_run, make_evaluation, tmp_path: Path) -> None:
    runs = [make_run("dnn", split="study", share=0.6), make_run("dnn", share=0.4)]
    alone = page_of(tmp_path / "alone.html", runs, [])
    other = make_evaluation(share=1.0)
    beside = page_of(tmp_path / "beside.html", runs, [other])

    def judged(page: Page) -> str:
        words = page.words[page.words.index("In ten seconds") :]
        return words[: words.index("Made by") if "Held against" not in words else words.index("Held against")]

    # All up to the sections on each run.
    assert judged(beside) == judged(alone)[: len(judged(beside))]
    assert "did best" not in judged(beside)
    table = beside.words[beside.words.rindex("Held against other datasets") :]
    low, high = (f"{100 * end:.1f}" for end in read_evaluation(other)["accuracy_interval_by_artist"])
    assert re.search(rf"dnn ?judged ?other-dataset ?100.0\xa0% {low} to {high} ?12.5", table)
    assert "Held against other datasets" not in alone.words


def test_ids_and_links_of_runs_and_evaluations_do_not_collide(make_run, make_evaluation, tmp_path: Path) -> None:
    folder = make_evaluation()
    page = page_of(tmp_path / "report.html", [make_run("dnn", epochs=2)], [folder, folder])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.named("a")} >= {"#run-1", "#evaluation-1", "#evaluation-2", "#datasets"}
    assert {link["href"].removeprefix("#") for link in page.named("a")} <= set(ids)


def test_an_evaluation_that_an_earlier_version_made_is_shown_with_what_it_knows(
    make_evaluation, tmp_path: Path
) -> None:
    folder = make_evaluation(model=None, feature=None, by_artist=False, unseen={}, unlabelled=0)
    page = page_of(tmp_path / "report.html", [], [folder])
    assert "bundle 01234567 on other-dataset" in page.words
    assert "Feature not recorded by the version that evaluated it" in re.sub("Feature(?=not)", "Feature ", page.words)
    words = section_of(page, "bundle 01234567 on other-dataset")
    for absent in ("track by track", "Not judged", "What it takes for what", "None"):
        assert absent not in words


def test_names_in_an_evaluation_are_shown_as_they_are_and_do_nothing(make_evaluation, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    folder = make_evaluation(
        dataset=f"s3://b/{hostile}'\"x", model=hostile, feature=hostile, labels=[hostile, "b", "c"]
    )
    page = page_of(tmp_path / "report.html", [], [folder])
    assert page.named("script") == [{}]
    assert f"{hostile} on script>'\"x" in page.words


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "metrics.json").unlink(), r"holds no evaluation \(metrics\.json is missing\); run"),
        (
            lambda folder: (folder / "metrics.json").write_text("{"),
            r"metrics\.json: not metrics of this program: .*; run",
        ),
        (lambda folder: (folder / "confused.parquet").mkdir(), r"confused\.parquet: holds no Parquet file; run"),
    ],
)
def test_what_is_wrong_with_an_evaluation_is_said_with_the_command_that_makes_it(
    make_evaluation, tmp_path: Path, spoil, said: str
) -> None:
    folder = make_evaluation()
    spoil(folder)
    command = f"`genre-spark evaluate --bundle BUNDLE --dataset DATASET --out {re.escape(str(folder))}`"
    with pytest.raises(RunError, match=f"^{re.escape(str(folder))}.*{said} {command}"):
        build_report([], tmp_path / "report.html", evaluations=[folder])


def test_a_run_is_no_evaluation_of_a_bundle(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", epochs=1)
    for folder in (run, run / "evaluation"):
        with pytest.raises(RunError, match=f"name .* with --run {re.escape(str(run))}$"):
            build_report([], tmp_path / "report.html", evaluations=[folder])


def test_excerpts_share_the_room_of_the_page_and_those_left_out_are_counted_once(
    make_run, make_evaluation, write_confused, write_clip, tmp_path: Path
) -> None:
    clips = [write_clip(f"{number}.wav", seconds=1, seed=number).as_uri() for number in range(4)]
    run = make_run("dnn", epochs=1)
    write_confused(run, [{"uri": uri} for uri in clips[:2]])
    folder = make_evaluation(confused=[{"uri": uri} for uri in clips[2:]])
    page = page_of(tmp_path / "report.html", [run], [folder], audio=Settings().audio)
    assert len(page.named("audio")) == 4
    assert "left out" not in page.words
    one = max(len(player["src"]) for player in page.named("audio")) + max(len(one["src"]) for one in page.named("img"))
    page = page_of(tmp_path / "report.html", [run], [folder], audio=Settings().audio, audio_mb=2.5 * one / 1e6)
    assert len(page.named("audio")) == 2
    assert page.words.count("excerpts of confused tracks are left out") == 1
    assert "2 excerpts of confused tracks are left out: the page holds 0." in page.words
    assert page.words.count("no room in this page for more audio") == 2


@pytest.mark.parametrize(
    ("heard", "said", "unsaid"),
    [
        (30, "30 of 120 judged tracks were training tracks", "isn't known here"),
        (1, "1 of 120 judged tracks was a training track", "isn't known here"),
        (0, "none of them was a training track.", "no estimate for new music"),
        (None, "which of them it was trained on isn't known here.", "no estimate for new music"),
    ],
)
def test_how_many_tracks_the_model_was_trained_on_is_said_in_plain_words(
    make_evaluation, tmp_path: Path, heard: int | None, said: str, unsaid: str
) -> None:
    page = page_of(tmp_path / "report.html", [], [make_evaluation(heard=heard)])
    section = section_of(page, "dnn on other-dataset")
    assert said in section
    assert unsaid not in page.words
    first = page.words[page.words.index("In ten seconds") : page.words.index("Held against")]
    assert ("that number is no estimate for new music" in first) is bool(heard)
    assert ("None of these tracks was a training track." in first) is (heard == 0)
    assert ("Nothing here knows what a model was trained on" in first) is (heard is None)
    row = page.words[page.words.index("Not judged: tracks of genres") :]
    assert re.search(rf"judged ?other-dataset ?.* ?8 ?120 ?{ABSENT if heard is None else heard} ?9 ", row)
    assert ("the accuracy is no estimate for new music" in page.words) is bool(heard)


def test_beside_runs_training_tracks_among_the_judged_ones_are_said_on_the_first_screen(
    make_run, make_evaluation, tmp_path: Path
) -> None:
    page = page_of(tmp_path / "report.html", [make_run("dnn", epochs=1)], [make_evaluation(heard=7)])
    first = page.words[page.words.index("In ten seconds") : page.words.index("Accuracy of each run")]
    assert "7 of 120 judged tracks were training tracks (dnn): that number is no estimate for new music." in first


def test_evaluations_of_one_model_on_one_dataset_are_told_apart_by_their_folders(
    make_evaluation, tmp_path: Path
) -> None:
    page = page_of(tmp_path / "report.html", [], [make_evaluation("first"), make_evaluation("second")])
    assert "of “other-dataset” first gets" in page.words
    assert "of “other-dataset” second gets" in page.words
