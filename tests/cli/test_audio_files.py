import os
from pathlib import Path

import pytest

from genre_spark.cli.audio_files import audio_files
from genre_spark.errors import AudioNotFound

NAMES = (
    "b.mp3", "a/2.WAV", "a/10.flac", "a/cover.jpg", "a/deep/er/1.ogg", "a/.hidden.mp3", "a/.trash/x.mp3",
    "live [1999]/1.mp3", "live [1999]/2.mp3", "texts/readme.txt", "what?*.mp3", "song [live].mp3",
)  # fmt: skip


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "music"


def found(*arguments: str) -> list[str]:
    return [str(file) for file in audio_files(arguments)]


def test_files_are_themselves_in_their_order_whether_they_exist_or_not(library: Path) -> None:
    assert found("music/b.mp3", "nowhere.mp3", "music/a/cover.jpg", "music/b.mp3") == [
        "music/b.mp3", "nowhere.mp3", "music/a/cover.jpg", "music/b.mp3",
    ]  # fmt: skip
    assert audio_files([library.joinpath("b.mp3").as_uri()]) == [library / "b.mp3"]
    assert found("s3://bucket/a*.mp3") == ["s3://bucket/a*.mp3"]


def test_a_folder_is_all_visible_audio_below_it_sorted(library: Path) -> None:
    assert found("music") == [
        "music/a/10.flac", "music/a/2.WAV", "music/a/deep/er/1.ogg", "music/b.mp3", "music/live [1999]/1.mp3",
        "music/live [1999]/2.mp3", "music/song [live].mp3", "music/what?*.mp3",
    ]  # fmt: skip
    assert found("music/live [1999]/") == ["music/live [1999]/1.mp3", "music/live [1999]/2.mp3"]


def test_links_are_followed_to_files_but_not_to_folders_which_may_lead_in_a_circle(library: Path) -> None:
    (library / "a" / "again").symlink_to(library)
    (library / "a" / "and").symlink_to(library / "a")
    (library / "a" / "link.mp3").symlink_to(library / "b.mp3")
    assert found("music/a") == ["music/a/10.flac", "music/a/2.WAV", "music/a/deep/er/1.ogg", "music/a/link.mp3"]
    assert found("music/a/[al]*") == ["music/a/link.mp3"]
    assert found("music/**/[12].*") == [
        "music/a/2.WAV", "music/a/deep/er/1.ogg", "music/live [1999]/1.mp3", "music/live [1999]/2.mp3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("music/*.mp3", ["b.mp3", "song [live].mp3", "what?*.mp3"]),
        ("music/a/**/*", ["a/10.flac", "a/2.WAV", "a/deep/er/1.ogg"]),
        ("music/a/??.*", ["a/10.flac"]),
        ("music/*/deep", ["a/deep/er/1.ogg"]),
        ("music/live [1999]/*.mp3", ["live [1999]/1.mp3", "live [1999]/2.mp3"]),
        ("music/a/../b*", ["b.mp3"]),
        ("music/a*/../b*", ["b.mp3"]),
        ("music/a/**", ["a/10.flac", "a/2.WAV", "a/deep/er/1.ogg"]),
    ],
)
def test_a_pattern_is_the_audio_that_it_matches_and_that_below_folders_that_it_matches(
    pattern: str, names: list[str], library: Path
) -> None:
    assert [os.path.normpath(path) for path in found(pattern)] == [f"music/{name}" for name in names]
    if "/.." not in pattern:
        assert found(f"{library.parent}/{pattern}") == [str(library / name) for name in names]


def test_a_folder_below_a_folder_that_a_pattern_names_is_walked_once(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[str] = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top, **options: walked.append(str(top)) or walk(top, **options))
    assert len(found("music/**")) == len(found("music"))
    assert walked == ["music", "music"]


def test_what_exists_is_no_pattern(library: Path) -> None:
    assert found("music/what?*.mp3") == ["music/what?*.mp3"]
    assert found("music/song [live].mp3") == ["music/song [live].mp3"]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("music/texts", "music/texts: no audio in this folder; looked for .aac"),
        ("music/**/*.txt", r"music/\*\*/\*.txt: no such file, and as a pattern it matches no audio"),
        ("nowhere/*.mp3", r"nowhere/\*.mp3: no such file, and as a pattern"),
        ("music/a**.mp3", r"music/a\*\*.mp3: no"),
        ("file:///music/a.mp3?x", "holds \\? or #"),
    ],
)
def test_a_folder_or_pattern_without_audio_is_a_named_error(argument: str, reason: str, library: Path) -> None:
    with pytest.raises(AudioNotFound, match=reason):
        audio_files(["music/b.mp3", argument])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_can_not_be_listed_is_a_named_error(library: Path) -> None:
    (library / "a").chmod(0)
    try:
        with pytest.raises(AudioNotFound, match=r"music/a: can't be listed: Permission denied"):
            audio_files(["music"])
    finally:
        (library / "a").chmod(0o755)
