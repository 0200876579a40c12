"""`python -m genre_spark.cluster up|down|history`."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from genre_spark.cluster.daemons import STATE, processes_of, read_cluster, stop_cluster
from genre_spark.cluster.standalone import serve_history, start_cluster
from genre_spark.errors import EnvironmentSetupError, GenreSparkError


def _up(folder: Path, conf: Path, workers: int, cores: int, memory: str) -> None:
    if (folder / STATE).is_file() and processes_of(cluster := read_cluster(folder.resolve())):
        print(f"up already: {cluster.alive_workers()} workers at {cluster.master}")
    else:
        cluster = start_cluster(folder, conf, workers=workers, cores=cores, memory=memory)
        print(f"up: {workers} workers of {cores} cores and {memory} at {cluster.master}, their page: {cluster.ui}")
    print(
        f"submit with: SPARK_CONF_DIR={cluster.submit_conf} spark-submit jobs/extract.py --config conf/cluster.yaml ..."
    )


def _history(folder: Path, events: Path, conf: Path) -> None:
    cluster, ui = serve_history(folder, events, conf)
    print(f"history server: {ui} (Ctrl-C ends it)", flush=True)
    try:
        while processes_of(cluster):
            time.sleep(1)
        raise EnvironmentSetupError(f"the history server ended; see {folder / 'history.log'}")
    finally:
        stop_cluster(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `up`, `down` or `history`; an error is one line and status 1."""
    parser = argparse.ArgumentParser(
        prog="python -m genre_spark.cluster", description="Spark's daemons on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shown = argparse.ArgumentDefaultsHelpFormatter
    up = commands.add_parser("up", help="start a master and workers", formatter_class=shown)
    up.add_argument("--workers", type=int, default=2, help="how many")
    up.add_argument("--cores", type=int, default=1, help="of each worker")
    up.add_argument("--memory", default="1g", help="of each worker's executor; Python's comes on top")
    down = commands.add_parser("down", help="end all of it", formatter_class=shown)
    history = commands.add_parser("history", help="show event logs until Ctrl-C", formatter_class=shown)
    history.add_argument("--events", type=Path, default=Path("build/cluster/events"), help="folder of event logs")
    for command in (up, down, history):
        own = "build/history" if command is history else "build/cluster"
        command.add_argument("--folder", type=Path, default=Path(own), help="what belongs to it")
    for command in (up, history):
        command.add_argument("--conf", type=Path, default=Path("conf"), help="Spark's settings to start from")
    options = vars(parser.parse_args(arguments))
    name = options.pop("command")
    # As with Ctrl-C: what was begun is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if name == "up":
            _up(**options)
        elif name == "history":
            _history(**options)
        else:
            print(f"down: {stop_cluster(**options)} processes ended")
    except GenreSparkError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
