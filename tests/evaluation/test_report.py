import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from genre_spark.errors import RunError
from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import read_metrics, write_metrics
from genre_spark.evaluation.report import build_report
from genre_spark.evaluation.same_tracks import PREDICTIONS
from genre_spark.evaluation.study import STUDY, STUDY_DATA
from genre_spark.features.spec import Segments
from genre_spark.models.run import BUNDLE, read_history, read_run_record, write_run_record
from genre_spark.settings import Settings
from tests.evaluation.known_answers import spec_of, write_bundle

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Elements with their attributes, and the text, of a page whose tags must balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        """All text, plain white space folded; no-break spaces stay."""
        return re.sub("[ \n]+", " ", "".join(self.text))


def page_of(runs: list[Path], out: Path) -> tuple[str, Page]:
    build_report(runs, out)
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def study_page(study_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return page_of(study_runs, tmp_path_factory.mktemp("report") / "report.html")


def test_three_models_give_the_studys_nine_figures_and_three_of_their_reliability(study_page: tuple[str, Page]) -> None:
    _, page = study_page
    figures = [attributes for attributes in page.named("svg") if attributes.get("role") == "img"]
    heat_maps = [attributes for attributes in page.named("table") if attributes.get("class") == "heat"]
    assert (len(figures), len(heat_maps), len(page.named("figure"))) == (9, 3, 12)
    assert len({attributes["aria-label"] for attributes in figures}) == 9
    assert sum(attributes["aria-label"].startswith("Reliability diagram of") for attributes in figures) == 3


def test_the_page_needs_nothing_from_outside(study_page: tuple[str, Page]) -> None:
    html, page = study_page
    assert set(re.findall(r"https?://[^\"'\s)<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html


def test_the_policy_allows_the_one_script_by_its_hash_and_nothing_else(study_page: tuple[str, Page]) -> None:
    html, page = study_page
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.named("script") == [{}]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_every_id_stands_once_and_every_reference_has_its_id(make_run, tmp_path: Path) -> None:
    runs = [make_run("dnn", epochs=9), make_run("cnn1d", epochs=9)]
    html, page = page_of([*runs, runs[0]], tmp_path / "report.html")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', html)) <= set(ids)


def test_every_table_has_a_caption_and_scoped_headers(study_page: tuple[str, Page]) -> None:
    _, page = study_page
    assert len(page.named("caption")) == len(page.named("table")) == 2 + 3 * 4
    assert {attributes.get("scope") for attributes in page.named("th")} == {"col", "row", "colgroup"}
    assert page.named("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_says_which_model_did_best_on_unseen_tracks(
    study_page: tuple[str, Page], study_runs: list[Path]
) -> None:
    _, page = study_page
    best = max(study_runs, key=lambda run: read_metrics(run)["accuracy"])
    metrics = read_metrics(best)
    assert best.name == "cnn2d-artist"
    accuracy = f"{100 * metrics['accuracy']:.1f}\xa0%"
    assert f"cnn2d did best: it named the right genre for {accuracy} of 120 test tracks" in page.words


def test_the_calibration_error_stands_beside_the_accuracy_and_its_table_beside_the_diagram(
    study_page: tuple[str, Page], study_runs: list[Path]
) -> None:
    _, page = study_page
    metrics = read_metrics(study_runs[0])
    error, accuracy = (f"{100 * metrics[name]:.1f}\xa0%" for name in ("ece", "accuracy"))
    assert re.search(rf"dnn-artist ?artist ?[\d.]+\xa0% ?[\d.]+\xa0% ?{accuracy} ?{error}", page.words)
    assert f"and its probabilities are off by {error} on average" in page.words
    chance = 0.0
    for n, p in ((found["n"], found["confidence"]) for found in metrics["reliability"]):
        hits = np.arange(n + 1)
        chance += (binom.pmf(hits, n, p) * np.abs(hits - n * p)).sum() / metrics["n"]
    assert f"(true ones would seem to be off by {100 * chance:.1f}\xa0% on as many tracks)" in page.words
    table = page.words[page.words.index("By confidence") :]
    for found in metrics["reliability"]:
        row = f"{100 * found['low']:.0f} to {100 * found['high']:.0f}\xa0% ?{found['n']} ?"
        assert re.search(rf"{row}{100 * found['confidence']:.1f}\xa0% ?{100 * found['accuracy']:.1f}\xa0%", table)


def test_a_calibration_on_the_judged_tracks_themselves_is_told(
    make_run, study_page: tuple[str, Page], tmp_path: Path
) -> None:
    """The study's split has no test part: temperature and calibration error are of the same tracks."""
    told = "The probabilities were calibrated on these very tracks"
    _, page = page_of([make_run("dnn", split="study")], tmp_path / "report.html")
    assert told in page.words
    assert told not in study_page[1].words


def test_an_evaluation_from_before_the_calibration_has_a_page_without_it(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", calibrated=False)
    file = run / "evaluation" / "metrics.json"
    metrics = json.loads(file.read_text())
    old = ("part", "accuracy", "accuracy_interval", "n", "labels", "confusion", "macro_f1", "chance", "parts")
    scores = {
        genre: {name: found[name] for name in ("precision", "recall", "f1", "support")}
        for genre, found in metrics["per_genre"].items()
    }
    file.write_text(json.dumps({name: metrics[name] for name in old} | {"per_genre": scores}))
    _, page = page_of([run], tmp_path / "report.html")
    assert len(page.named("figure")) == 3
    assert "95\xa0% intervals in percent" not in page.words
    assert "By confidence" not in page.words
    assert "and its probabilities are off" not in page.words


def test_the_page_says_that_the_studys_numbers_are_no_like_for_like_comparison(study_page: tuple[str, Page]) -> None:
    _, page = study_page
    assert "no like-for-like comparison" in page.words
    assert "on other data" in page.words
    assert STUDY_DATA in page.words
    for study in STUDY.values():
        assert f"{study.parameters:,}" in page.words
        assert f"{100 * study.validation_accuracy:.4g}\xa0%" in page.words


def test_markup_in_a_name_is_shown_and_not_obeyed(make_run, write_confused, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "R&B"]
    run = make_run("</style><script>alert(2)</script>", labels=names, name="a<b>c")
    track = {"artist": "<i>artist</i>", "uri": "file:///tmp/%3Cb%3E%22/x%22onerror=a.mp3", "track_id": "<u>7</u>"}
    write_confused(run, [{"true": names[0], "predicted": names[1], "pair_count": 1, **track}])
    html, page = page_of([run], tmp_path / "report.html")
    assert not {"img", "b", "i", "u"} & {tag for tag, _ in page.elements}
    assert html.count("<script") == len(page.named("script")) == 1
    for name in (*names, '"onerror=a.mp3', "<i>artist</i>", "<u>7</u>"):
        assert name in page.words


def test_runs_with_other_genres_and_other_splits_are_not_ranked_against_each_other(make_run, tmp_path: Path) -> None:
    runs = [
        make_run("cnn2d", split="study"),
        make_run("cnn2d"),
        make_run("dnn"),
        make_run("own", labels=[f"genre {index}" for index in range(14)], epochs=1),
    ]
    _, page = page_of(runs, tmp_path / "report.html")
    verdicts = [section for section in page.named("section") if section.get("aria-label", "").startswith("Result")]
    assert len(verdicts) == 3
    assert page.words.count("did best") == 1
    assert page.words.index("test tracks that no training saw") < page.words.index("which the training watched")


def test_an_accuracy_that_speaks_for_new_music_stands_before_one_that_does_not(make_run, tmp_path: Path) -> None:
    runs = [make_run("dnn", split="official", shared=["pcm"], share=0.9), make_run("dnn", share=0.4)]
    _, page = page_of(runs, tmp_path / "report.html")
    verdicts = [section["aria-label"] for section in page.named("section") if "Result" in section.get("aria-label", "")]
    assert verdicts == ["Result on the artist split", "Result on the official split"]


def test_a_model_no_better_than_guessing_is_called_so(make_run, tmp_path: Path) -> None:
    _, page = page_of([make_run("dnn", share=0.125)], tmp_path / "report.html")
    assert "no clear gain over guessing" in page.words


def test_a_run_that_was_not_evaluated_is_refused_and_no_page_is_written(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", evaluated=False)
    with pytest.raises(RunError, match=f"`genre-spark evaluate --run {re.escape(str(run))}`"):
        build_report([make_run("cnn1d"), run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run is named"):
        build_report([], tmp_path / "report.html")


def test_a_folder_in_the_place_of_the_page_is_refused(study_runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder; name a file"):
        build_report(study_runs, tmp_path)


def test_the_same_runs_give_the_same_page(make_run, tmp_path: Path) -> None:
    runs = [make_run("dnn", epochs=2)]
    first, _ = page_of(runs, tmp_path / "new" / "one.html")
    second, _ = page_of(runs, tmp_path / "new" / "two.html")
    assert first == second
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["one.html", "two.html"]


def test_a_note_and_unknown_artists_are_said_at_the_top(make_run, tmp_path: Path) -> None:
    run = make_run("dnn")
    out = tmp_path / "report.html"
    build_report([run], out)
    assert "name no artist" not in out.read_text()
    record = read_run_record(run)
    leaks = record.leaks.model_copy(update={"tracks_without_artist": 1_234})
    write_run_record(run, record.model_copy(update={"leaks": leaks}))
    build_report([run], out, note="composed by <b>a program</b>")
    page = out.read_text()
    assert "1,234 tracks name no artist" in page
    assert page.index("composed by &lt;b&gt;a program&lt;/b&gt;") < page.index('id="summary"')


def test_the_random_and_the_artist_disjoint_split_stand_side_by_side(make_run, tmp_path: Path) -> None:
    leaking, disjoint = make_run("dnn", split="study", share=0.9), make_run("dnn", share=0.4)
    _, page = page_of([leaking, disjoint], tmp_path / "report.html")
    first, second = (f"{100 * read_metrics(run)['accuracy']:.1f}\xa0%" for run in (leaking, disjoint))
    assert f"name {first} of its judged tracks rightly: training holds the artist of 120 of them." in page.words
    assert f"leaves {second}: training holds no artist, album or recording of theirs. Split “study” flatters" in (
        page.words
    )
    difference = 100 * (read_metrics(leaking)["accuracy"] - read_metrics(disjoint)["accuracy"])
    assert f"flatters dnn by {difference:.1f} points: for new music the first number promises too much." in page.words
    assert f"it makes dnn look {difference:.1f} points better than it is on new music" in page.words
    assert "independent samples" in page.words
    # The headline is the number that counts for new music.
    assert page.words.index("test tracks that no training saw") < page.words.index("They aren't new to it:")


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.9, 0.4), "points: for new music the first number promises too much."),
        ((0.4, 0.9), "Here knowing them did not help."),
        ((0.5, 0.5), "So few tracks can't tell this difference from chance."),
    ],
)
def test_no_word_of_the_comparison_says_more_than_the_runs_show(make_run, tmp_path: Path, shares, verdict) -> None:
    runs = [make_run("dnn", split="official", shared=["album"], unknown=["artist"], share=shares[0])]
    runs.append(make_run("dnn", unknown=["artist"], share=shares[1]))
    _, page = page_of(runs, tmp_path / "report.html")
    words = page.words[page.words.rindex("Who stands on both sides") : page.words.index("Leak audit of each run")]
    assert "training holds the album of 60 of them" in words
    assert "training holds no album or recording of theirs" in words
    assert f"{verdict} Not all of their artists are known: the second number may promise too much, too." in words
    assert "random" not in words
    assert "no artist" not in words


def test_a_split_that_is_grouped_otherwise_promises_no_more_than_it_keeps(make_run, tmp_path: Path) -> None:
    _, page = page_of([make_run("dnn", by=["pcm", "artist"])], tmp_path / "report.html")
    assert "Split “artist”: no recording or artist stands in two parts." in page.words
    _, page = page_of([make_run("dnn", split="artist-kfold")], tmp_path / "report.html")
    assert "one fold of several; no artist, album or recording stands in two parts." in page.words


def test_a_count_of_what_is_not_known_is_no_number(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", unknown=["artist"])
    record = read_run_record(run)
    leaks = record.leaks.model_copy(update={"tracks_without_album": 5})
    write_run_record(run, record.model_copy(update={"leaks": leaks}))
    _, page = page_of([run], tmp_path / "report.html")
    row = page.words[page.words.index("Leak audit of each run") :]
    assert re.search("artist ?120 ?unknown ?≥\xa00 ?0 ?unknown ?≥\xa00 ?0", row)
    assert "“unknown”: it is known of none" in row


def test_the_leaks_of_every_run_are_counted(make_run, tmp_path: Path) -> None:
    _, page = page_of([make_run("dnn", split="study", name="leaky")], tmp_path / "report.html")
    row = page.words[page.words.index("Leak audit of each run") :]
    assert re.search(r"leaky ?study ?240 ?120 ?0 ?0 ?37 ?0 ?0", row)


def test_somebody_new_reads_the_result_in_counts_of_a_hundred(study_page: tuple[str, Page], study_runs) -> None:
    _, page = study_page
    metrics = read_metrics(study_runs[2])
    words = page.words[page.words.index("In ten seconds") : page.words.index("did best")]
    assert f"the best of 3 (cnn2d) gets about {100 * metrics['accuracy']:.0f} right; guessing gets about 12." in words
    recalls = {genre: found["recall"] for genre, found in metrics["per_genre"].items()}
    for end, choose in (("easiest to find", max), ("hardest", min)):
        names = [genre for genre in recalls if recalls[genre] == choose(recalls.values())]
        others = {1: "", 2: " and 1 other"}.get(len(names), f" and {len(names) - 1} others")
        share = f"{100 * recalls[names[0]]:.1f}\xa0% of {'its' if len(names) == 1 else 'their'} tracks"
        assert f"{end}: {names[0]}{others} ({share})" in words


def test_several_runs_have_a_table_of_contents_and_one_has_none(
    study_page: tuple[str, Page], make_run, tmp_path: Path
) -> None:
    _, page = study_page
    assert [nav["aria-label"] for nav in page.named("nav")] == ["Contents"]
    links = [link["href"] for link in page.named("a")]
    assert {"#summary", "#leaks", "#run-1", "#run-2", "#run-3"} <= set(links)
    _, single = page_of([make_run("dnn", epochs=1)], tmp_path / "report.html")
    assert single.named("nav") == []


def test_the_heat_map_holds_every_count_with_its_share_of_the_row(study_page: tuple[str, Page], study_runs) -> None:
    html, _ = study_page
    [table] = re.findall(r"<table class=\"heat\".*?</table>", html, re.DOTALL)[:1]
    rows = [re.findall(r'<td data-n="(\d+)"[^>]*>([^<]*)(?:<small>(\d+)&nbsp;%</small>)?', row) for row in
            re.findall(r"<tr data-n.*?</tr>", table, re.DOTALL)]  # fmt: skip
    confusion = read_metrics(study_runs[0])["confusion"]
    assert [[int(n) for n, _, _ in row] for row in rows] == confusion
    assert all(n == shown for row in rows for n, shown, _ in row)
    shares = [[f"{100 * n / sum(row):.0f}" if n else "" for n in row] for row in confusion]
    assert [[share for _, _, share in row] for row in rows] == shares


def test_intervals_stand_below_precision_recall_and_f1(study_page: tuple[str, Page], study_runs) -> None:
    _, page = study_page
    folk = read_metrics(study_runs[0])["per_genre"]["Folk"]
    row = page.words[page.words.index("95\xa0% intervals in percent") :]
    for name in ("precision", "recall", "f1"):
        low, high = (f"{100 * end:.0f}" for end in folk[f"{name}_interval"])
        assert re.search(rf"Folk ?.{{0,60}}{100 * folk[name]:.1f}\xa0% {low} to {high}", row)


def test_thousands_of_genres_make_a_small_page_that_says_what_it_leaves_out(make_run, tmp_path: Path) -> None:
    labels = [f"genre {index}" for index in range(1_000)]
    run = make_run("dnn", labels=labels, epochs=1)
    confusion = np.random.default_rng(0).poisson(0.001, (1_000, 1_000)) + 5 * np.eye(1_000, dtype=int)
    write_metrics(run / "evaluation", build_metrics({"test": confusion}, labels, "test"))
    html, page = page_of([run], tmp_path / "report.html")
    assert len(html) < 400_000
    assert "Shown are the 40 genres with most mistakes; the 960 others stand together" in page.words
    assert "Shown are the 100 genres with most tracks; all 1,000 stand in" in page.words
    assert "and 900 more" in page.words
    rows = [int(attributes["data-n"]) for attributes in page.named("tr") if "data-n" in attributes]
    assert len(rows) == 41
    assert sum(rows) == confusion.sum()


def test_a_run_whose_history_is_gone_has_a_page_without_curves(make_run, tmp_path: Path) -> None:
    run = make_run("dnn")
    (run / "history.csv").unlink()
    _, page = page_of([run], tmp_path / "report.html")
    assert len(page.named("svg")) == 1  # the reliability diagram
    assert "No curves: the run's history.csv is gone." in page.words
    assert "88,584 trainable parameters, trained in 1.3\xa0min." in page.words


def test_a_run_whose_history_is_damaged_is_refused(make_run, tmp_path: Path) -> None:
    run = make_run("dnn")
    (run / "history.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(RunError, match="column 'accuracy' is missing"):
        build_report([run], tmp_path / "report.html")


def test_one_judged_track_is_called_no_evidence(make_run, tmp_path: Path) -> None:
    run = make_run("dnn")
    confusion = np.zeros((8, 8), int)
    confusion[2, 7] = 1
    write_metrics(run / "evaluation", build_metrics({"test": confusion}, read_metrics(run)["labels"], "test"))
    _, page = page_of([run], tmp_path / "report.html")
    assert "It was asked for one track only (dnn), and was wrong." in page.words
    assert "One track says nothing about a model." in page.words
    assert "0.0\xa0% of 1 test track was named rightly" in page.words
    assert "0.0\xa0% of 1 test track that no training saw." in page.words
    assert "commonest mistake" not in page.words
    assert "1 test tracks" not in page.words


def test_tracks_that_could_not_be_judged_are_told(make_run, tmp_path: Path) -> None:
    run = make_run("dnn")
    file = run / "evaluation" / "metrics.json"
    unseen = {"Polka": 1, "<Zouk>": 40} | dict.fromkeys(["a", "b", "c", "d"], 2)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"unseen": unseen, "unlabelled": 3}))
    _, page = page_of([run], tmp_path / "report.html")
    assert "Not judged: 49 tracks of 6 genres that the model doesn't know (<Zouk>, a, b, c, d, …)." in page.words
    assert "3 tracks have no genre and count for nothing here." in page.words


def test_confused_tracks_are_named_without_audio_where_none_is_read(make_run, write_confused, tmp_path: Path) -> None:
    run = make_run("dnn")
    write_confused(run, [{}, {"uri": "s3://bucket/R%26B/song.mp3", "artist": None}])
    _, page = page_of([run], tmp_path / "report.html")
    support = read_metrics(run)["per_genre"]["Folk"]["support"]
    assert f"Folk taken for Rock: 3 of {support} tracks" in page.words
    assert "1.mp3 by Idle Gardens track 1" in page.words
    assert "song.mp3 track 2" in page.words
    assert "Rock 70.0\xa0%, Folk 20.0\xa0%" in page.words
    assert page.named("audio") == page.named("img") == []


def test_confused_tracks_can_be_heard_and_seen_where_their_audio_is(
    make_run, write_confused, write_clip, tmp_path: Path
) -> None:
    run, rotten = make_run("dnn"), tmp_path / "rotten.mp3"
    rotten.write_bytes(b"no audio at all" * 100)
    write_confused(run, [{"uri": write_clip(seconds=2).as_uri()}, {"uri": str(rotten)}, {"uri": "gone.mp3"}])
    out = tmp_path / "report.html"
    build_report([run], out, audio=Settings().audio)
    page = Page(out.read_text())
    [player], [picture] = page.named("audio"), page.named("img")
    assert player["src"].startswith("data:audio/mpeg;base64,")
    assert picture["src"].startswith("data:image/png;base64,")
    assert picture["alt"] == "Mel spectrogram of the first 2 seconds of clip.wav"
    assert "the audio can't be read: not audio that can be decoded" in page.words
    assert "the audio is not at hand" in page.words
    assert str(tmp_path) not in page.words
    assert "mind the tracks' licences" in page.words
    build_report([run], out, audio=Settings().audio, audio_mb=0)
    assert "licences" not in Page(out.read_text()).words
    assert Page(out.read_text()).named("audio") == []


def test_an_experiment_can_stand_alone_or_beside_runs(make_run, experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    build_report([], out, experiment=experiment)
    page = Page(out.read_text())
    assert [svg["aria-label"] for svg in page.named("svg")] == [
        "Accuracy of 2 models on the artist split with 95 % intervals; the table below holds the numbers"
    ]
    assert re.search("svm:<fma> ?51.0\xa0% 41.0 to 60.0", page.words)
    assert "+11.0 +1.0 to +21.0: better" in page.words
    assert "In ten seconds" not in page.words
    build_report([make_run("dnn", epochs=1)], out, experiment=experiment)
    page = Page(out.read_text())
    assert "#experiment" in {link["href"] for link in page.named("a")}
    assert "In ten seconds" in page.words


BLOCKS = [f"artist {number}" for number in range(12) for _ in range(10)]


def test_the_first_screen_takes_an_artists_tracks_together(make_run, write_answers, tmp_path: Path) -> None:
    run = make_run("dnn")
    # All tracks of 3 artists in 12 are right: of 120 independent tracks that would be a clear gain over guessing.
    write_answers(run, [place < 30 for place in range(120)], BLOCKS)
    metrics = read_metrics(run)
    plain, (low, high) = metrics["accuracy_interval"], metrics["accuracy_interval_by_artist"]
    assert low < metrics["chance"] < plain[0]
    html, page = page_of([run], tmp_path / "report.html")
    assert "no clear gain over guessing" in page.words
    interval = f"{100 * low:.1f}\xa0% to {100 * high:.1f}\xa0% (95\xa0% interval)"
    assert f"Judged on 120 tracks of 12 artists only: on others like them it might be {interval}" in page.words
    assert f'class="interval" style="left: {100 * low:.2f}%; width: {100 * (high - low):.2f}%"' in html
    # The one over tracks stands in the section alone.
    assert page.words.count(f"{100 * plain[0]:.1f}\xa0% to {100 * plain[1]:.1f}\xa0%") == 1
    assert f"track by track it would be {100 * plain[0]:.1f}\xa0%" in page.words


def test_the_best_one_is_named_within_its_split_only(make_run, tmp_path: Path) -> None:
    runs = [make_run("dnn", split="study", share=0.9), make_run("dnn", share=0.3), make_run("cnn1d", share=0.6)]
    _, page = page_of(runs, tmp_path / "report.html")
    words = page.words[page.words.index("In ten seconds") : page.words.index("did best")]
    assert re.search(r"On the “artist” split, of 100 tracks the best of 2 \(cnn1d\) gets about \d+ right", words)
    assert re.search(r"On the “study” split, of 100 tracks dnn gets about \d+ right", words)
    assert words.count("the best") == 1


def test_a_lead_that_may_be_chance_is_called_so_and_a_clear_one_is_not(make_run, write_answers, tmp_path: Path) -> None:
    runs = [make_run("cnn1d"), make_run("cnn2d"), make_run("dnn")]
    answers = (
        [True] * 70 + [False] * 50,
        [True] * 68 + [False] * 50 + [True] * 2,
        [place % 4 == 0 for place in range(120)],
    )
    for run, right in zip(runs, answers, strict=True):
        (run / "history.csv").unlink()
        write_answers(run, right, [f"artist {place % 12}" for place in range(120)])
    _, page = page_of(runs, tmp_path / "report.html")
    assert "guessing gets about 12. No clear difference to cnn2d." in page.words
    assert "No clear difference to cnn2d: on other tracks another one may be ahead." in page.words
    assert "No clear difference to dnn" not in page.words
    (runs[1] / "evaluation" / PREDICTIONS).write_bytes(b"PAR1 broken")
    _, page = page_of(runs, tmp_path / "report.html")
    assert "No clear difference to cnn2d:" in page.words


def judge(run: Path, confusion: np.ndarray) -> None:
    """Give a run another judgement; without curves, a page is made in no time."""
    (run / "history.csv").unlink(missing_ok=True)
    write_metrics(run / "evaluation", build_metrics({"test": confusion}, read_metrics(run)["labels"], "test"))


def test_ties_are_no_findings(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", labels=["Folk", "Pop", "Rock"])
    judge(run, np.array([[4, 4, 0], [0, 4, 4], [4, 0, 4]]))
    _, page = page_of([run], tmp_path / "report.html")
    for absent in ("asiest to find", "hardest", "Most often", "commonest mistake"):
        assert absent not in page.words
    judge(run, np.array([[4, 4, 0], [0, 5, 3], [4, 0, 4]]))
    _, page = page_of([run], tmp_path / "report.html")
    assert "Easiest to find: Pop (62.5\xa0% of its tracks); hardest: Folk and 1 other (50.0\xa0% of their tracks)." in (
        page.words
    )
    for absent in ("Most often", "commonest mistake"):
        assert absent not in page.words, "two pairs are confused as often"
    many = make_run("dnn", labels=[f"genre {number}" for number in range(8)])
    judge(many, np.diag([4] * 7 + [2]) + np.diag([0] * 6 + [2], -1)[:8, :8])
    _, page = page_of([many], tmp_path / "report.html")
    assert "Hardest to find: genre 7 (50.0\xa0% of its tracks). Most often, genre 7 is taken for genre 6." in page.words
    assert "asiest to find" not in page.words, "seven of eight are"
    judge(run, np.array([[7, 1, 0], [0, 8, 0], [0, 0, 8]]))
    _, page = page_of([run], tmp_path / "report.html")
    assert "Most often" not in page.words, "once is no habit"
    judge(run, np.array([[4, 4, 0], [0, 5, 3], [2, 0, 6]]))
    _, page = page_of([run], tmp_path / "report.html")
    assert "Most often, Folk is taken for Pop." in page.words
    assert "The commonest mistake: Folk taken for Pop, 4 times." in page.words


def test_the_curves_are_read_at_the_epoch_whose_weights_were_kept(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", epochs=9, best_epoch=3)
    history = read_history(run)
    html, page = page_of([run], tmp_path / "report.html")
    kept = "the weights of epoch 3 of 9 were kept: "
    for quantity, show in (("accuracy", "{:.1%}".format), ("loss", "{:.2f}".format)):
        values = [show(history[name][2]).replace("%", "\xa0%") for name in (quantity, f"val_{quantity}")]
        said = f"{kept}training {values[0]}, validation {values[1]}"
        assert f"Here {said}." in page.words
        assert f'aria-label="Curve of the {quantity} of dnn; {said}"' in html
    _, page = page_of([make_run("dnn", epochs=9, best_epoch=9)], tmp_path / "report.html")
    assert "were kept" not in page.words
    assert "Here after 9 epochs: training" in page.words


def test_curves_that_count_segments_are_told_from_the_summary_which_counts_tracks(make_run, tmp_path: Path) -> None:
    run, whole = make_run("dnn", epochs=2, name="cut"), make_run("dnn", epochs=2, name="whole")
    write_bundle(run / BUNDLE, "abc", spec=spec_of(3, segments=Segments(count=3, length_s=1.0, overlap_s=0.0)))
    write_bundle(whole / BUNDLE, "abc")
    html, page = page_of([run, whole], tmp_path / "report.html")
    assert page.words.count(", of segments: the summary counts whole tracks.") == 1
    assert "Loss and accuracy of cut by epoch, of segments" in page.words
    labels = re.findall('aria-label="Curve of the accuracy of ([^;]+);', html)
    assert labels == ["cut on segments", "whole"]
    assert html.count("accuracy on segments") == 1


def test_runs_of_one_model_and_split_are_told_apart_by_their_folders(make_run, tmp_path: Path) -> None:
    names = ("slow", "quick", "odd")
    runs = [make_run("dnn", name=name, share=share) for name, share in zip(names, (0.2, 0.3, 0.6), strict=True)]
    html, page = page_of([*runs, make_run("cnn1d"), make_run("dnn", split="study")], tmp_path / "report.html")
    headings = [text.strip() for text in re.findall(r'<h2 id="run-\d">([^<]+)', html)]
    assert headings == ["slow", "quick", "odd", "cnn1d", "dnn"]
    links = re.findall(r'<a href="#run-\d">([^<]+)</a>', html)
    assert links[:5] == ["slow, artist", "quick, artist", "odd, artist", "cnn1d, artist", "dnn, study"]
    assert "the best of 4 (odd)" in page.words
    assert re.search(r"slow ?dnn ?artist .* quick ?dnn ?artist .* cnn1d ?cnn1d-artist ?artist", page.words)
    assert "dnn: reads mfcc_mean" in page.words
    assert re.findall(r'<div class="what"><span>(\w+)</span>', html) == ["slow", "quick", "odd", "cnn1d", "dnn"]


def test_among_the_genres_that_stand_together_no_cell_is_painted_as_right(make_run, tmp_path: Path) -> None:
    labels = [f"genre {index}" for index in range(60)]
    run = make_run("dnn", labels=labels, epochs=1)
    judge(run, np.random.default_rng(0).poisson(0.1, (60, 60)) + 5 * np.eye(60, dtype=int))
    html, page = page_of([run], tmp_path / "report.html")
    [others] = re.findall(r"<tr [^>]*data-others>.*?</tr>", html, re.DOTALL)
    cells = re.findall(r"<td data-n=[^>]*>[^<]*", others)
    assert int(re.findall(r'data-n="(\d+)"', cells[-1])[0]) > 50
    assert "--share" not in cells[-1]
    assert any("--share" in cell for cell in cells[:-1])
    assert "right and wrong answers in one cell that is not shaded" in page.words


def test_a_share_of_nothing_is_a_dash(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", labels=["Folk", "Pop", "Rock"])
    judge(run, np.array([[6, 0, 2], [0, 0, 0], [0, 0, 0]]))
    _, page = page_of([run], tmp_path / "report.html")
    table = page.words[page.words.index("By genre") :]
    assert re.search("Pop ?\N{EN DASH} ?\N{EN DASH} ?0.0\xa0% 0 to 100 ?0 ", table)
    assert re.search("Rock ?0.0\xa0% 0 to 66 ?\N{EN DASH} ?0.0\xa0%", table)
    assert "“\N{EN DASH}”: no track to count, 0 in the mean." in table


def test_guessing_among_thousands_of_genres_gets_less_than_one_of_a_hundred(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", epochs=1)
    file = run / "evaluation" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chance": 1 / 3_000}))
    html, page = page_of([run], tmp_path / "report.html")
    assert "guessing gets fewer than 1." in page.words
    assert "Guessing among 8 genres gets < 0.1\xa0%." in page.words
    assert "chance &lt; 0.1 %" in html
