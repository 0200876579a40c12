"""Leases: of real processes that want one dataset, one is in."""

# ruff: noqa: F811 (a fixture and the arguments that ask for it have one name)

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from genre_spark.dataset.lease import LOCK, leased
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
from tests.s3_server import BUCKET, s3, s3_server  # noqa: F401


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Folder(f"s3://{BUCKET}/data", DatasetError)
    return Folder(tmp_path / "data", DatasetError)


def leases(folder):
    return [name for name in (file.name for file in folder.files(LOCK)) if name.endswith(".json")]


HOLDER = """
import sys, time
from genre_spark.dataset.lease import leased
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
with leased(Folder(sys.argv[1], DatasetError), beat_s=float(sys.argv[2])) as lease:
    print("in", flush=True)
    sys.stdin.readline()
    try:
        lease.check()
        print("still in", flush=True)
    except DatasetError as error:
        print(error, flush=True)
"""


@pytest.fixture
def start_holder():
    started = []

    def start(folder, beat_s):
        command = [sys.executable, "-c", HOLDER, folder.address, str(beat_s)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "in\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_one_is_in_and_the_next_one_after_it(folder):
    for _ in range(2):
        with leased(folder) as lease:
            lease.check()
            assert len(leases(folder)) == 1
            for _ in range(2):
                with pytest.raises(DatasetError), leased(folder):
                    pass
            lease.check()
        assert folder.files() == []
    with pytest.raises(KeyboardInterrupt), leased(folder):
        raise KeyboardInterrupt
    assert folder.files() == []
    assert "dataset-lease" not in [thread.name for thread in threading.enumerate()]


def test_who_is_refused_learns_by_whom_and_what_to_do(folder, start_holder):
    holder = start_holder(folder, 10)
    with pytest.raises(DatasetError) as caught, leased(folder):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder}: ")
    assert f"process {holder.pid} on {os.uname().nodename}) works on it; wait" in message
    assert message.endswith(f"remove {folder}/{leases(folder)[0]}")
    assert "extract.wait_s" in message


def test_the_holder_s_words_are_made_harmless(folder):
    with leased(folder):
        name = leases(folder)[0]
        said = json.loads(folder.read(name))
        said["user"] = "a\nb\x1b[31m" + "c" * 1000
        folder.write(name, json.dumps(said).encode())
        with pytest.raises(DatasetError) as caught, leased(folder):
            pass
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_killed_holder_of_this_machine_is_taken_over_at_once(folder, start_holder, caplog):
    holder = start_holder(folder, 10)
    holder.kill()
    holder.wait()
    left = leases(folder)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), leased(folder) as lease:
        lease.check()
        assert len(leases(folder)) == 1
        assert leases(folder) != left
    assert time.monotonic() - started < 2
    assert f"process {holder.pid}" in caplog.text
    assert left[0] in caplog.text
    assert folder.files() == []


def test_a_frozen_holder_is_taken_over_after_three_beats_and_notices(folder, start_holder):
    beat_s = 0.2
    holder = start_holder(folder, beat_s)
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)  # until it has stopped
    started = time.monotonic()
    with leased(folder, beat_s=beat_s) as lease:
        assert 3 * beat_s <= time.monotonic() - started < 10
        holder.send_signal(signal.SIGCONT)
        time.sleep(2 * beat_s)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == (
            f"{folder}: another job took this one for dead and may write here now; "
            "nothing more is written: start it again\n"
        )
        holder.wait()
        lease.check()
    assert folder.files() == []


def of_another_machine(folder, job="0" * 32, beat_s=0.2):
    said = {"job": job, "host": "elsewhere", "pid": 1, "boot_id": "x", "process_start": "1", "user": "mia"}
    said |= {"command": "genre-spark extract", "since": "2020-01-01", "beat_s": beat_s}
    folder.write(f"{LOCK}/{job}.json", json.dumps(said).encode())
    folder.write(f"{LOCK}/{job}.beat", b"7")


def test_a_holder_elsewhere_lives_as_long_as_its_beat_changes_whatever_the_clocks_say(folder, monkeypatch):
    of_another_machine(folder)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.1):
            folder.write(f"{LOCK}/{'0' * 32}.beat", os.urandom(4).hex().encode())

    thread = threading.Thread(target=beat)
    thread.start()
    monkeypatch.setattr(time, "time", lambda: 4e9)  # the year 2096
    with pytest.raises(DatasetError, match="mia since 2020-01-01"), leased(folder, wait_s=0.5, beat_s=0.2):
        pass
    ended.set()
    thread.join()
    started = time.monotonic()
    with leased(folder, beat_s=0.2):
        assert time.monotonic() - started >= 0.6
    assert folder.files() == []


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"job": 1}', b"\xff"])
def test_a_lease_that_says_nothing_is_watched_too(tmp_path, content):
    folder = Folder(tmp_path, DatasetError)
    folder.write(f"{LOCK}/x.json", content)
    with leased(folder, beat_s=0.05):
        assert len(leases(folder)) == 1


def test_who_waits_goes_in_when_the_holder_ends(folder, start_holder):
    holder = start_holder(folder, 1)
    timer = threading.Timer(0.3, lambda: holder.communicate("\n"))
    timer.start()
    started = time.monotonic()
    with leased(folder, wait_s=20, beat_s=0.5):
        assert 0.2 < time.monotonic() - started < 10
    timer.join()


def test_a_removed_lease_is_noticed(folder):
    with leased(folder, beat_s=0.05) as lease:
        folder.delete(leases(folder))
        time.sleep(0.2)
        for _ in range(2):
            with pytest.raises(DatasetError, match="took this one for dead"):
                lease.check()
    assert folder.files() == []


def test_a_beat_that_fails_is_logged_and_tried_again(s3, monkeypatch, caplog):
    folder = Folder(f"s3://{BUCKET}/data", DatasetError)
    with leased(folder, beat_s=0.1) as lease:
        write = Folder.write
        refused = iter(range(2))

        def failing(self, name, content):
            if next(refused, None) is not None:
                raise DatasetError(f"{name}: can't be written: no network")
            write(self, name, content)

        monkeypatch.setattr(Folder, "write", failing)
        before = folder.read(f"{LOCK}/{lease._job}.beat")
        deadline = time.monotonic() + 5
        while folder.read(f"{LOCK}/{lease._job}.beat") == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert folder.read(f"{LOCK}/{lease._job}.beat") != before
        assert caplog.text.count("no network; tried again in 0.1 s") == 2
        lease.check()


RACER = """
import sys, os, time
from pathlib import Path
from genre_spark.dataset.lease import leased
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
inside, rounds = Path(sys.argv[2]), int(sys.argv[3])
Folder(sys.argv[1], DatasetError).exists()
print("ready", flush=True)
for line in range(rounds):
    sys.stdin.readline()
    try:
        with leased(Folder(sys.argv[1], DatasetError), beat_s=5):
            handle = os.open(inside, os.O_CREAT | os.O_EXCL)  # fails if another one is in
            time.sleep(0.02)
            os.close(handle)
            inside.unlink()
        print("in", flush=True)
    except DatasetError as error:
        # What moto answers when an object goes while it is read.
        print("refused" if "INTERNAL_FAILURE" not in str(error) else "failed", flush=True)
"""


def test_of_two_that_race_never_both_are_in(folder, tmp_path):
    rounds = 50 if folder.local else 5
    command = [sys.executable, "-c", RACER, folder.address, str(tmp_path / "inside"), str(rounds)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    refused = 0
    for _ in range(rounds):
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        ends = [racer.stdout.readline() for racer in racers]
        assert set(ends) <= {"in\n", "refused\n", "failed\n"}
        assert {"in\n", "failed\n"} & set(ends)  # one of them always gets it
        refused += ends.count("refused\n")
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0
    assert refused > rounds / 2
    assert folder.files() == []
