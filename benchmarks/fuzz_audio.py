"""What `decode` makes of thousands of damaged files: sound, or an error of its own, never a crash, hang or surprise.

    make fuzz-audio ARGS="--inputs 20000 --workers 2"

Small files of every format that libsndfile writes, LAME's MP3s, and the heads of real MP3s where there are some, are
mutated; input number n of a seed is always the same. Each goes through `decode` in a process of its own. What crashes
it, takes more than 5 s or 500 MB, or raises what is no `AudioError`, is kept, cut down as far as it still does so.
"""

import functools
import io
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import typer
from rich.console import Console
from rich.table import Table

from genre_spark.dataset.isolation import IsolatedProcess
from genre_spark.errors import AudioCrashed, AudioError, AudioTimedOut
from genre_spark.features.audio import decode

LAME_SHAPES = ((44_100, 2), (22_050, 1), (8_000, 1))
MUSIC = Path(__file__).parents[2] / "shared" / "data"

HANG_S = 5.0
LARGE_MB = 500.0
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1)
MARKS = (
    b"RIFF", b"fmt ", b"data", b"fact", b"LIST", b"ds64", b"FORM", b"COMM", b"SSND", b".snd", b"fLaC", b"OggS",
    b"vorbis", b"OpusHead", b"ID3", b"Xing", b"Info", b"LAME", b"TAG", b"caff", b"desc", b"kuki", b"pakt",
    b"\xff\xfb", b"\xff\xf3",
)  # fmt: skip


def noise(seconds: float, rate: int, channels: int, seed: int = 0) -> np.ndarray:
    """Noise that swells, so that a variable bit rate varies."""
    count = round(seconds * rate)
    swell = np.linspace(0.001, 0.9, count)[:, None]
    return np.random.default_rng(seed).uniform(-1, 1, (count, channels)) * swell


def lame_mp3(rate: int, channels: int, *, vbr: bool) -> bytes:
    import lameenc

    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_in_sample_rate(rate)
    encoder.set_channels(channels)
    if vbr:
        encoder.set_vbr(4)
        encoder.set_vbr_quality(4)
    else:
        encoder.set_bit_rate(64)
    pcm = (noise(1.5, rate, channels) * 32_767).astype("<i2")
    return bytes(encoder.encode(pcm.tobytes()) + encoder.flush())


@functools.cache
def seeds() -> list[bytes]:
    files = [lame_mp3(rate, channels, vbr=vbr) for rate, channels in LAME_SHAPES for vbr in (False, True)]
    # SD2 is two files: libsndfile would leave a `._` here, and take it for a part of every file that has no name.
    for container in sorted(soundfile.available_formats().keys() - {"SD2"}):
        for number, subtype in enumerate(soundfile.available_subtypes(container)):
            usual = container in ("MP3", "FLAC", "OGG")
            for rate, channels in ((44_100, 2), (8_000, 1)) if usual else ((16_000, 1 + number % 2),):
                file = io.BytesIO()
                try:
                    soundfile.write(file, noise(0.7, rate, channels), rate, format=container, subtype=subtype)
                except (soundfile.LibsndfileError, ValueError, TypeError):
                    continue  # not for that rate, or in need of a name
                files.append(file.getvalue())
    real = sorted(MUSIC.glob("fma/fma_small/*/*.mp3"))[:3] + sorted(MUSIC.glob("emotify/*/*.mp3"))[:3]
    files += [path.read_bytes()[:80_000] for path in real]
    # What people have comes up more often.
    frequent = [file for file in files if file[:4] in (b"RIFF", b"FORM", b"fLaC", b"OggS", b".snd", b"riff", b"caff")]
    return files + 2 * frequent + 6 * files[:6]


def place(random: np.random.Generator, content: bytearray) -> int:
    """Somewhere in a file; more often in a header or behind a mark."""
    way = random.random()
    if way < 0.4:
        return int(random.integers(0, min(len(content), 256)))
    if way < 0.7:
        found = content.find(MARKS[random.integers(len(MARKS))], int(random.integers(0, max(1, len(content) // 2))))
        if found >= 0:
            return min(found + int(random.integers(0, 40)), len(content) - 1)
    return int(random.integers(0, len(content)))


def flip(random: np.random.Generator, content: bytearray) -> None:
    for _ in range(int(random.integers(1, 33))):
        content[place(random, content)] ^= 1 << int(random.integers(8))


def lie(random: np.random.Generator, content: bytearray) -> None:
    at, width = place(random, content), (2, 4, 8)[random.integers(3)]
    number = NUMBERS[random.integers(len(NUMBERS))] % 256**width
    content[at : at + width] = number.to_bytes(width, ("little", "big")[random.integers(2)])


def overwrite(random: np.random.Generator, content: bytearray) -> None:
    at, length = place(random, content), int(random.integers(1, 3_000))
    fill = (bytes(length), b"\xff" * length, random.bytes(length))[random.integers(3)]
    content[at : at + length] = fill


def truncate(random: np.random.Generator, content: bytearray) -> None:
    del content[int(random.integers(1, len(content))) :]


def cut(random: np.random.Generator, content: bytearray) -> None:
    at = place(random, content)
    del content[at : at + int(random.integers(1, 5_000))]


def duplicate(random: np.random.Generator, content: bytearray) -> None:
    at, length = place(random, content), int(random.integers(1, 20_000))
    content[at:at] = bytes(content[at : at + length]) * int(random.integers(1, 4))


def insert(random: np.random.Generator, content: bytearray) -> None:
    at = place(random, content)
    content[at:at] = random.bytes(int(random.integers(1, 2_000)))


def splice(random: np.random.Generator, content: bytearray) -> None:
    other = seeds()[random.integers(len(seeds()))]
    content[int(random.integers(0, len(content))) :] = other[int(random.integers(0, len(other))) :]


def join(random: np.random.Generator, content: bytearray) -> None:
    content += seeds()[random.integers(len(seeds()))]


MUTATIONS: tuple[Callable[[np.random.Generator, bytearray], None], ...] = (
    flip, flip, lie, lie, lie, overwrite, truncate, cut, duplicate, insert, splice, join,
)  # fmt: skip


def mutant(seed: int, number: int) -> bytes:
    random = np.random.default_rng((seed, number))
    content = bytearray(seeds()[random.integers(len(seeds()))])
    for _ in range(int(random.integers(1, 4))):
        MUTATIONS[random.integers(len(MUTATIONS))](random, content)
        if not content:
            break
    return bytes(content)


def decoded(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the isolated process does."""
    # Peak memory since the last call, as far as the kernel lets us forget the peak before.
    Path("/proc/self/clear_refs").write_text("5")
    before_mb, started = peak_mb(), time.monotonic()
    address = item["path"]
    if item["from_memory"]:
        import fsspec

        fsspec.filesystem("memory").pipe("/input", Path(address).read_bytes())
        address = "memory://input"
    outcome = "whole"
    try:
        pcm = decode(address, max_duration_s=600, max_file_mb=200)
        assert pcm.samples.dtype == np.float32
        assert pcm.samples.ndim == 1
        assert len(pcm.samples) > 0
        assert np.isfinite(pcm.samples).all()
        assert pcm.shortened_s == 0
    except AudioError as error:
        outcome = type(error).__name__
        if outcome == "AudioError" or "\n" in str(error):
            raise ValueError(f"{outcome}: {error}") from error
    return {"outcome": outcome, "mb": peak_mb() - before_mb, "seconds": time.monotonic() - started}, {}


def peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


def judge(process: IsolatedProcess, path: Path, content: bytes, *, from_memory: bool) -> tuple[str, bool]:
    """Outcome of one input, and whether it is one that must not be."""
    path.write_bytes(content)
    try:
        head, _ = process.call({"path": str(path), "from_memory": from_memory}, name=path.name)
    except (AudioCrashed, AudioTimedOut) as error:
        return f"{type(error).__name__}: {str(error).partition(': ')[2]}", True
    except AudioError as error:
        return f"surprise: {str(error).partition(': ')[2][:80]}", True
    if head["mb"] > LARGE_MB:
        return f"more than {LARGE_MB:g} MB", True
    return head["outcome"], False


def smallest(process: IsolatedProcess, path: Path, content: bytes, outcome: str, *, from_memory: bool) -> bytes:
    """Cut an input's end off while the outcome stays."""
    step = len(content) // 2
    while step:
        shorter = content[:-step]
        if shorter and judge(process, path, shorter, from_memory=from_memory)[0] == outcome:
            content = shorter
        else:
            step //= 2
    return content


def run_share(task: tuple[int, int, int, Path]) -> Counter[str]:
    """Every input whose number leaves the rest `share`."""
    seed, share, shares, kept = task[0], task[1] % 1_000, task[1] // 1_000, task[3]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, IsolatedProcess(decoded, timeout_s=HANG_S) as process:
        path = Path(folder) / "input"
        for number in range(share, task[2], shares):
            content, from_memory = mutant(seed, number), number % 5 == 0
            outcome, is_bad = judge(process, path, content, from_memory=from_memory)
            counts[outcome] += 1
            if is_bad:
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{seed}-{number}").write_bytes(content)
                if "TimedOut" not in outcome:
                    small = smallest(process, path, content, outcome, from_memory=from_memory)
                    (kept / f"{seed}-{number}.small").write_bytes(small)
    return counts


def fuzz(inputs: int, seed: int, workers: int, kept: Path) -> Counter[str]:
    """Outcomes of `inputs` inputs, counted."""
    tasks = [(seed, workers * 1_000 + share, inputs, kept) for share in range(workers)]
    if workers == 1:
        return run_share(tasks[0])
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return sum(pool.imap_unordered(run_share, tasks), Counter())


def main(
    inputs: Annotated[int, typer.Option(min=1)] = 10_000,
    seed: int = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    kept: Annotated[Path, typer.Option(help="Where inputs that must not be are kept.")] = Path("fuzz-kept"),
) -> None:
    seeds()
    started = time.monotonic()
    counts = fuzz(inputs, seed, workers, kept)
    table = Table("outcome", "inputs", title=f"{inputs} inputs of seed {seed} in {time.monotonic() - started:.0f} s")
    for outcome, count in counts.most_common():
        table.add_row(outcome, str(count))
    Console().print(table)
    sys.exit(1 if kept.is_dir() and any(kept.iterdir()) else 0)


if __name__ == "__main__":
    typer.run(main)
