"""What people and machines see of an extraction, on a terminal, in a log and as JSON lines."""

import contextlib
import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from genre_spark.cli import extraction
from genre_spark.cli.extraction import extraction_shown, facts, summary_line, summary_table
from genre_spark.corpora.tracks import read_tracks
from genre_spark.dataset.extract import extract
from genre_spark.dataset.progress import Pace, Progress, Receipt, Tally, TaskCounts, WrittenFile
from genre_spark.errors import ExtractionFailed, SettingsError
from genre_spark.features import resolve_specs

HALFWAY = Progress(
    tracks=1_000, to_compute=800, up_to_date=200, done=400, errors={"AudioNotFound": 2, "AudioUndecodable": 1},
    core_s=80.0, wall_s=100.0, audio_bytes=400_000_000, written_bytes=500_000_000, written_rows=400,
    tracks_per_s=4.0, left_s=100.0, tasks=TaskCounts(2, 5, 1), phase="extracting",
)  # fmt: skip


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which only the test moves."""
    now = [1_000.0]
    monkeypatch.setattr(extraction.time, "monotonic", lambda: now[0])
    return now


def terminal(width=100):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def plain(console):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def receipt(task, tracks, errors=None):
    files = [WrittenFile("features", f"{task}", tracks, 100)]
    return Receipt(task, files, tracks, 0, errors or {}, core_s=0.5 * tracks, audio_bytes=10 * tracks)


def test_the_rate_is_that_of_the_last_minute():
    pace = Pace()
    assert pace.rate(0.0, 0) is None
    for second in range(10, 301, 10):
        assert pace.rate(second, 10 * second) == pytest.approx(10.0)
    for second in range(310, 361, 10):
        rate = pace.rate(second, 3_000 + 20 * (second - 300))
    assert rate == pytest.approx(20.0, rel=0.2), "a minute later only the new speed counts"


def test_tasks_that_take_longer_than_a_minute_have_a_rate_all_the_same():
    pace = Pace()
    for second in range(0, 1_201):
        rate = pace.rate(second, 100 * (second // 400))
        if second >= 400:
            assert 100 / 800 <= rate <= 100 / 400


def test_receipts_add_up_and_tell_the_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("genre_spark.dataset.progress.time.monotonic", lambda: now[0])
    told = []
    tally = Tally(told.append)
    tally.set(tracks=100, to_compute=100)
    tally.add([])
    now[0] = 10.0
    tally.add([receipt(0, 20, {"AudioEmpty": 1}), receipt(1, 20)], TaskCounts(1, 2, 0))
    now[0] = 20.0
    tally.add([receipt(2, 40, {"AudioEmpty": 1, "AudioNotFound": 2})], TaskCounts(1, 3, 0))
    last = told[-1]
    assert (last.done, last.errors) == (80, {"AudioEmpty": 2, "AudioNotFound": 2})
    assert (last.core_s, last.audio_bytes, last.written_bytes, last.written_rows) == (40.0, 800, 300, 80)
    assert (last.tracks_per_s, last.left_s) == (pytest.approx(4.0), pytest.approx(5.0))
    assert last.tasks == TaskCounts(1, 3, 0)


def test_a_bar_tells_phase_count_rate_time_left_and_errors_by_kind():
    console = terminal(120)
    with extraction_shown(console) as show:
        show(HALFWAY)
    assert "extracting 400/800 tracks, 4/s, 0:01:40 left, 3 errors (2 AudioNotFound, 1 AudioUndecodable)" in plain(
        console
    )


@pytest.mark.parametrize("width", [40, 80])
def test_a_bar_keeps_to_one_line_of_a_narrow_terminal(width):
    console = terminal(width)
    with extraction_shown(console) as show:
        show(HALFWAY)
    bars = [line for line in re.split(r"[\r\n]", plain(console)) if "extracting" in line]
    assert bars
    assert all(len(line) <= width for line in bars)


def test_the_summary_on_a_terminal_has_tracks_errors_core_seconds_and_bytes():
    console = terminal()
    console.print(summary_table(HALFWAY))
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in plain(console).splitlines())
    assert rows["tracks"] == "1,000"
    assert rows["computed"] == "400"
    assert rows["errors"] == "3 errors (2 AudioNotFound, 1 AudioUndecodable)"
    assert rows["core-seconds"] == "80.0, 0.200 per track"
    assert (rows["read"], rows["written"]) == ("400.0 MB", "500.0 MB")
    assert rows["time"] == "0:01:40, 4 tracks/s"


def test_a_log_gets_a_line_at_once_and_then_one_a_minute(log, clock, monkeypatch):
    # No thread of its own: the test is the clock.
    monkeypatch.setattr(extraction, "_ticking", lambda shown: contextlib.nullcontext())
    with extraction_shown(Console(file=log)) as show:
        for second in range(0, 181):
            clock[0] = 1_000.0 + second
            show(HALFWAY)
            show.tick()
    lines = log.getvalue().splitlines()
    assert lines == [f"extract: {facts(HALFWAY)}"] * 4


def test_nothing_to_compute_leaves_no_line_of_progress_in_a_log(log):
    with extraction_shown(Console(file=log)) as show:
        show(Progress(tracks=3, up_to_date=3, phase="done"))
    assert log.getvalue() == ""


@pytest.mark.parametrize("console", [terminal(), Console(file=io.StringIO(), width=200)], ids=["terminal", "log"])
def test_a_job_that_fails_shows_its_summary(console):
    def fail():
        with extraction_shown(console) as show:
            show(HALFWAY)
            raise ExtractionFailed("too many errors")

    with pytest.raises(ExtractionFailed):
        fail()
    last = plain(console).splitlines()[-8:]
    assert any("3 errors (2 AudioNotFound, 1 AudioUndecodable)" in line for line in last)
    assert any("400.0 MB" in line for line in last)


def test_json_lines_are_added_to_the_file_and_end_with_done(tmp_path, log):
    file = tmp_path / "progress.jsonl"
    file.write_text('{"phase": "done"}\n')
    with extraction_shown(Console(file=log), progress_json=str(file), every_s=0.01, dataset="s3://b/d") as show:
        show(HALFWAY)
        deadline = time.monotonic() + 20
        while len(file.read_text().splitlines()) < 3:  # each is out before the next one
            assert time.monotonic() < deadline
            time.sleep(0.01)
        show(HALFWAY)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["done", *["extracting"] * (len(lines) - 2), "done"]
    line = lines[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line["time"])
    assert (line["dataset"], line["tracks"], line["to_compute"], line["done"]) == ("s3://b/d", 1_000, 800, 400)
    assert (line["errors"], line["tracks_per_s"], line["left_s"]) == (HALFWAY.errors, 4.0, 100.0)
    assert line["executorCpuTime"] == 80_000_000_000
    assert (line["bytesRead"], line["bytesWritten"]) == (400_000_000, 500_000_000)
    assert (line["recordsRead"], line["recordsWritten"]) == (400, 400)
    assert (line["numActiveTasks"], line["numCompletedTasks"], line["numFailedTasks"]) == (2, 5, 1)


def test_the_last_json_line_of_a_failure_says_why(tmp_path, log):
    file = tmp_path / "progress.jsonl"

    def fail():
        with extraction_shown(Console(file=log), progress_json=str(file)) as show:
            show(HALFWAY)
            raise ExtractionFailed("d: 3 of 4 tracks\nfailed")

    with pytest.raises(ExtractionFailed):
        fail()
    last = json.loads(file.read_text().splitlines()[-1])
    assert (last["phase"], last["error"], last["detail"]) == ("failed", "ExtractionFailed", "d: 3 of 4 tracks failed")
    assert last["left_s"] is None


def test_a_dash_is_standard_output(capsys, log):
    with extraction_shown(Console(file=log), progress_json="-") as show:
        show(HALFWAY)
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["phase"] == "done"


def test_a_file_that_cant_be_written_is_refused_before_anything_is_done(tmp_path, log):
    with (
        pytest.raises(SettingsError, match=r"--progress-json .*none/p\.jsonl: can't be written: No such file"),
        extraction_shown(Console(file=log), progress_json=str(tmp_path / "none" / "p.jsonl")),
    ):
        pytest.fail("the body ran")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_full_under_the_json_lines_costs_the_lines_and_not_the_job(capsys, log):
    with extraction_shown(Console(file=log), progress_json="/dev/full") as show:
        show(HALFWAY)
    assert "--progress-json /dev/full: no longer written: No space left" in capsys.readouterr().err


def test_a_real_extraction_tells_in_json_what_its_dataset_holds(spark, corpus, settings, tmp_path, log):
    file = tmp_path / "progress.jsonl"
    with extraction_shown(Console(file=log), progress_json=str(file), every_s=0.01) as show:
        dataset = extract(spark, read_tracks(corpus), resolve_specs(["mfcc"]), tmp_path / "d", settings,
                          on_progress=show)  # fmt: skip
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    last = lines[-1]
    rows = dataset.listed.to_pylist()
    assert (last["phase"], last["tracks"], last["done"], last["errors"]) == ("done", 24, 24, {"AudioUndecodable": 1})
    assert last["recordsWritten"] == sum(row["rows"] for row in rows) == 24
    assert last["bytesWritten"] == sum(row["bytes"] for row in rows)
    assert last["numCompletedTasks"] >= len([row for row in rows if row["table"] == "features"])
    assert last["numFailedTasks"] == last["numActiveTasks"] == 0
    done = [line["done"] for line in lines]
    assert done == sorted(done)
    assert 0 < last["executorCpuTime"] / 1e9 < 2 * last["wall_s"] + 1
    line = summary_line(show.last, dataset)
    assert line.startswith("23 of 24 tracks with mfcc -> ")
    assert "; 1 error (1 AudioUndecodable), see " in line
