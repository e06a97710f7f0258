"""The one route that writes: a note or tag goes as an order into the daemon's inbox. Only with `[web] edit = true`.

Checks the edit token and the Origin of each request; never touches the database.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from watcher.state.commands import Annotation, Order, send
from watcher.web.source import Source

BODY_MAX_BYTES = 16_384  # a note of 4,000 characters, percent-encoded
PATH = "/annotations"


class Refused(Exception):
    """status: of the answer. The words are for the person who sent the form."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def annotate(source: Source, token: str, headers: Mapping[str, str], body: bytes) -> str:
    """Send the order; the address to go back to. Raises Refused."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if not origin or urlsplit(origin).netloc.lower() != host.lower():
        raise Refused(403, "the request does not come from this page (Origin and Host differ)")
    if headers.get("content-type", "").split(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refused(415, "a form is expected")
    try:
        fields = {name: values[-1] for name, values in parse_qs(body.decode(), max_num_fields=12).items()}
    except ValueError:
        raise Refused(400, "the form cannot be read") from None
    if not hmac.compare_digest(fields.get("token", "").encode(), token.encode()):
        raise Refused(403, "wrong edit token; it is `edit_token` in the section [web] of ckptwatch.toml")
    send(source.state.inbox, Order("annotate", annotation=_annotation(fields)))
    back = fields.get("back", "/")
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable() else "/"


def _annotation(fields: Mapping[str, str]) -> Annotation:
    remove, checkpoint = _number(fields.get("remove")), _number(fields.get("checkpoint"))
    kind, text = fields.get("kind", ""), fields.get("text", "").strip()
    if remove is None and (kind not in ("note", "tag") or not text or not fields.get("run")):
        raise Refused(400, "a note or tag needs a run and a text")
    return Annotation(fields.get("run", ""), checkpoint, kind, text, remove)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
