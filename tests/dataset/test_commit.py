"""A job that dies at any step leaves the dataset as it was, or as it shall be; the next one goes on from there."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.tracks import write_tracks
from genre_spark.dataset import assembly
from genre_spark.dataset.commit import JOURNAL, WORK, finish_commits
from genre_spark.dataset.extract import extract
from genre_spark.dataset.store import open_dataset
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
from genre_spark.settings import load_settings
from tests.dataset.library import SEGMENTED, SPECS, Library, assert_sound, content

REPOSITORY = Path(__file__).parents[2]
SETTINGS = ["extract.min_file_mb=1", "extract.tracks_per_row_group=3", "extract.max_error_fraction=1"]


class Killed(BaseException):
    """Stands for a job's end: nothing catches it."""


def unneeded():
    raise AssertionError("asked for Spark where there is nothing to compute")


def kill_before_commit(monkeypatch, *arguments, **options):
    def die(*_arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "commit", die)
        with pytest.raises(Killed):
            extract(*arguments, **options)


def python(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# All that is computed lies in `_work`, so none of these processes needs Spark. A child dies before its step number
# `at`, where a step is whatever changes a name below the dataset; what a child wrote into files that have no name yet
# is lost, as it is in a power cut.
CRASHES = """
import json, os, shutil, sys
from pathlib import Path
from genre_spark.dataset.commit import finish_commits
from genre_spark.dataset.extract import extract
from genre_spark.dataset.store import open_dataset
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
from genre_spark.settings import load_settings
from tests.dataset.library import SEGMENTED, SPECS, assert_sound, content

template, table, place = map(Path, sys.argv[1:4])
specs, stride = {"whole": SPECS, "segmented": SEGMENTED}[sys.argv[4]], int(sys.argv[5])
settings, options = load_settings([], json.loads(sys.argv[6])), json.loads(sys.argv[7])

def no_spark():
    raise AssertionError("something is computed again")

def go_on(data):
    told = []
    dataset = extract(no_spark, table, specs, data, settings, on_progress=told.append, **options)
    assert told[-1].done == 0
    return dataset

def seen(data):
    try:
        return content(open_dataset(data))
    except DatasetError as error:
        assert "no dataset" in str(error), error
        return None

def steps_of_child(data, at):
    '''How many steps there were; None if the child died at the one.'''
    pid = os.fork()
    if pid == 0:
        count = 0

        def step(*_):
            nonlocal count
            count += 1
            if count == at:
                os._exit(99)

        def audit(event, arguments):
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                step()

        for name in ("_move", "_delete"):
            def wrapped(self, item, original=getattr(Folder, name)):
                step()
                original(self, item)
            setattr(Folder, name, wrapped)
        sys.addaudithook(audit)
        status = 98
        try:
            go_on(data)
            (place / "steps").write_text(str(count))
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 99), status
    return int((place / "steps").read_text()) if status == 0 else None

def fresh(name):
    return Path(shutil.copytree(template, place / name))

before = seen(template)
data = fresh("whole")
count = steps_of_child(data, 0)
after = seen(data)
assert after is not None and after != before
moment = "before"
for at in range(1, count + 1, stride):
    data = fresh(str(at))
    if steps_of_child(data, at) is not None:
        break  # the lease's own steps are not always as many
    now = seen(data)
    if now == after:
        moment = "after"
    else:
        assert (now, moment) == (before, "before"), at
    overwrite = options.pop("overwrite", False)  # which would compute all anew where it is done
    if at % 3 == 0:  # the job that carries it out dies, too
        options["overwrite"] = overwrite and now != after
        steps_of_child(data, 1 + at * 7 % count)
        assert seen(data) == after or (seen(data) == before and moment == "before"), at
    finish_commits(Folder(data, DatasetError))
    options["overwrite"] = overwrite and seen(data) != after
    dataset = go_on(data)
    options["overwrite"] = overwrite
    assert content(dataset) == after, at
    assert_sound(dataset, 3)
    shutil.rmtree(data)
assert moment == "after"
print(count)
"""


@pytest.mark.parametrize(
    ("scenario", "stride"),
    [
        ("increment", 5),
        ("first", 9),
        ("overwrite", 9),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("increment", "first", "overwrite")),
    ],
)
def test_a_job_that_dies_at_any_step_leaves_one_state_or_the_other_and_nothing_is_computed_again(
    spark, tmp_path, monkeypatch, scenario, stride
):
    library, data = Library(tmp_path / "library", tracks=5), tmp_path / "template"
    settings, options, kind = load_settings([], SETTINGS), {}, "whole"
    if scenario != "first":
        extract(spark, library.table(), SPECS, data, settings)
        first, second, third, *_ = library.rows
        library.change(first)
        library.move(second)
        del library.rows[third]
        library.add()
        options["prune"] = True
    library.spoil(library.add())
    if scenario == "overwrite":
        options, kind = {"overwrite": True}, "segmented"
    write_tracks(library.table(), tmp_path / "tracks.parquet")
    specs = SEGMENTED if kind == "segmented" else SPECS
    kill_before_commit(monkeypatch, spark, tmp_path / "tracks.parquet", specs, data, settings, **options)
    assert (data / WORK).is_dir()
    place = tmp_path / "place"
    place.mkdir()
    arguments = [data, tmp_path / "tracks.parquet", place, kind, stride, json.dumps(SETTINGS), json.dumps(options)]
    process = python(CRASHES, *arguments)
    out, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors[-3_000:]
    assert int(out) > 15, "there are steps at which it can die"


def runs(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


DRIVER = """
import sys
from pathlib import Path
from genre_spark.dataset.extract import extract
from genre_spark.settings import load_settings
from genre_spark.spark import build_session
from tests.dataset.library import SPECS

settings = load_settings([], ["spark.master=local[2]", "spark.driver_memory=1g", "extract.tracks_per_task=4"])
extract(build_session(settings.spark, "killed"), Path(sys.argv[1]), SPECS, sys.argv[2], settings)
"""


def test_what_a_killed_driver_had_computed_is_taken_over_and_no_one_else_is_let_in_before(spark, tmp_path):
    library = Library(tmp_path / "library", tracks=16)
    held = library.path("track 007 ö")
    held.unlink()
    os.mkfifo(held)  # whoever reads it waits for ever
    write_tracks(library.table(), tmp_path / "tracks.parquet")
    data = tmp_path / "data"
    driver = python(DRIVER, tmp_path / "tracks.parquet", data)
    try:
        deadline = time.monotonic() + 120
        while len(list((data / WORK).glob("*/features/[0-9]*.parquet"))) < 3:
            assert driver.poll() is None, driver.stderr.read()[-3_000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(DatasetError, match=rf"data: .*process {driver.pid} on"):
            extract(unneeded, library.table(), SPECS, data, load_settings([], []))
        driver.kill()
        driver.wait(30)
        while runs(driver.pid):
            assert time.monotonic() < deadline, "Java and the workers end with their driver"
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    left = sum(pq.read_metadata(file).num_rows for file in (data / WORK).glob("*/features/[0-9]*.parquet"))
    with pytest.raises(DatasetError, match="no dataset"):
        open_dataset(data)
    held.unlink()
    library.change("track 007 ö")
    told = []
    dataset = extract(spark, library.table(), SPECS, data, load_settings([], SETTINGS), on_progress=told.append)
    assert (told[-1].salvaged, told[-1].done) == (left, 16 - left)
    assert left >= 3
    assert content(dataset) == library.content()
    assert_sound(dataset, 16)


def test_a_file_that_broke_off_is_no_data_and_its_tracks_are_computed_anew(spark, tmp_path, monkeypatch):
    library, data = Library(tmp_path / "library", tracks=6), tmp_path / "data"
    settings = load_settings([], ["extract.tracks_per_task=2"])
    kill_before_commit(monkeypatch, spark, library.table(), SPECS, data, settings)
    cut, *_ = sorted((data / WORK).glob("*/features/0*.parquet"))
    cut.write_bytes(cut.read_bytes()[:-9])
    told = []
    dataset = extract(spark, library.table(), SPECS, data, settings, on_progress=told.append)
    assert (told[-1].salvaged, told[-1].done) == (4, 2)
    assert content(dataset) == library.content()


def test_what_a_job_of_other_specs_or_settings_left_is_not_taken_over(spark, tmp_path, monkeypatch):
    library, data = Library(tmp_path / "library", tracks=2), tmp_path / "data"
    settings = load_settings([], [])
    kill_before_commit(monkeypatch, spark, library.table(), SPECS, data, settings)
    other = load_settings([], ["audio.max_duration_s=9"])
    told = []
    dataset = extract(spark, library.table(), SPECS, data, other, on_progress=told.append)
    assert (told[-1].salvaged, told[-1].done) == (0, 2)
    assert dataset.manifest.audio["max_duration_s"] == 9


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (
            lambda journal: json.dumps(journal | {"manifest": {"format_version": 99}}),
            "format_version=99, .*; install a newer genre_spark$",
        ),
        (lambda journal: json.dumps(journal)[:50], "can't be read"),
        (lambda journal: "[]", "can't be read"),
    ],
)
def test_a_commit_that_cannot_be_understood_is_named_and_nothing_is_moved(spark, tmp_path, monkeypatch, spoil, named):
    library, data = Library(tmp_path / "library", tracks=2), tmp_path / "data"
    settings = load_settings([], [])
    with monkeypatch.context() as patch:

        def die(*_arguments):
            raise Killed

        patch.setattr("genre_spark.dataset.commit._carry_out", die)
        with pytest.raises(Killed):
            extract(spark, library.table(), SPECS, data, settings)
    (journal,) = data.glob(f"{WORK}/*/{JOURNAL}")
    whole = journal.read_text()
    journal.write_text(spoil(json.loads(whole)))
    before = sorted(data.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match=rf"_work/\w+/{JOURNAL}: {named}"):
            extract(unneeded, library.table(), SPECS, data, settings, overwrite=overwrite)
    assert sorted(path for path in data.rglob("*")) == before
    journal.write_text(whole)
    finish_commits(Folder(data, DatasetError))
    assert content(open_dataset(data)) == library.content()


def test_a_full_disk_is_named_and_the_dataset_is_as_it_was(spark, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        library, settings = Library(tmp_path / "library", tracks=2), load_settings([], [])
        before = content(extract(spark, library.table(), SPECS, disk / "data", settings))
        library.add()
        for left in (0, 9_000, 20_000):  # what there is room for
            filler = disk / "filler"
            free = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(free - left))
            with pytest.raises(DatasetError, match=r"No space left on device") as caught:
                extract(spark, library.table(), SPECS, disk / "data", settings)
            assert str(disk) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert content(open_dataset(disk / "data")) == before
            filler.unlink()
        assert content(extract(spark, library.table(), SPECS, disk / "data", settings)) == library.content()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
