"""How many requests an extraction asks of an object store, by verb and by what they are for.

    python benchmarks/s3_requests.py --clips 'music/*.mp3' --tracks 64

The store is moto's server on loopback, which counts; audio and dataset lie in it. It says nothing of speed.
"""

import glob
import itertools
import logging
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from genre_spark.corpora.tracks import track_table
from genre_spark.dataset.extract import extract
from genre_spark.dataset.progress import Progress
from genre_spark.features import resolve_specs
from genre_spark.settings import load_settings
from genre_spark.spark import build_session

BUCKET = "requests"
KINDS = {
    "audio": r"/audio/",
    "lease": r"_lock",
    "plan": r"/_work/[^/]+/plan-",
    "task files": r"/_work/[^/]+/(features|errors)/",
    "joined files": r"/_work/[^/]+/rewritten/",
    "other of the job": r"_work",
    "dataset's files": r"/(features|errors)/part-",
    "manifest, list": r"extraction\.json|files-\d",
}


class Counted(logging.Handler):
    """Counts the lines of the server's log."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, str]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        found = re.search(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP', record.getMessage())
        if found:
            verb, path = found[1], found[2].replace("%2F", "/")
            kind = next((name for name, pattern in KINDS.items() if re.search(pattern, path)), "other")
            self.seen[kind, "LIST" if verb == "GET" and "list-type" in path else verb] += 1


def main(
    clips: Annotated[str, typer.Option(help="Glob of audio files.")] = "build/demo/corpus/fma_small/*/*.mp3",
    tracks: Annotated[int, typer.Option(help="Tracks of the first job; the clips are repeated.")] = 64,
    tracks_per_task: Annotated[int, typer.Option(help="Of each task.")] = 16,
) -> None:
    """Print the requests of a first job, one with nothing to do, and one with a sixteenth more tracks."""
    found = sorted(glob.glob(clips))  # noqa: PTH207 (the pattern may be absolute)
    if not found:
        raise SystemExit(f"error: no clip matches {clips!r}; name some with --clips, or run `make demo` first")
    import boto3
    from moto.server import ThreadedMotoServer

    counted = Counted()
    log = logging.getLogger("werkzeug")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(counted)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=True)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    os.environ.update(
        AWS_ENDPOINT_URL=endpoint, AWS_REGION="us-east-1", AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any",  # noqa: S106
        AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    more = tracks + max(1, tracks // 16)
    paths = list(itertools.islice(itertools.cycle(found), more))
    for number, path in enumerate(paths):
        client.put_object(Bucket=BUCKET, Key=f"audio/{number}{Path(path).suffix}", Body=Path(path).read_bytes())
    rows = [
        {"track_id": f"{number:06d}", "uri": f"s3://{BUCKET}/audio/{number}{Path(path).suffix}"}
        for number, path in enumerate(paths)
    ]
    settings = load_settings([], ["spark.master=local[2]", f"extract.tracks_per_task={tracks_per_task}"])
    specs = resolve_specs(["mfcc_mean", "mfcc", "melgram"])
    spark = build_session(settings.spark, "genre_spark benchmark")
    counts, titles = [], []
    for name, count in (("first", tracks), ("again", tracks), (f"{more - tracks} new", more)):
        counted.seen.clear()
        told: list[Progress] = []
        dataset = extract(
            spark, track_table(rows[:count], "it"), specs, f"s3://{BUCKET}/dataset", settings, on_progress=told.append
        )
        counts.append(Counter(counted.seen))
        sizes = [f"{row['bytes'] / 1e6:.0f}" for row in dataset.listed.to_pylist()]
        titles.append(
            f"{name}: {told[-1].done} tracks, {told[-1].tasks.completed} tasks, files of {','.join(sizes)} MB"
        )
    spark.stop()
    server.stop()
    printed = Table("for", "verb", *titles)
    for key in sorted({key for count in counts for key in count}):
        printed.add_row(*key, *(str(count[key]) for count in counts))
    Console().print(printed)


if __name__ == "__main__":
    sys.argv[0] = "s3_requests"
    typer.run(main)
