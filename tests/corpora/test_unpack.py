"""Unpacking zips that are damaged, lie or are meant to do harm; the genuine tool `unzip` is the judge of good ones."""

import bz2
import errno
import io
import os
import shutil
import stat
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genre_spark.corpora.fma_archives import ARCHIVES, Archive
from genre_spark.corpora.unpack import RECORD, missing_members, unpack
from genre_spark.corpora.zip_members import list_members
from genre_spark.errors import DownloadError
from tests.fma_server import packed

ARCHIVE = Archive("fma_small", "0" * 40, 100_000, 1_000_000, 20)
CLIP = "fma_small/000/000002.mp3"
NOISE = np.random.default_rng(0).bytes(70_000)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


@pytest.fixture
def unpacks(tmp_path):
    """Unpack bytes into a fresh root; return the files that stand there after it."""

    def run(content, archive=ARCHIVE, **options):
        file = tmp_path / "fma_small.zip"
        file.write_bytes(content)
        unpack(file, tmp_path / "root", archive, **options)
        return files(tmp_path / "root")

    return run


def files(root):
    found = [path for path in root.rglob("*") if path.is_file() and path.name != RECORD]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def refuses(unpacks, tmp_path, content, match, archive=ARCHIVE):
    """A zip is refused in one line that names it, and nothing stands under a final name."""
    with pytest.raises(DownloadError, match=match) as caught:
        unpacks(content, archive)
    assert str(tmp_path / "fma_small.zip") in str(caught.value)
    assert "\n" not in str(caught.value)
    root = tmp_path / "root"
    assert not [path for path in root.rglob("*") if not path.is_dir()]
    assert sorted(path.name for path in tmp_path.iterdir()) in (["fma_small.zip"], ["fma_small.zip", "root"])


def one(name=CLIP, content=b"clip", **attributes):
    """A zip of one good clip and one odd member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("fma_small/001/001000.mp3", NOISE)
        info = zipfile.ZipInfo("x")
        info.filename = name
        for key, value in attributes.items():
            setattr(info, key, value)
        opened.writestr(info, content)
    return buffer.getvalue()


def altered(content, **values):
    """The last member's entry in the zip's directory, with other values in it."""
    place = content.rindex(b"PK\x01\x02")
    where = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L")}
    raw = bytearray(content)
    for key, value in values.items():
        struct.pack_into(where[key][1], raw, place + where[key][0], value)
    return bytes(raw)


# Good ones


@pytest.mark.parametrize("method", METHODS)
def test_members_come_out_as_unzip_gives_them(unpacks, tmp_path, method):
    members = {CLIP: NOISE, "fma_small/155/155320.mp3": b"", "fma_small/001/001999.mp3": bytes(900_000)}
    content = packed(members, method)
    assert unpacks(content) == members
    judge = shutil.which("unzip")
    if judge is not None:
        subprocess.run([judge, "-q", tmp_path / "fma_small.zip", "-d", tmp_path / "judge"], check=True)
        assert files(tmp_path / "judge") == members


@given(
    contents=st.lists(st.binary(max_size=300).map(lambda piece: piece * 40), min_size=1, max_size=5),
    method=st.sampled_from(METHODS),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_survives(unpacks, tmp_path, contents, method):
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    members = {f"fma_small/000/{n:06}.mp3": content for n, content in enumerate(contents)}
    assert unpacks(packed(members, method)) == members


def test_zip64_and_a_streamed_zip_are_read(unpacks):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError(errno.ESPIPE, "no")

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_BZIP2) as opened, opened.open(CLIP, "w", force_zip64=True) as member:
        member.write(NOISE)
    assert unpacks(pipe.getvalue()) == {CLIP: NOISE}


def test_folders_and_left_out_members_are_not_written_as_files(unpacks):
    archive = replace(ARCHIVE, left_out=frozenset({"not_found.pickle"}))
    content = packed({"fma_small/": b"", "fma_small/000/": b"", CLIP: b"clip", "fma_small/not_found.pickle": b"x"})
    with pytest.raises(DownloadError, match="link, a device"):
        unpacks(content, archive)  # folders that say they are files
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.mkdir("fma_small")
        opened.mkdir("fma_small/000")
        opened.writestr(CLIP, b"clip")
        opened.writestr("fma_small/not_found.pickle", b"x")
    assert unpacks(buffer.getvalue(), archive) == {CLIP: b"clip"}


def test_what_is_right_is_kept_and_what_is_wrong_is_replaced(unpacks, tmp_path):
    members = {f"fma_small/000/{n:06}.mp3": bytes([n]) * 1_000 for n in range(4)}
    unpacks(packed(members))
    folder = tmp_path / "root/fma_small/000"
    before = (folder / "000000.mp3").stat().st_ino
    (folder / "000001.mp3").write_bytes(b"x" * 1_000)
    (folder / "000002.mp3").write_bytes(b"short")
    (folder / "000003.mp3").unlink()
    (folder / ".000003.mp3.0123abcd.partial").write_bytes(b"left by a killed process")
    (folder / "mine.mp3").write_bytes(b"mine")
    assert unpacks(packed(members)) == members | {"fma_small/000/mine.mp3": b"mine"}
    assert (folder / "000000.mp3").stat().st_ino == before


def test_progress_ends_at_the_sum_of_all_sizes(unpacks):
    members = {CLIP: NOISE, "fma_small/001/001000.mp3": NOISE * 2}
    for _ in range(2):
        steps = []
        unpacks(packed(members), on_bytes=lambda *step, steps=steps: steps.append(step))
        assert steps == sorted(steps)
        assert steps[-1] == (3 * len(NOISE), 3 * len(NOISE))


def test_the_genuine_list_expects_the_genuine_names():
    small, metadata = ARCHIVES["small"], ARCHIVES["metadata"]
    for name in ("README.txt", "checksums", "000/000002.mp3", "155/155320.mp3"):
        assert small.expects(name)
    for name in (
        "000/155320.mp3",
        "000/000002.mp3\n",
        "00/000002.mp3",
        "000/000002.MP3",
        "\u0660\u0660\u0660/\u0660\u0660\u0660\u0660\u0660\u0662.mp3",
        "a/b",
    ):
        assert not small.expects(name)
    for name in ("raw_tracks.csv", "raw_echonest.csv", "tracks.csv", "features.csv", "README.txt", "checksums"):
        assert metadata.expects(name)
    assert not metadata.expects("not_found.pickle")
    assert metadata.left_out == {"not_found.pickle"}
    # 8,000 clips and two more; limits leave room above rounded sizes.
    assert small.approx_members == 8_002
    assert all(a.max_zip_bytes > a.approx_zip_bytes for a in ARCHIVES.values())
    assert all(len(bytes.fromhex(a.sha1)) == 20 for a in ARCHIVES.values())


# Names


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("/etc/passwd", "absolute path"),
        ("C:/x.mp3", "absolute path"),
        ("c:x.mp3", "absolute path"),
        ("//host/share/x.mp3", "absolute path"),
        ("../evil.mp3", "leads out"),
        ("fma_small/../../evil.mp3", "leads out"),
        ("fma_small/000/../../../evil.mp3", "leads out"),
        ("fma_small\\000\\000002.mp3", "backslash"),
        ("..\\evil.mp3", "backslash"),
        ("fma_small/000/000002.mp3\0.txt", "NUL"),
        ("fma_small/000/000002.mp3\n", "none of fma_small's"),
        ("fma_small//000/000002.mp3", "none of fma_small's"),
        ("fma_small/./000/000002.mp3", "none of fma_small's"),
        ("./fma_small/000/000002.mp3", "none of fma_small's"),
        ("fma_small/000/000002.exe", "none of fma_small's"),
        ("fma_small/001/000002.mp3", "none of fma_small's"),
        ("fma_small/.unpacked.json", "none of fma_small's"),
        ("fma_medium/000/000002.mp3", "none of fma_small's"),
        ("000/000002.mp3", "none of fma_small's"),
        ("evil.mp3", "none of fma_small's"),
        ("fma_small", "none of fma_small's"),
        ("fma_small/000/000002.mp3/", "none of fma_small's"),
        ("fma_small/evil/", "none of fma_small's"),
        ("fma_small/\u0660\u0660\u0660/\u0660\u0660\u0660\u0660\u0660\u0662.mp3", "none of fma_small's"),
        ("", "none of fma_small's"),
        ("x" * 60_000, "none of fma_small's"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(unpacks, tmp_path, name, match):
    refuses(unpacks, tmp_path, one(name), match)
    assert not (tmp_path.parent / "evil.mp3").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_a_link_or_device_is_refused(unpacks, tmp_path, kind):
    refuses(unpacks, tmp_path, one(content=b"/etc/passwd", external_attr=(kind | 0o777) << 16), "link, a device")


def test_names_that_stand_twice_are_refused(unpacks, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        content = one("fma_small/001/001000.mp3")
    refuses(unpacks, tmp_path, content, "stands twice")
    caseless = replace(ARCHIVE, pattern=r"[0-9]{3}/[0-9]{6}\.(mp3|MP3)")
    refuses(unpacks, tmp_path, one("fma_small/001/001000.MP3"), "stands twice", caseless)


# Limits


def test_too_many_members_are_refused(unpacks, tmp_path):
    content = packed({f"fma_small/000/{n:06}.mp3": b"" for n in range(31)})
    refuses(unpacks, tmp_path, content, "has 31 members, but 30 is the limit")


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_that_says_so_is_refused(unpacks, tmp_path, method):
    refuses(unpacks, tmp_path, packed({CLIP: bytes(1_600_000)}, method), "would unpack to 1600000 bytes")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_bomb_that_hides_its_size_is_stopped_in_little_memory(unpacks, tmp_path, method):
    # 60 MB of zeros in 60 kB (deflate) or 60 bytes (bzip2).
    content = altered(packed({CLIP: bytes(60_000_000)}, method), size=1_000)
    # The tables of bzip2 are some 4 MB.
    tracemalloc.start()
    refuses(unpacks, tmp_path, content, "longer than the 1000 bytes it declares")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [-1, 1, -69_000, 500_000])
def test_a_size_that_lies_is_refused(unpacks, tmp_path, method, change):
    content = altered(packed({CLIP: NOISE}, method), size=len(NOISE) + change)
    refuses(unpacks, tmp_path, content, "bytes, not the|longer than the|bytes it declares")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [-100, -1, 1, 10_000])
def test_a_packed_size_that_lies_is_refused(unpacks, tmp_path, method, change):
    content = packed({CLIP: NOISE}, method)
    size = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].compress_size
    refuses(unpacks, tmp_path, altered(content, packed=size + change), "bytes, not the|longer|can't be read")


# Damage


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_crc_is_refused(unpacks, tmp_path, method):
    refuses(unpacks, tmp_path, altered(packed({CLIP: NOISE}, method), crc=1), "has CRC-32 [0-9a-f]{8}, not 00000001")


@pytest.mark.parametrize("method", METHODS)
def test_no_flipped_bit_passes_unseen(unpacks, tmp_path, method):
    members = {CLIP: NOISE[:2_000], "fma_small/001/001000.mp3": NOISE[:500]}
    content = packed(members, method)
    random = np.random.default_rng(1)
    for place in random.integers(0, len(content), 60).tolist():
        raw = bytearray(content)
        raw[place] ^= 1 << int(random.integers(8))
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        try:
            found = unpacks(bytes(raw))
        except DownloadError:
            found = files(tmp_path / "root")
        # A bit of a date or of a name may change nothing, or the name to another expected one.
        for name, data in found.items():
            assert data in members.values(), (place, name)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_zip_is_refused(unpacks, tmp_path, share):
    content = packed({CLIP: NOISE})
    refuses(unpacks, tmp_path, content[: round(len(content) * share)], "not a complete zip")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06", bytes(1_000), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(unpacks, tmp_path, content):
    refuses(unpacks, tmp_path, content, "not a complete zip|holds nothing|can't be read")


def test_a_hole_in_the_middle_is_refused_and_the_rest_can_be_completed(unpacks, tmp_path):
    members = {f"fma_small/000/{n:06}.mp3": NOISE + bytes([n]) for n in range(6)}
    content = packed(members)
    holed = bytearray(content)
    middle = len(content) // 2
    holed[middle : middle + 500] = bytes(500)
    with pytest.raises(DownloadError, match=r"member 'fma_small/000/00000\d\.mp3' (can't be read|has)"):
        unpacks(bytes(holed))
    for name, data in files(tmp_path / "root").items():
        assert members[name] == data
    assert not (tmp_path / "root/fma_small" / RECORD).exists()
    assert unpacks(content) == members


def test_an_encrypted_zip_is_refused(unpacks, tmp_path):
    refuses(unpacks, tmp_path, altered(packed({CLIP: NOISE}), flags=1), "is encrypted")


@pytest.mark.parametrize("method", [9, 14, 93, 99])
def test_an_unknown_compression_is_refused(unpacks, tmp_path, method):
    refuses(unpacks, tmp_path, altered(packed({CLIP: NOISE}), method=method), f"method {method}")


def test_an_empty_zip_is_refused(unpacks, tmp_path):
    refuses(unpacks, tmp_path, packed({}), "holds nothing of fma_small")


def test_bytes_after_the_end_of_a_member_are_refused(unpacks, tmp_path):
    data = bz2.compress(NOISE) + b"hidden"
    content = packed({CLIP: data}, zipfile.ZIP_STORED)
    content = altered(content, method=zipfile.ZIP_BZIP2, size=len(NOISE), crc=zlib.crc32(NOISE))
    refuses(unpacks, tmp_path, content, "go on after their end")


def test_a_missing_zip_is_named(tmp_path):
    with pytest.raises(DownloadError, match=r"none\.zip: can't be read: No such file"):
        list_members(tmp_path / "none.zip", ARCHIVE)


# The place where it goes


def test_the_folder_of_the_subset_may_be_a_link(unpacks, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/fma_small").symlink_to(tmp_path / "elsewhere")
    unpacks(packed({CLIP: NOISE}))
    assert (tmp_path / "elsewhere/000/000002.mp3").read_bytes() == NOISE
    assert missing_members(tmp_path / "root", ARCHIVE) == {}


@pytest.mark.parametrize("place", ["root/fma_small/000", "root/fma_small/000/000002.mp3"])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_below_it_is_refused(unpacks, tmp_path, place, dangling):
    target = tmp_path / "precious"
    if not dangling and place.endswith("mp3"):
        target.write_bytes(NOISE)
    elif not dangling:
        target.mkdir()
    link = tmp_path / place
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    with pytest.raises(DownloadError, match=rf"{place}: (is a link|a folder, a link)"):
        unpacks(packed({CLIP: NOISE}))
    assert link.is_symlink()
    assert not target.is_dir() or not list(target.iterdir())


@pytest.mark.parametrize("place", ["root", "root/fma_small", "root/fma_small/000"])
def test_a_file_in_place_of_a_folder_is_named(unpacks, tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=str(path)):
        unpacks(packed({CLIP: NOISE}))
    assert path.read_bytes() == b"mine"


def test_a_folder_or_pipe_in_place_of_a_clip_is_named(unpacks, tmp_path):
    path = tmp_path / "root" / CLIP
    path.mkdir(parents=True)
    with pytest.raises(DownloadError, match=rf"{path}: a folder, a link or a device"):
        unpacks(packed({CLIP: NOISE}))
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DownloadError, match=rf"{path}: a folder, a link or a device"):
        unpacks(packed({CLIP: NOISE}))


def test_a_hard_link_elsewhere_keeps_its_content(unpacks, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    path = tmp_path / "root" / CLIP
    path.parent.mkdir(parents=True)
    os.link(precious, path)
    unpacks(packed({CLIP: NOISE}))
    assert precious.read_bytes() == b"mine"
    assert path.read_bytes() == NOISE


# What is known afterwards


def test_missing_members_are_named_with_their_sizes(unpacks, tmp_path):
    root = tmp_path / "root"
    assert missing_members(root, ARCHIVE) is None
    members = {f"fma_small/00{n}/00{n}000.mp3": bytes(n + 1) for n in range(4)}
    unpacks(packed(members | {"fma_small/checksums": b"sums"}))
    assert missing_members(root, ARCHIVE) == {}
    (root / "fma_small/000/000000.mp3").unlink()
    (root / "fma_small/001/001000.mp3").write_bytes(b"longer")
    shutil.rmtree(root / "fma_small/002")
    (root / "fma_small/checksums").unlink()
    shutil.move(root / "fma_small/003", root / "moved")
    (root / "fma_small/003").symlink_to(root / "moved")
    missing = missing_members(root, ARCHIVE)
    assert missing == {f"00{n}/00{n}000.mp3": n + 1 for n in range(4)} | {"checksums": 4}
    assert missing_members(root, replace(ARCHIVE, sha1="1" * 40)) is None


def test_only_the_named_members_are_touched(unpacks, tmp_path):
    members = {f"fma_small/000/{n:06}.mp3": bytes([n]) * 100 for n in range(3)}
    unpacks(packed(members))
    folder = tmp_path / "root/fma_small/000"
    (folder / "000001.mp3").write_bytes(b"x" * 100)
    (folder / "000002.mp3").unlink()
    found = unpacks(packed(members), only={"000/000002.mp3"})
    assert found == members | {"fma_small/000/000001.mp3": b"x" * 100}


# Members that share their bytes, and directories that are all there is


def with_directory(body, entries, count=None):
    """A zip of a body and a directory that says what one likes."""
    directory = b"".join(entries)
    number = min(len(entries) if count is None else count, 65_535)
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), len(body), 0)


def entry(name, content, packed_size, method, offset, extra=b""):
    head = struct.pack(
        "<4s4B4HL2L", b"PK\1\2", 20, 3, 20, 0, 0, method, 0, 0, zlib.crc32(content), packed_size, len(content)
    )
    return head + struct.pack("<5H2L", len(name), len(extra), 0, 0, 0, 0o100444 << 16, offset) + name.encode() + extra


def local_header(name, content, packed_size, method):
    head = struct.pack("<4s2B4HL2L", b"PK\3\4", 20, 0, 0, method, 0, 0, zlib.crc32(content), packed_size, len(content))
    return head + struct.pack("<2H", len(name), 0) + name.encode()


def test_members_that_share_their_bytes_are_refused(unpacks, tmp_path):
    content = bytes(40_000)
    deflated = zlib.compress(content, 9, -zlib.MAX_WBITS)
    body = local_header(CLIP, content, len(deflated), zipfile.ZIP_DEFLATED) + deflated
    names = [f"fma_small/000/{number:06}.mp3" for number in range(20)]
    all_of_it = [entry(name, content, len(deflated), zipfile.ZIP_DEFLATED, 0) for name in names]
    refuses(unpacks, tmp_path, with_directory(body, all_of_it), "overlap")
    # Also where the one member's data hold the other's header.
    inner = local_header(names[1], b"clip", 4, zipfile.ZIP_STORED) + b"clip"
    outer = local_header(names[0], inner, len(inner), zipfile.ZIP_STORED)
    nested = [
        entry(names[0], inner, len(inner), zipfile.ZIP_STORED, 0),
        entry(names[1], b"clip", 4, zipfile.ZIP_STORED, len(outer)),
    ]
    refuses(unpacks, tmp_path, with_directory(outer + inner, nested), "overlap")


def test_a_directory_larger_than_the_archive_s_can_be_is_refused_in_little_memory(unpacks, tmp_path):
    body = local_header(CLIP, b"", 0, zipfile.ZIP_STORED)
    padding = struct.pack("<HH", 0x9999, 60_000) + bytes(60_000)
    entries = [entry(CLIP, b"", 0, zipfile.ZIP_STORED, 0, padding)] * 500
    content = with_directory(body, entries)
    tracemalloc.start()
    refuses(unpacks, tmp_path, content, "its directory has 300[0-9]{5} bytes")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6
    many = [entry("a", b"", 0, zipfile.ZIP_STORED, 0)] * 100_000
    refuses(unpacks, tmp_path, with_directory(body, many), "its directory has 4700000 bytes")
