"""The web application: pages, bundles, the API, and the device lab."""

from __future__ import annotations

import logging
import math
import os
import threading
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

import edgedenoise
from edgedenoise.batch.single import DenoisedData, denoise_data, format_of_name
from edgedenoise.bundles.archive import pack
from edgedenoise.errors import (
    BundleError,
    DataError,
    DeviceError,
    EdgeDenoiseError,
    IncompatibleError,
    ResultFileError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.exporting.web.site import BUNDLES, write_site
from edgedenoise.imaging.readers.options import ReadOptions
from edgedenoise.serve.access import KEY_VARIABLE, RequestGuard, RequestRefusedError, Sessions, refusal
from edgedenoise.serve.addresses import own_names
from edgedenoise.serve.lab import MAX_RESULT_BYTES, DeviceLab, Judged
from edgedenoise.serve.metrics import Metrics
from edgedenoise.serve.models import Wanted
from edgedenoise.serve.openapi import IMAGE_TYPES, document
from edgedenoise.serve.pages import plain_page
from edgedenoise.serve.slots import RETRY_AFTER_S, RequestSlots, busy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.serve.models import Model, Models
    from edgedenoise.serve.options import ServeOptions

_EVENT_WAIT_S: Final = 15.0
_UPLOAD_S: Final = 120
_MAX_LISTENERS: Final = 32
_log = logging.getLogger(__name__)
_INTERNAL: Final = "internal error; the terminal of the server has the details"
_REVALIDATE: Final = "no-cache"  # a browser asks whether its copy is still the current one


class _ClientGoneError(Exception):
    """The client has gone."""


def write_pages(models: Models, folder: Path) -> Path:
    """Write the browser app with the bundles, and return its folder, which is empty before `make web`."""
    try:
        return write_site([model.bundle for model in models.all.values()], folder, list(models.all))
    except (RuntimeUnavailableError, IncompatibleError):  # not built, or nothing for browsers in the bundles
        return folder


class Application:
    """The parts of one server and the answers to its requests."""

    def __init__(
        self,
        options: ServeOptions,
        models: Models,
        *,
        pages: Path,
        on_result: Callable[[Judged], None],
        on_token_used: Callable[[], None],
    ) -> None:
        """Put the parts together.

        Args:
            options: what is served.
            models: the bundles.
            pages: folder of the browser app, as `write_pages` returns it; a plain page is shown where it is empty.
                Archives of bundles are kept in it.
            on_result: called with each result of the device lab.
            on_token_used: called when the token of the QR code has been used up.
        """
        self._options, self._models = options, models
        is_open = options.is_local and not options.allowed_hosts
        self.sessions = None if is_open else Sessions(on_token_used, os.environ.get(KEY_VARIABLE))
        """Who may use the server; None where everyone who reaches it may."""
        self._lab = DeviceLab(options.results, options.limits, models, on_result)
        self._slots = RequestSlots(1, options.max_queue)
        self._metrics = Metrics(lambda: self._slots.taken)
        self._listeners = 0
        self._pages = pages
        self._stopping = threading.Event()
        self._arrived = anyio.Event()
        self._packing = threading.Lock()

    def stop(self) -> None:
        """Stop what is running, so that the server can end."""
        self._stopping.set()
        self._arrived.set()

    def asgi(self) -> ASGIApp:
        """Return the ASGI application, with its checks in front."""
        routes = [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/denoise", self.denoise, methods=["POST"]),
            Route("/bundles/{name}.edge", self.bundle),
            Route("/api/models", self.list_models),
            Route("/api/limits", self.limits),
            Route("/api/results", self.results, methods=["GET", "POST"]),
            Route("/api/events", self.events),
        ]
        if (self._pages / "index.html").is_file():
            routes.append(Route("/test", self.lab_page))
        else:
            routes += [Route("/", self.plain), Route("/test", self.plain)]
        app = Starlette(
            routes=routes,
            exception_handlers={
                EdgeDenoiseError: _error_answer,
                RequestRefusedError: _refused_answer,
                HTTPException: _http_answer,
                Exception: _unexpected_answer,
            },
        )
        if (self._pages / "index.html").is_file():
            # not a route: it would answer for all others, which refuse a method in their own way
            app.router.default = StaticFiles(directory=self._pages, html=True)
        return RequestGuard(app, own_names(self._options), self.sessions)

    async def health(self, _: Request) -> Response:
        """Return that the server runs."""
        return JSONResponse({"status": "ok", "version": edgedenoise.__version__})

    async def metrics(self, _: Request) -> Response:
        """Return the counters."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        """Return the description of the API."""
        return JSONResponse(document(list(self._models.all), self._options.max_upload))

    async def lab_page(self, _: Request) -> Response:
        """Return the page that tests a device."""
        return FileResponse(self._pages / "test.html", headers={"cache-control": _REVALIDATE})

    async def plain(self, _: Request) -> Response:
        """Return a page without the app, which says how to get it."""
        return HTMLResponse(plain_page(list(self._models.all)))

    async def list_models(self, _: Request) -> Response:
        """List the bundles."""
        return JSONResponse([model.description for model in self._models.all.values()])

    async def bundle(self, request: Request) -> Response:
        """Return a bundle as an archive."""
        model = self._models.get(request.path_params["name"])
        tag = f'"{model.bundle.manifest.digest}"'
        headers = {"etag": tag, "cache-control": _REVALIDATE}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        file = await anyio.to_thread.run_sync(self._archive, model)
        return FileResponse(file, media_type="application/zip", headers=headers)

    def _archive(self, model: Model) -> Path:
        """Return a bundle as one file, which is packed for the first request unless the app has brought it."""
        file = self._pages / BUNDLES / f"{model.name}.edge"
        with self._packing:
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                pack(model.bundle.root, file)
        return file

    async def limits(self, request: Request) -> Response:
        """Return the limits for a device."""
        found = self._lab.limits_of(request.query_params.get("model") or self._models.default)
        return JSONResponse(msgspec.to_builtins(found))

    async def results(self, request: Request) -> Response:
        """Receive the results of a device, or list those that were received."""
        if request.method != "POST":
            judged = self._lab.since(_whole_number(request.query_params.get("since", "0"), "since"))
            return JSONResponse(msgspec.to_builtins(judged))
        try:
            data = await _body(request, min(MAX_RESULT_BYTES, self._options.max_upload))
        except ClientDisconnect:
            return _client_gone()
        judged = await anyio.to_thread.run_sync(self._lab.receive, data)
        arrived, self._arrived = self._arrived, anyio.Event()
        arrived.set()
        for one in judged:
            self._metrics.results.labels("passed" if one.passed else "failed").inc()
        return JSONResponse(msgspec.to_builtins(judged), 201)

    async def events(self, request: Request) -> Response:
        """Send each result as a server-sent event while it arrives."""
        if self._listeners >= _MAX_LISTENERS:
            raise busy(f"too many pages listen for results: expected at most {_MAX_LISTENERS}")
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        since = request.headers.get("last-event-id") or request.query_params.get("since", "0")
        start = _whole_number(since, "since")
        return StreamingResponse(
            self._events(start), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def _events(self, number: int) -> AsyncIterator[bytes]:
        self._listeners += 1
        try:
            yield b"retry: 2000\n\n"
            while not self._stopping.is_set():
                arrived = self._arrived
                for one in self._lab.since(number):
                    number = one.number
                    yield f"id: {number}\ndata: {msgspec.json.encode(one).decode()}\n\n".encode()
                with anyio.move_on_after(_EVENT_WAIT_S):
                    await arrived.wait()
                yield b": still here\n\n"
        finally:
            self._listeners -= 1

    async def denoise(self, request: Request) -> Response:
        """Denoise the image in the body of a request."""
        try:
            answer = await self._denoise(request)
        except EdgeDenoiseError as error:
            answer = await _error_answer(request, error)
        except RequestRefusedError as error:
            answer = error.answer
        self._metrics.requests.labels(str(answer.status_code)).inc()
        return answer

    async def _denoise(self, request: Request) -> Response:
        wanted = self._wanted(request)
        text = request.query_params.get("format")
        format_ = None if text is None else format_of_name(text)
        done: DenoisedData | None = None
        failure: Exception | None = None
        async with self._slots.place():
            try:
                data = await _body(request, self._options.max_upload)
            except ClientDisconnect:
                return _client_gone()
            gone = threading.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_note_departure, request, gone, tasks.cancel_scope)
                try:
                    async with self._slots.running:
                        done = await anyio.to_thread.run_sync(self._denoised, data, wanted, format_, gone)
                except Exception as error:  # leaving the group with it would wrap it
                    failure = error
                tasks.cancel_scope.cancel()
        if failure is not None and not isinstance(failure, _ClientGoneError):
            raise failure
        if done is None:
            return _client_gone()
        seconds = done.result.seconds
        self._metrics.seconds.observe(seconds.denoise or 0.0)
        self._metrics.megapixels.inc(done.result.megapixels or 0.0)
        stages = {"read": seconds.read, "denoise": seconds.denoise, "write": seconds.write}
        headers = {
            "x-edgedenoise-variant": done.result.variant or "",
            "server-timing": ", ".join(f"{name};dur={1000 * (taken or 0):.1f}" for name, taken in stages.items()),
            "cache-control": "no-store",
        }
        return Response(done.data, media_type=IMAGE_TYPES.get(done.format, "application/octet-stream"), headers=headers)

    def _wanted(self, request: Request) -> Wanted:
        query = request.query_params
        model = query.get("model") or self._models.default
        self._models.get(model)
        try:
            strength = float(query.get("strength", "1"))
        except ValueError:
            strength = math.nan
        if not math.isfinite(strength):
            raise UsageError(f"strength is {query['strength']!r}; expected a number")
        return Wanted(model, query.get("precision") or self._options.precision, strength)

    def _denoised(self, data: bytes, wanted: Wanted, format_: str | None, gone: threading.Event) -> DenoisedData:
        """Denoise an image, in a thread of its own."""

        def on_tile(_: int, __: int) -> None:
            if gone.is_set() or self._stopping.is_set():
                raise _ClientGoneError

        with self._models.denoiser(wanted) as denoiser:

            def opened() -> Denoiser:
                return denoiser

            reading = ReadOptions(frames=True, max_pixels=self._options.max_pixels)
            return denoise_data(
                data,
                opened,
                name="the image",
                format_=format_,
                reading=reading,
                max_total_pixels=self._options.max_pixels,
                on_tile=on_tile,
            )


async def _note_departure(request: Request, gone: threading.Event, waiting: anyio.CancelScope) -> None:
    """Wait until the client closes its connection, and give up its image, also while it waits."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()
    waiting.cancel()


def _client_gone() -> Response:
    """Return the answer that nobody reads."""
    return Response(status_code=499)


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        RequestRefusedError: it is larger than `most` bytes, or takes too long; the rest is not read.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise _too_large(most)
    data = bytearray()
    try:
        with anyio.fail_after(_UPLOAD_S):
            async for piece in request.stream():
                data += piece
                if len(data) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise RequestRefusedError(
            408, "TooSlow", f"the request took too long to arrive: expected at most {_UPLOAD_S} seconds"
        ) from None
    return bytes(data)


def _too_large(most: int) -> RequestRefusedError:
    message = f"the request is too large: expected at most {most} bytes"
    return RequestRefusedError(413, "TooLarge", message, "Send less, or start the server with a larger --max-upload.")


def _whole_number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise UsageError(f"{name} is {text!r}; expected a whole number")
    return int(text)


_STATUS: Final[list[tuple[type[EdgeDenoiseError], int]]] = [
    (UsageError, 400),
    (ResultFileError, 422),
    (DataError, 422),
    (IncompatibleError, 409),
    (BundleError, 404),
    (RuntimeUnavailableError, 503),
    (DeviceError, 503),
]


async def _error_answer(_: Request, error: Exception) -> Response:
    """Return an error of edgedenoise as JSON."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if status == 500 or not isinstance(error, EdgeDenoiseError):
        _log.error("%s", error)
        return refusal(500, type(error).__name__, _INTERNAL, None)
    message, hint = error.message, error.hint
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else {}
    return refusal(status, type(error).__name__, message, hint, **headers)


async def _refused_answer(_: Request, error: Exception) -> Response:
    """Return the answer of a refusal."""
    if not isinstance(error, RequestRefusedError):
        raise error
    return error.answer


async def _http_answer(_: Request, error: Exception) -> Response:
    """Return an error of the routing, such as an unknown page, as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return refusal(error.status_code, "HttpError", str(error.detail), None, **dict(error.headers or {}))


async def _unexpected_answer(_: Request, error: Exception) -> Response:
    """Return an error that nobody expected, without its details, which the server's log has."""
    return refusal(500, type(error).__name__, _INTERNAL, None)
