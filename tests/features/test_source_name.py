"""What a file is called in messages."""

from pathlib import Path

import pytest

from genre_spark.features.source_name import source_name


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/music/a b%20c.mp3", "/music/a b%20c.mp3"),
        (Path("/music/\u97f3.mp3"), "/music/\u97f3.mp3"),
        (Path("/music/100%25 ?#.mp3").as_uri(), "/music/100%25 ?#.mp3"),
        ("file://localhost/music/a%20b.mp3", "/music/a b.mp3"),
        ("file:///music/caf%E9.mp3", "/music/caf\\udce9.mp3"),
        ("s3://bucket/a%20b.mp3", "s3://bucket/a%20b.mp3"),
        ("https://me:secret@host/a.mp3?token=x", "https://***@host/a.mp3"),
        ("file://another/a.mp3", "file://another/a.mp3"),
    ],
)
def test_a_file_of_this_machine_is_its_path_and_another_its_address_without_secrets(uri: str | Path, name: str) -> None:
    assert source_name(uri) == name


def test_what_no_file_can_be_called_has_a_name_all_the_same() -> None:
    assert source_name(Path("/music/a\0b")) == "/music/a\0b"
    assert source_name("file:///music/a.mp3?version=2") == "file:///music/a.mp3?version=2"
