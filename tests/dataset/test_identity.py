import os
from pathlib import Path

import pytest
import xxhash

from genre_spark.dataset.identity import content_hash, sizes_and_times
from genre_spark.errors import AudioError


def test_each_of_many_files_gets_its_own_size_and_time_and_what_is_no_file_gets_none(tmp_path):
    uris, wanted = [], []
    for number in range(1_300):  # more than are looked up at once
        path = tmp_path / f"{number} %ö.wav"
        uris.append(path.as_uri() if number % 2 else str(path))
        if number % 3:
            path.write_bytes(bytes(number))
            os.utime(path, ns=(0, 10**18 + number * 1_000))
            wanted.append((number, (10**18 + number * 1_000) / 1e9))
        else:
            wanted.append((None, None))
    sizes, times = sizes_and_times(uris)
    assert list(zip(sizes.to_pylist(), times.to_pylist(), strict=True)) == wanted


def test_odd_names_and_places_hide_no_other_file(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(b"123")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    odd.write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    uris = [
        *(path.as_uri() for path in (tmp_path, tmp_path / "pipe", tmp_path / "broken")),
        *("file:///a%00b", "\0", "x" * 5_000, "file://elsewhere/a.wav", "nothing-opens-this://a/b", "s3://"),
        *(odd.as_uri(), (tmp_path / "link").as_uri(), str(good)),
    ]
    sizes, times = sizes_and_times(uris)
    assert sizes.to_pylist() == [None] * 9 + [5, 3, 3]
    assert [time is None for time in times.to_pylist()] == [True] * 9 + [False] * 3
    assert sizes_and_times([])[0].to_pylist() == []


def test_two_changes_within_a_second_have_two_times(tmp_path):
    path = tmp_path / "a"
    path.touch()
    found = []
    for nanoseconds in (1_700_000_000_000_000_000, 1_700_000_000_000_001_000, 1_700_000_001_000_000_000):
        os.utime(path, ns=(0, nanoseconds))
        found += sizes_and_times([str(path)])[1].to_pylist()
    assert len(set(found)) == 3


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 3])
def test_the_hash_is_xxh3_of_all_bytes(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "a %.wav").write_bytes(content)
    assert content_hash((tmp_path / "a %.wav").as_uri()) == xxhash.xxh3_128_hexdigest(content)


def test_a_file_that_cannot_be_hashed_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav: "):
        content_hash((tmp_path / "gone.wav").as_uri())
