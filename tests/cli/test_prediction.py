"""What `genre-spark predict` says, through the command itself."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from rich.console import Console
from typer.testing import CliRunner, Result

from genre_spark.cli import app, prediction
from genre_spark.cli.predictions import print_predictions
from genre_spark.dataset.store import Dataset
from genre_spark.models.bundle import load_bundle
from genre_spark.models.predict import Failure, Prediction, predict_files
from genre_spark.models.timeline import Moment, TimedPrediction, Timeline, predict_timelines


@pytest.fixture(scope="module")
def clips(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a song of 24 clips, a clip of 3 s, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("clips")
    uris = dataset.tracks()["uri"].to_pylist()
    sounds = [soundfile.read(uri.removeprefix("file://"), dtype="float32") for uri in uris]
    rate = sounds[0][1]
    with soundfile.SoundFile(
        folder / "song.wav", "w", rate, sounds[0][0].shape[-1] if sounds[0][0].ndim > 1 else 1
    ) as song:
        for sound, _ in [*sounds, sounds[0]]:
            song.write(sound)
    soundfile.write(folder / "clip.wav", sounds[0][0], rate)
    (folder / "broken.mp3").write_bytes(b"no audio" * 100)
    return folder


def predict(run: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", "--bundle", str(run / "bundle"), *map(str, arguments)])


def test_a_folder_and_a_pattern_are_their_files(run: Path, clips: Path) -> None:
    answer = predict(run, clips, f"{clips}/**/*.wav", "--format", "json")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert [Path(each["path"]).name for each in found] == ["broken.mp3", "clip.wav", "song.wav", "clip.wav", "song.wav"]
    assert [each.get("error") for each in found] == ["AudioUndecodable", None, None, None, None]


def test_a_closed_standard_output_is_named(run: Path, clips: Path) -> None:
    command = [Path(sys.executable).with_name("genre-spark"), "predict", "--bundle", run / "bundle", clips / "clip.wav"]
    closed = ["sh", "-c", '"$@" >&-', "sh", *map(str, command)]
    answer = subprocess.run(closed, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: standard output is closed")


def test_a_folder_without_audio_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    answer = predict(run, tmp_path)
    assert answer.exit_code == 1
    assert f"error: {tmp_path}: no audio in this folder" in " ".join(answer.stderr.split())


def test_the_table_has_the_three_most_probable_genres_or_as_many_as_asked_for(run: Path, clips: Path) -> None:
    (known,) = predict_files(load_bundle(run / "bundle"), [clips / "clip.wav"])
    assert isinstance(known, Prediction)
    ranked = sorted(known.probabilities.items(), key=lambda item: -item[1])
    for top in (None, 1, 2):
        answer = predict(run, clips / "clip.wav", *([] if top is None else ["--top", top]))
        text = " ".join(answer.stdout.split())
        shown = [f"{genre} {p:.1%}" for genre, p in ranked if f"{genre} {p:.1%}" in text]
        assert shown == [f"{genre} {p:.1%}" for genre, p in ranked[: top or 3]]
    assert predict(run, clips / "clip.wav", "--top", 0).exit_code == 2


def test_a_timeline_in_json_is_that_of_the_function(run: Path, clips: Path) -> None:
    paths = [clips / "song.wav", clips / "broken.mp3"]
    answer = predict(run, *paths, "--timeline", "--hop", 7, "--format", "json")
    assert answer.exit_code == 0, answer.output
    song, broken = json.loads(answer.stdout)
    (known, _) = predict_timelines(load_bundle(run / "bundle"), paths, hop_s=7)
    assert isinstance(known, TimedPrediction)
    assert list(song) == ["path", "genre", "probabilities", "duration_s", "timeline"]
    assert song["genre"] == known.prediction.genre
    assert song["probabilities"] == known.prediction.probabilities
    assert song["duration_s"] == known.timeline.duration_s == soundfile.info(clips / "song.wav").duration
    assert song["timeline"] == [vars(moment) for moment in known.timeline.moments]
    assert [moment["start_s"] for moment in song["timeline"]] == pytest.approx([0, 7, 14, 21, 28, 35, 42], abs=1e-3)
    assert broken["error"] == "AudioUndecodable"


def test_a_timeline_in_csv_has_a_row_per_moment(run: Path, clips: Path) -> None:
    answer = predict(run, clips / "song.wav", clips / "broken.mp3", "--timeline", "--format", "csv")
    (known, _) = predict_timelines(load_bundle(run / "bundle"), [clips / "song.wav", clips / "broken.mp3"])
    assert isinstance(known, TimedPrediction)
    *rows, broken = csv.DictReader(io.StringIO(answer.stdout))
    assert list(broken) == [
        "path", "start_s", "end_s", "genre", "p_Folk", "p_Hip-Hop", "p_Rock", "error", "detail",
    ]  # fmt: skip
    for row, moment in zip(rows, known.timeline.moments, strict=True):
        assert row["path"] == str(clips / "song.wav")
        assert (float(row["start_s"]), float(row["end_s"])) == pytest.approx((moment.start_s, moment.end_s), abs=1e-3)
        assert row["genre"] == max(moment.probabilities, key=lambda genre: moment.probabilities[genre])
        for genre, p in moment.probabilities.items():
            assert float(row[f"p_{genre}"]) == pytest.approx(p, abs=1e-6)
    assert (broken["start_s"], broken["genre"], broken["error"]) == ("", "", "AudioUndecodable")


def test_a_timeline_for_a_person_fits_a_terminal_and_names_times_and_genres(run: Path, clips: Path) -> None:
    answer = predict(run, clips / "song.wav", "--timeline", "--hop", 3)
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    song = predict_timelines(load_bundle(run / "bundle"), [clips / "song.wav"], hop_s=3)
    (known,) = (each.timeline for each in song if isinstance(each, TimedPrediction))
    starts = [line.split("-")[0].strip() for line in lines if "%" in line and ":" in line]
    assert starts[0] == "0:00"
    assert len(starts) == 1 + sum(
        one.leading() != other.leading() for one, other in zip(known.moments, known.moments[1:], strict=False)
    )
    strips = [line for line in lines if any(block in line for block in "▁▂▃▄▅▆▇") and "%" not in line]
    assert {line.split()[0] for line in strips} <= {"Folk", "Hip-Hop", "Rock"}
    assert lines[-2].split() == ["0:00", "1:12"]


def test_a_hop_needs_a_timeline_and_must_lead_somewhere(run: Path, clips: Path) -> None:
    for options, reason in ((["--hop", 3], "add --timeline"), (["--timeline", "--hop", 0], "hop_s=0 must be")):
        answer = predict(run, clips / "clip.wav", *options)
        assert answer.exit_code == 1
        assert reason in answer.stderr


def test_a_bar_on_the_terminal_leaves_the_answer_on_standard_output(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(prediction, "stderr", Console(file=terminal, force_terminal=True))
    for options in ([], ["--timeline"]):
        answer = predict(run, clips / "clip.wav", clips / "song.wav", "--format", "json", *options)
        assert len(json.loads(answer.stdout)) == 2
        assert "2/2" in terminal.getvalue()
        assert "probabilities" not in terminal.getvalue()


def test_answers_are_written_as_they_come_and_are_what_a_list_of_them_is_in_json() -> None:
    file = io.StringIO()
    seen: list[str] = []
    answers = [Prediction(name, "Rock", {"Rock": 0.75, "Folk": 0.25}) for name in ("ä.mp3", 'b"\n.mp3')]

    def come() -> Iterator[Prediction]:
        for answer in answers:
            seen.append(file.getvalue())
            yield answer
        seen.append(file.getvalue())

    print_predictions(come(), "json", file=file)
    assert file.getvalue() == json.dumps([vars(answer) for answer in answers], indent=2, ensure_ascii=False) + "\n"
    assert seen[0] == ""
    assert "ä.mp3" in seen[1]
    assert 'b\\"' in seen[2]
    for form, first in (("json", "[]\n"), ("csv", "path,genre,p_Rock,error,detail\r\n")):
        empty = io.StringIO()
        print_predictions([], form, labels=["Rock"], file=empty)
        assert empty.getvalue() == first
    seen.clear()
    file = io.StringIO()
    print_predictions(come(), "csv", labels=["Rock", "Folk"], file=file)
    # A line break in a name stands between quotes.
    assert [len(list(csv.reader(io.StringIO(text, newline="")))) for text in seen] == [1, 2, 3]


def test_names_that_a_terminal_or_rich_would_obey_are_shown_as_they_are() -> None:
    hostile = {"[red]Rock[/]\x1b[2J": 0.9, "Folk\n": 0.1}
    name = "\x1b]0;title\x07[bold]x.mp3"
    (genre, *_) = hostile
    timeline = Timeline(name, 60, [Moment(0, 30, hostile), Moment(30, 60, dict.fromkeys(hostile, 0.5))])
    file = io.StringIO()
    results = [
        TimedPrediction(Prediction(name, genre, hostile), 30, timeline),
        Failure(name, "AudioError", f"{name}: bad"),
    ]
    print_predictions(results, "table", file=file)
    text = "".join(file.getvalue().split())
    assert not {"\x1b", "\x07"} & set(text)
    for shown in ("[bold]x.mp3", "[red]Rock[/]\\x1b[2J", "Folk\\n"):
        assert shown in text
    assert "thatistheanswerforthefirst0:30;whatfollowsgoesthroughall1:00" in text
