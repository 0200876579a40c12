"""A function that crashes, hangs and eats memory over some items: each item gives one result or one error, in order."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genre_spark.dataset.isolation import IsolatedProcess
from genre_spark.errors import AudioCrashed, AudioError, AudioTimedOut, AudioTooLong, FeatureSpecError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only")

ARRAYS = {"melgram": np.random.default_rng(0).random((96, 1366), np.float32), "empty": np.empty((0, 3), np.int16)}


def work(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    what = item["what"]
    if what in signal.Signals.__members__:
        os.kill(os.getpid(), signal.Signals[what])
    if what == "read address 0":
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "sleep":
        time.sleep(60)
    if what == "take memory":
        return {"sum": float(np.ones(100_000_000).sum())}, {}
    if what == "too long":
        raise AudioTooLong("song.mp3: lasts an hour")
    if what == "other error":
        raise ZeroDivisionError("by 0\x7f")
    if what == "once":
        path = Path(item["path"])
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
    if what == "chatter":
        os.write(1, b"from C")
        os.write(2, b"from C")
        print("from Python", file=sys.stderr)
    return {"item": item, "process": os.getpid()}, ARRAYS


def item(what: str, **more: object) -> dict[str, Any]:
    return {"what": what, **more}


@pytest.fixture
def process() -> Iterator[IsolatedProcess]:
    with IsolatedProcess(work, timeout_s=0.5, max_memory_mb=300) as isolated:
        yield isolated


def children() -> list[str]:
    """Processes whose parent this one is, zombies too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == os.getpid():
                found.append(f"{folder.name} {status[0]}")
    return found


def outcome(process: IsolatedProcess, what: str) -> str:
    try:
        head, arrays = process.call(item(what), name=f"{what}.mp3")
    except AudioError as error:
        return f"{type(error).__name__}: {error}"
    assert head["item"] == item(what)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    return "well"


def test_every_item_gives_one_result_or_one_error_in_order(process: IsolatedProcess) -> None:
    before = children()
    wanted = {
        "good": "well",
        "SIGSEGV": "AudioCrashed: SIGSEGV.mp3: the process that reads it died of SIGSEGV, twice",
        "good 2": "well",
        "read address 0": "AudioCrashed: read address 0.mp3: the process that reads it died of SIGSEGV, twice",
        "SIGABRT": "AudioCrashed: SIGABRT.mp3: the process that reads it died of SIGABRT, twice",
        "SIGKILL": "AudioCrashed: SIGKILL.mp3: the process that reads it died of SIGKILL (perhaps for want of memory)",
        "exit": "AudioCrashed: exit.mp3: the process that reads it ended with status 3, twice",
        "too long": "AudioTooLong: song.mp3: lasts an hour",
        "sleep": "AudioTimedOut: sleep.mp3: not done within audio.max_decode_s=0.5, twice",
        "good 3": "well",
        "take memory": "AudioCrashed: take memory.mp3: takes more memory than there is (audio.max_memory_mb=300), twi",
        "other error": "AudioError: other error.mp3: ZeroDivisionError: by 0\x7f",
        "good 4": "well",
    }
    for what, answer in wanted.items():
        found = outcome(process, what)
        assert found.startswith(answer), (what, found)
        assert "\n" not in found
    assert len(children()) == len(before)


def test_no_process_is_left() -> None:
    before = children()
    with IsolatedProcess(work, timeout_s=0.3) as process:
        for what in ("SIGSEGV", "sleep", "good"):
            outcome(process, what)
        assert len(children()) == len(before) + 1
    assert children() == before
    with pytest.raises(KeyError), IsolatedProcess(work, timeout_s=0.3):
        raise KeyError
    assert children() == before


def test_an_item_that_fails_once_is_done_in_a_fresh_process(process: IsolatedProcess, tmp_path: Path) -> None:
    first = process.call(item("good"), name="good.mp3")[0]["process"]
    head, _ = process.call(item("once", path=str(tmp_path / "tried")), name="once.mp3")
    assert (tmp_path / "tried").exists()
    assert head["process"] != first
    assert process.call(item("good"), name="good.mp3")[0]["process"] == head["process"]


def test_a_child_that_was_killed_between_two_items_costs_nothing(process: IsolatedProcess) -> None:
    os.kill(process.call(item("good"), name="good.mp3")[0]["process"], signal.SIGKILL)
    assert outcome(process, "good") == "well"


def test_an_hanging_item_is_given_up_after_two_times_its_time(tmp_path: Path) -> None:
    timeout_s, begun, ended = 0.5, tmp_path / "begun", tmp_path / "ended"

    def hang(content: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        with begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(6 * timeout_s)
        ended.touch()
        return {}, {}

    started = time.monotonic()
    with IsolatedProcess(hang, timeout_s=timeout_s) as process, pytest.raises(AudioTimedOut):
        process.call("", name="sleep.mp3")
    took = time.monotonic() - started
    assert len(begun.read_text().split()) == len(set(begun.read_text().split())) == 2
    assert took >= 2 * timeout_s
    # Neither came near the end of its sleep.
    assert not ended.exists()


def test_errors_of_ours_come_back_as_themselves() -> None:
    def refuse(content: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        raise FeatureSpecError(f"{content}: caf\udce9 is no feature")

    with IsolatedProcess(refuse, timeout_s=5) as process, pytest.raises(FeatureSpecError) as caught:
        process.call("a\udce9", name="a.mp3")
    assert str(caught.value) == "a\udce9: caf\udce9 is no feature"


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.5) * np.ones(()), np.zeros((0,)), np.arange(24, dtype=np.int16).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(20)[::3], np.array([True, False]),
        np.array([np.nan, np.inf, -0.0, 1e-45], np.float32), np.ones(3, np.complex64), np.zeros(5_000_000, np.float32),
    ],
    ids=str,
)  # fmt: skip
def test_arrays_of_any_shape_come_back_bit_for_bit(array: np.ndarray) -> None:
    with IsolatedProcess(lambda content: (content, {"x": array}), timeout_s=5) as process:
        head, arrays = process.call({"a": [1, None, "ö\0", -np.inf]}, name="a.mp3")
    assert head == {"a": [1, None, "ö\0", -np.inf]}
    assert arrays["x"].dtype == array.dtype
    assert arrays["x"].shape == array.shape
    assert arrays["x"].tobytes() == array.tobytes()


def test_an_answer_that_makes_no_sense_is_a_crash() -> None:
    def spoilt(content: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        # What wild writes may do to a process: it answers with bytes of its own.
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.readlink().name.startswith("socket:"):
                    os.write(int(entry.name), b"\xff" * 64)
        time.sleep(60)
        return {}, {}

    with IsolatedProcess(spoilt, timeout_s=5) as process, pytest.raises(AudioCrashed, match="answered nonsense"):
        process.call("a", name="a.mp3")


def test_what_c_code_says_stays_in_the_child(capfd: pytest.CaptureFixture[str]) -> None:
    with IsolatedProcess(work, timeout_s=5) as process:
        outcome(process, "chatter")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "from Python\n")


def test_the_child_holds_nothing_that_its_parent_has_open(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()

    def look(content: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"open": [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]}, {}

    with (tmp_path / "half written").open("w") as file:
        file.write("not yet flushed")
        with IsolatedProcess(look, timeout_s=5) as process:
            head, _ = process.call("", name="a.mp3")
            os.close(write_end)
            # Nobody else holds the other end.
            assert os.read(read_end, 1) == b""
        assert (tmp_path / "half written").read_text() == ""
    assert (tmp_path / "half written").read_text() == "not yet flushed"
    assert not [name for name in head["open"] if "half written" in name or name.startswith("pipe:[")][1:]
    os.close(read_end)


PARENT = """
import os, sys, time
from genre_spark.dataset.isolation import IsolatedProcess

def work(item):
    if item == "hang":
        print(os.getpid(), flush=True, file=sys.stderr)
        time.sleep(60)
    return {"process": os.getpid()}, {}

with IsolatedProcess(work, timeout_s=60) as process:
    head, _ = process.call("", name="a")
    if sys.argv[1] == "busy":
        process.call("hang", name="a")
    print(head["process"], flush=True, file=sys.stderr)
    time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent(state: str, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    child = int(parent.stderr.readline())
    assert Path(f"/proc/{child}").exists()
    parent.send_signal(number)
    parent.wait(10)
    deadline = time.monotonic() + 60
    # Whoever adopts orphans may let them be zombies for a while.
    while (state_of := alive(child)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not state_of
    parent.stderr.close()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_where_fork_is_not_safe_the_function_is_called_directly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("genre_spark.dataset.isolation._CAN_FORK", False)
    with IsolatedProcess(work, timeout_s=1) as process:
        assert process.call(item("good"), name="good.mp3")[0]["process"] == os.getpid()
        with pytest.raises(AudioTooLong):
            process.call(item("too long"), name="long.mp3")
    assert "has no safe fork" in caplog.text


def test_a_forked_worker_has_a_child_of_its_own() -> None:
    # As pyspark's daemon does.
    with IsolatedProcess(work, timeout_s=5) as outer:
        outer.call(item("good"), name="a.mp3")
        worker = os.fork()
        if worker == 0:
            status = 1
            with contextlib.suppress(BaseException):
                with IsolatedProcess(work, timeout_s=5) as inner:
                    results = [outcome(inner, what) for what in ("good", "SIGSEGV", "good 2")]
                status = 0 if results[0] == results[2] == "well" and "SIGSEGV" in results[1] else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
        assert outcome(outer, "good") == "well"


def test_an_answer_costs_little_more_than_copying_it() -> None:
    arrays = {"mfcc": np.ones((80, 2_584), np.float32), "melgram": np.ones((96, 1_366), np.float32)}
    ours, theirs = socket.socketpair()
    copier = os.fork()
    if copier == 0:  # answers with the same bytes, and does nothing else
        with contextlib.suppress(BaseException):
            ours.close()
            while theirs.recv(1):
                for array in arrays.values():
                    theirs.sendall(array)
        os._exit(0)
    theirs.close()

    def copied() -> None:
        ours.sendall(b"?")
        for array in arrays.values():
            left = memoryview(np.empty_like(array)).cast("B")
            while left:
                left = left[ours.recv_into(left) :]

    def seconds(call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    with IsolatedProcess(lambda content: ({}, arrays), timeout_s=5) as process:
        pairs = [(seconds(lambda: process.call("", name="a.mp3")), seconds(copied)) for _ in range(100)]
    ours.close()
    os.waitpid(copier, 0)
    answering, copying = np.median(pairs, axis=0)
    # 1.5 times where nothing else runs.
    assert answering < 10 * copying
