"""The HTTP server of ``review``: one page and its requests, for one reader on this machine.

Every address starts with a secret token; a request with another Host (DNS rebinding) or from
another origin is refused before anything is looked up, and scans are asked for by number, so no id
or path of a request reaches the file system. No response is cached, the page may load and contact
nothing but this server, and a request's body is read up to the size that its scan allows.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files as package_files
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import CardiometaError, OutputError, UsageError
from .session import ReviewError, Session

_MOST_JSON: Final = 16_384
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_JSON: Final = "application/json"
_BYTES: Final = "application/octet-stream"


class Guard:
    """Refuses what does not come from the page that was opened with the token."""

    def __init__(self, app: ASGIApp, token: str, hosts: tuple[str, ...]) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, remove the token from the path, add the headers."""
        if scope["type"] != "http":
            return
        problem = self._problem(scope)
        if problem is not None:
            status, text = problem
            await Response(text, status, _HEADERS, "text/plain")(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        path = "/" + scope["path"].lstrip("/").partition("/")[2]
        inner = {**scope, "path": path, "raw_path": path.encode("ascii", "replace")}
        await self._app(inner, receive, with_headers)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return 400, "Wrong host. Open the address that the command printed."
        token, slash, _ = scope["path"].lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()) or not slash:
            return 403, "Wrong or missing token. Open the address that the command printed."
        origin = headers.get("origin")
        if origin is not None and origin not in [f"http://{host}" for host in self._hosts]:
            return 403, "Wrong origin."
        if scope["method"] not in ("GET", "HEAD"):
            site = headers.get("sec-fetch-site", "same-origin" if origin else "none")
            if site != "same-origin":
                return 403, "Only the review page may send changes."
            if headers.get("content-type", "") not in (_JSON, _BYTES):
                return 415, "Wrong content type."
        return None


def app_of(session: Session, token: str, hosts: tuple[str, ...]) -> ASGIApp:
    """The application; ``hosts`` are the values of Host that are answered (``name:port``)."""
    routes = [
        Route("/", _page),
        Route("/page/{name}", _page),
        Route("/api/scans", _answer(lambda s, _, __: s.table())),
        Route("/api/scans/{n:int}", _answer(lambda s, n, _: s.describe(n))),
        Route("/api/scans/{n:int}/{axis}/{index:int}", _image),
        Route("/api/scans/{n:int}/labels", _labels, methods=["GET"]),
        Route("/api/scans/{n:int}/labels", _put_labels, methods=["PUT"]),
        *(
            Route(f"/api/scans/{{n:int}}/{name}", _answer(action), methods=["POST"])
            for name, action in _ACTIONS.items()
        ),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers=dict.fromkeys((ReviewError, CardiometaError), _failed),
    )
    app.state.session = session
    return Guard(app, token, hosts)


async def _failed(_: Request, error: Exception) -> Response:
    """What cannot be done, or a disk that is full or gone: the page says so."""
    if isinstance(error, ReviewError):
        return JSONResponse({"error": error.message}, error.status)
    assert isinstance(error, CardiometaError)
    status = 507 if isinstance(error, OutputError) else 500
    return JSONResponse({"error": f"{error.message} {error.hint}".strip()}, status)


_PAGES: Final[dict[str, bytes]] = {}


async def _page(request: Request) -> Response:
    """A file of the page, from memory: there is no path to follow."""
    if not _PAGES:
        folder = package_files(__package__) / "page"
        _PAGES.update({entry.name: entry.read_bytes() for entry in folder.iterdir()})
    name = request.path_params.get("name", "index.html")
    kind = _TYPES.get("." + name.rpartition(".")[2], "")
    if name not in _PAGES or not kind:
        return Response("There is no such page.", 404)
    return Response(_PAGES[name], media_type=kind)


async def _body(request: Request, most: int) -> bytes:
    """The body, at most ``most`` bytes of it in memory; raises ReviewError."""
    declared = request.headers.get("content-length", "0")
    data = bytearray()
    if declared.isdecimal() and int(declared) <= most:
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                break
        else:
            return bytes(data)
    raise ReviewError(f"The request is larger than {most} bytes.", 413)


def _session(request: Request) -> Session:
    session: Session = request.app.state.session
    return session


async def _given(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request; raises ReviewError."""
    import json

    try:
        given = json.loads(await _body(request, _MOST_JSON) or b"{}")
    except ValueError:
        raise ReviewError("The request is not JSON.") from None
    if not isinstance(given, dict):
        raise ReviewError("The request is not a JSON object.")
    return given


_Action = Callable[[Session, int, Mapping[str, Any]], Any]


def _answer(action: _Action) -> Callable[[Request], Awaitable[Response]]:
    """A request that is answered in JSON by a function of the session."""

    async def answer(request: Request) -> Response:
        given = await _given(request) if request.method == "POST" else {}
        n = request.path_params.get("n", 0)
        return JSONResponse(await run_in_threadpool(action, _session(request), n, given))

    return answer


async def _image(request: Request) -> Response:
    axis, index = request.path_params["axis"], request.path_params["index"]
    if axis not in ("phase", "slice"):
        raise ReviewError("There is no such image.", 404)
    session, n = _session(request), request.path_params["n"]
    data = await run_in_threadpool(session.image, n, axis, index)
    return Response(data, media_type=_BYTES)


async def _labels(request: Request) -> Response:
    session, n = _session(request), request.path_params["n"]
    whose = "model" if request.query_params.get("whose") == "model" else "reader"
    data = await run_in_threadpool(session.labels, n, whose)
    return Response(data, media_type=_BYTES, headers={"Content-Encoding": "gzip"})


async def _put_labels(request: Request) -> Response:
    """Labels of slices: ``?at=phase,slice;…&revision=N``, the bytes of all one after the other."""
    session, n = _session(request), request.path_params["n"]
    try:
        revision = int(request.query_params["revision"])
        pairs = [part.split(",") for part in request.query_params["at"].split(";")]
        places = [(int(phase), int(place)) for phase, place in pairs]
    except (KeyError, ValueError):
        raise ReviewError("The place of the labels is missing.") from None
    scan = await run_in_threadpool(session.scan, n)
    t, z, y, x = scan.labels.shape
    if len(places) > t * z:
        raise ReviewError("There are too many slices.")
    data = await _body(request, len(places) * y * x)
    return JSONResponse(await run_in_threadpool(session.put_labels, n, places, data, revision))


def _integer(given: Mapping[str, Any], name: str) -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ReviewError(f"{name} is missing.")
    return value


def _frame(given: Mapping[str, Any], name: str) -> int | None:
    return None if given.get(name) is None else _integer(given, name)


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    return value if isinstance(value, str) else ""


def _seconds(given: Mapping[str, Any]) -> float:
    value = given.get("seconds", 0.0)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else 0.0


_ACTIONS: Final[dict[str, _Action]] = {
    "frames": lambda s, n, g: s.set_frames(
        n, _frame(g, "ed"), _frame(g, "es"), _integer(g, "revision")
    ),
    "restore": lambda s, n, g: s.restore(n, _integer(g, "revision")),
    "save": lambda s, n, g: s.save(n, _seconds(g), _text(g, "comment")),
    "decision": lambda s, n, g: s.decide(
        n,
        _text(g, "decision"),
        _integer(g, "revision"),
        reason=_text(g, "reason"),
        comment=_text(g, "comment"),
        seconds=_seconds(g),
    ),
    "preload": lambda s, n, _: {"open": s.scan(n) is not None},
}


class Server:
    """The server on its socket: `address` is to be opened, `run` returns when it was stopped."""

    def __init__(self, session: Session, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - refused
            raise UsageError(
                f"--host {host or chr(39) * 2} is every address of this machine.",
                hint="Give the one address or name that the browser will use.",
            )
        hint = "Choose another --port, or leave it out for a free one."
        if not 0 <= port < 65_536:
            raise UsageError(f"--port {port} cannot be used: ports end at 65535.", hint=hint)
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = (error.strerror or "unknown address").lower()
            what = f"The address {host}, port {port}, cannot be used: {reason}."
            raise UsageError(what, hint=hint) from None
        self.port = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        names = (shown, "localhost") if host == "127.0.0.1" else (shown,)
        token = secrets.token_urlsafe(24)
        self.address = f"http://{shown}:{self.port}/{token}/"
        app = app_of(session, token, tuple(f"{name}:{self.port}" for name in names))
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=3,
        )
        self._server, self._session = uvicorn.Server(config), session

    def run(self) -> None:
        """Serve until Ctrl-C or `stop`."""
        threading.Thread(target=self._session.warm, daemon=True).start()
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run` in another thread."""
        self._server.should_exit = True
