"""Folders that somebody unpacked by hand: taken when the list that came with them says that all is there."""

import json
import logging

import pytest

from genre_spark.corpora.download import download_fma

CLIP = "fma_small/002/002002.mp3"


@pytest.fixture
def root(published, tmp_path):
    """A corpus as `unzip` leaves it, its zips thrown away."""
    for name, content in published.files.items():
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "music" / "fma_metadata" / "not_found.pickle").write_bytes(b"whatever stands here")
    return tmp_path / "music"


@pytest.fixture
def download(published, site, root):
    """Complete the corpus; return the names that the server was asked for, and the plan."""

    def run():
        del site.requests[:]
        plans = []
        download_fma(root, "small", base_url=site.url, archives=published.archives, on_plan=plans.append)
        for name, content in published.files.items():
            assert (root / name).read_bytes() == content
        return [request.name for request in site.requests], plans[0]

    return run


def test_a_whole_corpus_is_checked_and_not_fetched(download, root, caplog):
    with caplog.at_level(logging.WARNING):
        names, plan = download()
    assert (names, plan.needed_bytes) == ([], 0)
    assert not caplog.messages
    record = json.loads((root / "fma_small" / ".unpacked.json").read_text())
    assert record["sizes"]["002/002002.mp3"] == (root / CLIP).stat().st_size
    # From now on it is one like any other: its files are not read again.
    (root / "fma_small" / "checksums").unlink()
    assert download()[0] == ["fma_small.zip"]


def test_progress_of_the_check_grows_to_its_end(published, site, root):
    seen = []
    download_fma(
        root,
        "small",
        base_url=site.url,
        archives=published.archives,
        on_progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert {what for what, _, _ in seen} == {"checking fma_metadata", "checking fma_small"}
    clips = [(done, total) for what, done, total in seen if what == "checking fma_small"]
    assert clips == sorted(clips)
    listed = [len(content) for name, content in published.files.items() if name.startswith("fma_small/0")]
    assert clips[-1] == (sum(listed), sum(listed))


def test_a_missing_file_is_said_before_the_zip_is_fetched(download, root, caplog):
    (root / CLIP).unlink()
    with caplog.at_level(logging.WARNING):
        names, plan = download()
    assert names == ["fma_small.zip"]
    assert caplog.messages == [
        f"{root}/fma_small: lacks 1 of 12 files, such as 002/002002.mp3; fma_small.zip is needed to complete it"
    ]
    # What is there need not be unpacked again.
    assert plan.unpack_bytes < 2 * 30_010


def test_a_damaged_file_of_the_right_size_is_found_and_repaired(download, root, caplog):
    (root / CLIP).write_bytes(bytes((root / CLIP).stat().st_size))
    with caplog.at_level(logging.WARNING):
        names, _ = download()
    assert names == ["fma_small.zip"]
    assert "1 of 12 files differ" in caplog.text
    assert "002/002002.mp3" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no list\n",
        b"\xff\xfe",
        b"0" * 40 + b"  ../../etc/passwd\n",
        b"0" * 40 + b"  000/000002.mp3\n",  # FMA's first edition had half as many clips
        b"x" * ((1 << 24) + 1),
    ],
)
def test_without_a_complete_list_the_zip_is_fetched_and_why_is_said(download, root, caplog, content):
    path = root / "fma_small" / "checksums"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        names, _ = download()
    assert names == ["fma_small.zip"]
    assert [f"{root}/fma_small: has files, but no complete list checksums" in line for line in caplog.messages] == [
        True
    ]


def test_an_empty_folder_is_filled_without_a_word(download, root, caplog):
    for path in sorted((root / "fma_small").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with caplog.at_level(logging.WARNING):
        names, _ = download()
    assert names == ["fma_small.zip"]
    assert not caplog.messages
