"""The routes: a page, the files it is made of, and the answer to a dropped song."""

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from genre_spark.errors import AudioCrashed, AudioError, GenreSparkError, ModelError
from genre_spark.models.bundle import BundleDescription
from genre_spark.serving.answers import Page, Song, error_as_json
from genre_spark.serving.guards import SecurityHeaders, check_origin
from genre_spark.serving.lingering import LingeringResponse
from genre_spark.serving.refusals import Busy, NoModel, Refused, status_of
from genre_spark.serving.uploads import received_file
from genre_spark.serving.worker import Heard, Worker
from genre_spark.settings_sections import ServeSettings

State = Literal["loading", "ready", "failed"]

logger = logging.getLogger(__name__)


class Server:
    """One model behind a page.

    Parameters
    ----------
    worker : Worker
        Has the model; started with the server and ended with it.
    description : BundleDescription
        Of the model.
    settings : ServeSettings
    hosts : sequence of str
        Names under which the page may be asked for.
    precision : float, optional
        As the worker's.
    on_state : callable, optional
        Told when the model is ready, or can't be loaded, with the reason.
    """

    def __init__(
        self,
        worker: Worker,
        description: BundleDescription,
        settings: ServeSettings,
        *,
        hosts: list[str],
        precision: float | None = None,
        on_state: Callable[[State, GenreSparkError | None], None] = lambda state, error: None,
    ) -> None:
        self.worker = worker
        self.state: State = "loading"
        self._description, self._settings, self._on_state = description, settings, on_state
        self._page = Page(description, settings.max_upload_mb, precision)
        self._turn = asyncio.Lock()
        self._drawing = asyncio.Lock()
        self._inside = 0
        self._is_ending = False
        self._restart: asyncio.Task | None = None
        self._folder = Path()
        routes = [
            Route("/", self._show_page),
            Route("/state", self._show_state),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/predict", self._show_form, methods=["GET"]),
            Mount("/static", StaticFiles(packages=[("genre_spark.serving", "static")])),
        ]
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
        #: What uvicorn runs.
        self.app: ASGIApp = SecurityHeaders(Starlette(routes=routes, middleware=[guard], lifespan=self._life))

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        # Of mode 0700.
        with tempfile.TemporaryDirectory(prefix="genre-spark-serve-", ignore_cleanup_errors=True) as folder:
            self._folder = Path(folder)
            self._load_in_background()
            try:
                yield
            finally:
                self._is_ending = True
                self.worker.end()
                if self._restart is not None:
                    self._restart.cancel()

    def _load_in_background(self) -> None:
        self.state = "loading"
        # From here, not from the thread that waits for it: see `Worker.start`.
        self.worker.start()
        self._restart = asyncio.create_task(self._load_in_turn())

    async def _load_in_turn(self) -> None:
        async with self._turn:
            await self._load()

    async def _load(self) -> GenreSparkError | None:
        error: GenreSparkError | None = None
        try:
            await asyncio.to_thread(self.worker.load)
            self.state = "ready"
        except GenreSparkError as caught:
            self.state, error = "failed", caught
        if not self._is_ending:
            self._on_state(self.state, error)
        return error

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(self._page.render(self.state))

    async def _show_state(self, request: Request) -> Response:
        return JSONResponse({"state": self.state})

    async def _show_form(self, request: Request) -> Response:
        # Who reloads an answer, or follows a link to it.
        return RedirectResponse("/", 303)

    async def _predict(self, request: Request) -> Response:
        wants_page = "text/html" in request.headers.get("accept", "")
        try:
            check_origin(request)
            return await self._answer(request, wants_page)
        except ClientDisconnect:
            return Response(status_code=499)
        except GenreSparkError as caught:
            error: GenreSparkError = caught
            if not isinstance(error, Refused | AudioError):
                # It may name folders of this machine.
                logger.error("%s", error)
                error = ModelError("the server can't answer; its terminal says why")
            status = status_of(error)
            content, kind = json.dumps(error_as_json(error)), "application/json"
            if wants_page:
                content, kind = self._page.render(self.state, error=error), "text/html; charset=utf-8"
            # What is refused may still be on its way.
            answer = LingeringResponse if isinstance(error, Refused) else Response
            headers = {"retry-after": "5"} if status == 503 else None
            return answer(content, status, headers, kind)

    async def _answer(self, request: Request, wants_page: bool) -> Response:
        """Answer if there is a place; it is given back when all is done, so that pictures have a queue too."""
        settings = self._settings
        if self._inside > settings.waiting:
            raise Busy(f"{self._inside} files are waiting already (serve.waiting={settings.waiting}); try again soon")
        self._inside += 1
        try:
            song = await self._song(request)
            if not wants_page:
                return JSONResponse(song.as_json())
            # matplotlib has its style for the whole process.
            async with self._drawing:
                return HTMLResponse(await asyncio.to_thread(self._page_of, song))
        finally:
            self._inside -= 1

    async def _song(self, request: Request) -> Song:
        """Take the file, wait for its turn, and listen to it."""
        settings = self._settings
        async with (
            received_file(request, self._folder, max_mb=settings.max_upload_mb, max_s=settings.max_upload_s) as upload,
            self._my_turn(request),
        ):
            try:
                heard = await self._listen(upload.path)
            except AudioError as error:
                # People know their file by their own name for it.
                raise type(error)(str(error).replace(str(upload.path), upload.name)) from None
        return Song(upload.name, self._description.labels, heard)

    @contextlib.asynccontextmanager
    async def _my_turn(self, request: Request) -> AsyncIterator[None]:
        """Wait until nobody else's file is listened to, or the sender has gone."""
        turn, gone = asyncio.create_task(self._turn.acquire()), asyncio.create_task(_gone(request))
        try:
            await asyncio.wait([turn, gone], return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientDisconnect
            yield
        finally:
            gone.cancel()
            if turn.done() and not turn.cancelled():
                self._turn.release()
            turn.cancel()

    async def _listen(self, path: Path) -> Heard:
        n_genres, timeout_s = len(self._description.labels), self._settings.max_predict_s
        try:
            for is_last in (False, True):
                if self.worker.pid is None:
                    # It has died since the last file, or over this one.
                    self.state = "loading"
                    self.worker.start()
                    if await self._load():
                        # `on_state` was told why: it names folders of this machine.
                        raise NoModel("the model can't be loaded again; the server's terminal says why")
                try:
                    return await asyncio.to_thread(self.worker.listen, path, n_genres, timeout_s)
                except AudioCrashed:
                    # Whatever else struck it (the kernel short of memory) isn't blamed on the file.
                    if is_last:
                        raise
            raise AssertionError
        finally:
            if self.worker.pid is None and not self._is_ending:
                self._load_in_background()

    def _page_of(self, song: Song) -> str:
        # matplotlib takes a second to import, and another one at its first picture on a machine.
        from genre_spark.serving.pictures import song_pictures

        what = (
            f"Probability of the genres over time, and the mel spectrogram, of {song.name}; numbers stand in the table"
        )
        pictures = song_pictures(song.heard, song.labels, what)
        return self._page.render(self.state, song=song, pictures=pictures)


async def _gone(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
