"""Who may use a server: checks of the host, the origin and the session, in front of every request.

A server on the loopback interface needs no session. On any other interface a browser brings a one-time token from the
QR code, and gets a cookie for it; the next browser needs the next token. Programs send the key that the environment
variable `EDGEDENOISE_SERVE_KEY` states.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY_VARIABLE: Final = "EDGEDENOISE_SERVE_KEY"
COOKIE: Final = "edgedenoise-session"
"""Beginning of the name of the cookie; the port follows."""
_OPEN_PATHS: Final = frozenset({"/healthz"})
_MAX_SESSIONS: Final = 1000
_LONGEST_COOKIE: Final = 4096

# The app, its worker and the WebAssembly runtime come from this server; nothing is sent anywhere else.
POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self' blob: data:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    # threads of WebAssembly need a page that is isolated from other origins
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every answer."""


class Sessions:
    """One-time tokens, and the sessions of those who brought one.

    Example:
        >>> sessions = Sessions(lambda: None)
        >>> token = sessions.token
        >>> sessions.knows(sessions.exchange(token)), sessions.exchange(token) is None
        (True, True)
    """

    def __init__(self, on_used: Callable[[], None], key: str | None = None) -> None:
        """Create the first token.

        Args:
            on_used: called when a token has been used and `token` is the next one.
            key: secret of programs that use the API; None for no such program.
        """
        self.token = secrets.token_urlsafe(24)
        """The token that has not been used yet."""
        self._on_used = on_used
        self._key = key or None
        self._sessions: dict[str, None] = {}  # in order of time

    def exchange(self, token: str) -> str | None:
        """Return a new session for the current token, which then is used up; None for any other token."""
        if not _equal(token, self.token):
            return None
        self.token = secrets.token_urlsafe(24)
        session = secrets.token_urlsafe(24)
        while len(self._sessions) >= _MAX_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[session] = None
        self._on_used()
        return session

    def knows(self, session: str | None) -> bool:
        """Return whether a session is one of ours."""
        return session is not None and any(_equal(session, known) for known in self._sessions)

    def has_key(self, authorization: str) -> bool:
        """Return whether the header `Authorization` has the key of programs."""
        scheme, _, value = authorization.partition(" ")
        return self._key is not None and scheme.lower() == "bearer" and _equal(value.strip(), self._key)


def _equal(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


class RequestGuard:
    """An ASGI application behind the checks, which adds `HEADERS` to its answers."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], sessions: Sessions | None) -> None:
        """Wrap an application.

        Args:
            app: the application.
            hosts: names and addresses of this machine, in lower case and without a port. Requests for other names are
                refused: a website could point its own name at this machine.
            sessions: None where everyone who reaches the server may use it.
        """
        self._app, self._hosts, self._sessions = app, frozenset(hosts) - {""}, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        refused = self._refusal(scope)
        await (self._app if refused is None else refused)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not for the application; None for all others."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host_name(host) not in self._hosts:
            return refusal(
                421, "UnknownHost", "the server was asked for under a name that it does not have",
                "Open the address that the command printed, or add --allow-host NAME to the command.",
            )  # fmt: skip
        if _is_foreign(headers, host):
            return refusal(
                403, "ForeignOrigin", "a page of another website sent this request", "Open this server's own page."
            )
        if self._sessions is None or scope["path"] in _OPEN_PATHS:
            return None
        return self._without_session(scope, headers, self._sessions)

    def _without_session(self, scope: Scope, headers: Headers, sessions: Sessions) -> Response | None:
        cookie = f"{COOKIE}-{(scope.get('server') or ('', 0))[1]}"  # a browser keeps one jar for all ports
        if sessions.knows(_cookie(headers, cookie)) or sessions.has_key(headers.get("authorization", "")):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        session = sessions.exchange(given) if given and scope["method"] == "GET" else None
        if session is None:
            return refusal(
                401, "NoSession", "this server needs a token: expected the one of the QR code, got none or a used one",
                f"Scan the newest QR code in the terminal. Programs send the key of {KEY_VARIABLE} as a bearer token.",
            )  # fmt: skip
        answer = RedirectResponse("/" + scope["path"].lstrip("/"), status_code=303)  # the token leaves the address bar
        secure = scope["scheme"] == "https"
        answer.set_cookie(cookie, session, httponly=True, samesite="lax", secure=secure, path="/")
        return answer


class RequestRefusedError(Exception):
    """A request that the server does not answer as asked, whatever it contains."""

    def __init__(self, status: int, name: str, message: str, hint: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.answer = refusal(status, name, message, hint, **headers)
        """The answer to it."""


def refusal(status: int, name: str, message: str, hint: str | None, **headers: str) -> JSONResponse:
    """Return an error as JSON: `error`, `message` and `hint`, as the errors of the command line have them."""
    return JSONResponse({"error": name, "message": message, "hint": hint}, status, headers=headers or None)


def host_name(host: str) -> str:
    """Return the name in a `Host` header, in lower case and without the port.

    Example:
        >>> host_name("Laptop.local:8765"), host_name("[::1]:80")
        ('laptop.local', '::1')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_foreign(headers: Headers, host: str) -> bool:
    """Return whether a page of another website sent a request; following a link is no such request."""
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != host
    except ValueError:
        return True


def _cookie(headers: Headers, name: str) -> str | None:
    text = headers.get("cookie", "")
    if len(text) > _LONGEST_COOKIE:
        return None
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(text)
    except CookieError:
        return None
    return jar[name].value if name in jar else None
