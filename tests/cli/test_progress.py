"""What a person sees of a long transfer: a bar on a terminal, lines in a log."""

import io

import pytest
from rich.console import Console

from genre_spark.cli import progress
from genre_spark.cli.progress import counted, transferred
from genre_spark.errors import DownloadError


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which only the test moves."""
    now = [1_000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute_with_rate_and_time_left(clock):
    log = io.StringIO()
    with transferred(Console(file=log)) as report:
        for second in range(0, 301):
            clock[0] = 1_000.0 + second
            report("fetching a.zip", 100_000_000 + second * 1_000_000, 400_000_000)
        report("checking a.zip", 400_000_000, 400_000_000)
    assert log.getvalue().splitlines() == [
        "fetching a.zip: 100.0 MB of 400.0 MB",
        *(
            f"fetching a.zip: {100 + 60 * minute}.0 MB of 400.0 MB, 1.0 MB/s, {5 - minute} min left"
            for minute in range(1, 5)
        ),
        "fetching a.zip: 400.0 MB done, 1.0 MB/s",
        "checking a.zip: 400.0 MB done",
    ]


def test_a_size_that_was_too_small_a_guess_fills_no_log(clock):
    log = io.StringIO()
    with transferred(Console(file=log)) as report:
        for done in range(0, 2_000, 10):
            report("fetching [a].zip", done, max(done, 1_000))
    assert log.getvalue().splitlines() == ["fetching [a].zip: 0 bytes of 1.0 kB", "fetching [a].zip: 1.0 kB done"]


def test_a_terminal_gets_a_bar():
    terminal = io.StringIO()
    with transferred(Console(file=terminal, force_terminal=True, width=80)) as report:
        report("fetching a.zip", 100, 200)
        report("fetching a.zip", 200, 200)
    assert "fetching a.zip" in terminal.getvalue()
    assert "200/200 bytes" in terminal.getvalue()


@pytest.mark.parametrize("force_terminal", [True, False])
def test_where_nothing_is_to_be_done_nothing_is_printed(force_terminal):
    output = io.StringIO()
    with transferred(Console(file=output, force_terminal=force_terminal)):
        pass
    assert output.getvalue() == ""


def test_after_an_error_no_bar_is_left(clock):
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)

    def fetch_in_vain():
        with transferred(console) as report:
            report("fetching a.zip", 100, 200)
            raise DownloadError("no")

    with pytest.raises(DownloadError):
        fetch_in_vain()
    erase_line = "\x1b[2K"
    assert terminal.getvalue().rpartition("fetching")[2].count(erase_line) == 1


def test_a_training_that_was_resumed_counts_from_where_it_was():
    log = io.StringIO()
    with counted(Console(file=log, width=120), "training dnn", 10, "epochs") as progress:
        progress.epoch({"epoch": 7, "accuracy": 0.5, "val_accuracy": 0.25})
    assert " 7/10 epochs " in log.getvalue()
    assert "accuracy 50%, validation 25%" in log.getvalue()
