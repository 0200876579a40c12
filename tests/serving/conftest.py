"""A real server: a process of its own, with small limits, that tests talk to as browsers and attackers do."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]

MAX_MB = 1
MAX_UPLOAD_S = 2.0
MAX_PREDICT_S = 6.0
WAITING = 1
NAME = "music.example"


@dataclass
class Served:
    """A server, the folder that it takes for temporary files, and where its output goes."""

    process: subprocess.Popen
    address: str
    temporary: Path
    log: Path

    @property
    def port(self) -> int:
        return httpx.URL(self.address).port or 0

    @property
    def listener(self) -> psutil.Process:
        """The process with the model."""
        (child,) = (
            child for child in psutil.Process(self.process.pid).children() if child.status() != psutil.STATUS_ZOMBIE
        )
        return child

    def post(self, path: Path, *, name: str | None = None, **headers: str) -> httpx.Response:
        with path.open("rb") as file:
            return httpx.post(
                f"{self.address}predict", files={"file": (name or path.name, file)}, headers=headers, timeout=60
            )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def uploads(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def state(self) -> str:
        return httpx.get(f"{self.address}state").json()["state"]


def wait(until: Callable[[], Any], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def a_server(bundle: Path, folder: Path) -> Iterator[Served]:
    temporary = folder / "tmp"
    temporary.mkdir()
    log = folder / "log"
    settings = {
        "max_upload_mb": MAX_MB, "max_upload_s": MAX_UPLOAD_S, "max_predict_s": MAX_PREDICT_S, "waiting": WAITING,
        "host_names": f"[{NAME}]",
    }  # fmt: skip
    command = [Path(sys.executable).parent / "genre-spark", "serve", "--bundle", bundle, "--no-open"]
    command += [f"--set=serve.{name}={value}" for name, value in settings.items()]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, "TMPDIR": str(temporary)}
        )
    try:
        wait(lambda: "http://" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Served(process, log.read_text().split()[0], temporary, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def served(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a model of three genres, which tests may mistreat: it must stand it."""
    with a_server(run / "bundle", tmp_path_factory.mktemp("served")) as server:
        wait(lambda: server.state() == "ready")
        yield server
