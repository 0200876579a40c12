import os
from pathlib import Path

import pytest

from genre_spark.errors import RunError
from genre_spark.files import complete_file, is_leftover, printable, replace_folder, staging_folder, visible


def test_a_file_appears_only_when_the_body_ended_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with complete_file(target, RunError) as partial:
        partial.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    with pytest.raises(TypeError), complete_file(target, RunError) as partial:
        partial.write_text(None)
    assert target.read_text() == "half"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("name", ["taken/file.txt", "folder"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").touch()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with (
        pytest.raises(RunError, match=f"{name}: can't be written"),
        complete_file(tmp_path / name, RunError) as partial,
    ):
        partial.write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "taken"]


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for text in ("first", "second"):
        with staging_folder(target, RunError) as staging:
            (staging / text).write_text(text)
            replace_folder(staging, target)
        assert [path.name for path in target.iterdir()] == [text]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_is_left_of_a_staging_folder_when_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(TypeError), staging_folder(tmp_path / "run", RunError) as staging:
        (staging / "big").write_text(None)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_error_that_names_the_place(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="run: can't be written: No space left on device"),
        staging_folder(tmp_path / "run", RunError),
    ):
        raise OSError(28, os.strerror(28))


def test_what_a_killed_process_leaves_behind_is_known_by_its_name(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "run", RunError) as staging:
        assert is_leftover(staging.name)
    for name in ("run", ".gitignore", ".run.partial", "a.0123abcd.partial"):
        assert not is_leftover(name)


def test_a_name_that_is_no_utf_8_can_be_printed() -> None:
    assert printable(os.fsdecode(b"caf\xe9.mp3")) == r"caf\udce9.mp3"
    assert printable(Path("Grüße")) == "Grüße"


def test_a_name_can_not_steer_a_terminal() -> None:
    assert visible("no\x1b[31mmusic\x9b2J\u202e") == r"no\x1b[31mmusic\x9b2J\u202e"
    assert visible("Grüße, 音楽 [live] - 1") == "Grüße, 音楽 [live] - 1"
