"""What visitors are told of a fault that isn't theirs, and models that no page could name."""

import json
import logging
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from genre_spark.errors import BundleError, GenreSparkError
from genre_spark.models.bundle import NO_DIGEST, read_description, sealed
from genre_spark.serving.app import Server
from genre_spark.serving.server import shown_address
from genre_spark.serving.worker import Heard, Worker
from genre_spark.settings_sections import AudioSettings, ServeSettings

with warnings.catch_warnings():
    # It would rather have a successor of httpx.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

SECRET = "/private/folder"


class Broken(Worker):
    """A process that can't be had, as where the bundle was removed while the server ran."""

    is_there = False

    @property
    def pid(self) -> int | None:
        return 1 if self.is_there else None

    def start(self) -> None:
        pass

    def load(self) -> None:
        if not self.is_there:
            raise BundleError(f"{SECRET}/bundle: no bundle")

    def listen(self, path: Path, n_genres: int, timeout_s: float) -> Heard:
        raise BundleError(f"{SECRET}/bundle: {path}")


@pytest.mark.parametrize(("is_there", "status", "name"), [(False, 503, "NoModel"), (True, 500, "ModelError")])
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_visitors_learn_no_folders_of_the_machine(
    run: Path, caplog: pytest.LogCaptureFixture, is_there: bool, status: int, name: str, accept: str
) -> None:
    told: list[GenreSparkError | None] = []
    worker = Broken(run / "bundle", AudioSettings())
    worker.is_there = is_there
    server = Server(
        worker, read_description(run / "bundle"), ServeSettings(), hosts=["127.0.0.1"],
        on_state=lambda state, error: told.append(error),
    )  # fmt: skip
    with caplog.at_level(logging.ERROR), TestClient(server.app, base_url="http://127.0.0.1") as client:
        answer = client.post("/predict", files={"file": ("a.wav", b"a")}, headers={"accept": accept})
    assert answer.status_code == status
    assert name in answer.text
    assert "terminal says why" in answer.text
    assert "private" not in answer.text
    # The terminal does.
    assert SECRET in caplog.text + " ".join(map(str, told))


class Quick(Broken):
    """A process that has listened before it is asked."""

    is_there = True

    def listen(self, path: Path, n_genres: int, timeout_s: float) -> Heard:
        even, shades = np.full(n_genres, 1 / n_genres), np.zeros((96, 40), np.uint8)
        return Heard(1.0, True, even, even[np.newaxis], np.array([[0.0, 1.0]]), shades)


def test_who_waits_for_pictures_has_a_place_in_the_queue(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws, drawn = threading.Event(), threading.Event()

    def page_of(server: Server, song: object) -> str:
        draws.set()
        assert drawn.wait(60)
        return "a page"

    monkeypatch.setattr(Server, "_page_of", page_of)
    server = Server(
        Quick(run / "bundle", AudioSettings()), read_description(run / "bundle"), ServeSettings(waiting=0),
        hosts=["127.0.0.1"],
    )  # fmt: skip
    with TestClient(server.app, base_url="http://127.0.0.1") as client, ThreadPoolExecutor(1) as visitor:

        def ask(accept: str) -> tuple[int, str]:
            answer = client.post("/predict", files={"file": ("a.wav", b"a")}, headers={"accept": accept})
            return answer.status_code, answer.text

        first = visitor.submit(ask, "text/html")
        assert draws.wait(60)
        status, text = ask("application/json")
        assert (status, json.loads(text)["error"]) == (503, "Busy")
        drawn.set()
        assert first.result() == (200, "a page")
        assert ask("application/json")[0] == 200


@pytest.mark.parametrize(
    ("bound", "address"),
    [(("0.0.0.0", 80), "http://127.0.0.1:80/"), (("::", 80, 0, 0), "http://[::1]:80/")],
)
def test_the_address_of_all_interfaces_is_shown_as_one_that_can_be_asked(bound: tuple, address: str) -> None:
    shown, elsewhere = shown_address(bound[0], bound, ["music.example"])
    assert shown == address
    assert "music.example" in elsewhere


@pytest.mark.parametrize("key", ["corpus", "labels", "settings"])
def test_a_bundle_with_half_a_character_is_refused(run: Path, tmp_path: Path, key: str) -> None:
    bundle = Path(shutil.copytree(run / "bundle", tmp_path / "bundle"))
    content = json.loads((bundle / "bundle.json").read_text())
    half = "\ud800x"
    value = {"corpus": half, "labels": [half, *content["labels"][1:]], "settings": {half: 1}}[key]
    (bundle / "bundle.json").write_text(sealed(json.dumps(content | {key: value, "digest": NO_DIGEST})))
    with pytest.raises(BundleError, match=r"bundle.json: .*\\ud800x.* lone surrogate"):
        read_description(bundle)
