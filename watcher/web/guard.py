"""Checks every request (method, Host, Origin, path, size) and sets the security headers of every response.

ASGI middleware in front of the application; it knows no pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

URL_MAX_BYTES = 4096
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: No inline script or style, nothing from elsewhere, no frames, no forms to elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a browser sends `Origin: null` with the page's own forms
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """ASGI middleware. hosts: further Host names that requests may carry. written: the one path that takes a POST."""

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str] = (), written: str | None = None, body_max_bytes: int = 0
    ) -> None:
        self._app = app
        self._written = written
        self._body_max_bytes = body_max_bytes
        self._hosts = LOOPBACK_NAMES | {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refused = self._why_refused(scope)
        if refused is None:
            await self._app(scope, receive, _with_headers(send))
            return
        status, why = refused
        extra = {"allow": "GET, HEAD"} if status == 405 else {}
        answer = PlainTextResponse(f"{why}\n", status, {**extra, "connection": "close", "cache-control": "no-store"})
        await answer(scope, receive, _with_headers(send))

    def _why_refused(self, scope: Scope) -> tuple[int, str] | None:
        writes = scope["method"] == "POST" and self._written is not None and scope["path"] == self._written
        if scope["method"] not in ("GET", "HEAD") and not writes:
            return 405, "the dashboard is read-only: GET and HEAD only"
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        if len(raw_path) + len(scope["query_string"]) > URL_MAX_BYTES:
            return 414, f"the address is longer than {URL_MAX_BYTES} bytes"
        path = scope["path"]
        if any(sign in path for sign in ("\0", "\\")) or ".." in path.split("/"):
            return 400, "invalid path"
        headers = [(key.lower(), value) for key, value in scope["headers"]]
        hosts = [value for key, value in headers if key == b"host"]
        if len(hosts) != 1 or not self._is_known(hosts[0].decode("latin-1")):
            return 403, "unknown Host; if this name is yours, add it to [web] allowed_hosts"
        origin = next((value.decode("latin-1") for key, value in headers if key == b"origin"), None)
        if origin is not None and not self._is_known(origin.partition("://")[2]):
            return 403, "requests from another site are refused"
        lengths = [value for key, value in headers if key == b"content-length"]
        if any(key == b"transfer-encoding" for key, _ in headers) or len(lengths) > 1:
            return 413, "a request with a body of unknown length is refused"
        length = int(lengths[0]) if lengths and lengths[0].isdigit() else 0 if not lengths else -1
        if not 0 <= length <= (self._body_max_bytes if writes else 0):
            return 413, "a request with a body is refused" if not writes else "the body is too long"
        return None

    def _is_known(self, host: str) -> bool:
        try:
            return (urlsplit(f"//{host}").hostname or "") in self._hosts
        except ValueError:
            return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sending
