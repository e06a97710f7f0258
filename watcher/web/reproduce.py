"""The command line that reproduces one result. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any

Row = dict[str, Any]


def command(checkpoint: Row, spec_json: str, result: Row | None = None) -> str:
    """`ckptwatch eval CKPT ...` with the set's declared values and the result's resolved ones.

    checkpoint: a row with `dir` and `path`. spec_json: the set's frozen definition. Every argument is quoted.
    """
    spec = json.loads(spec_json)
    words = ["ckptwatch", "eval", f"{checkpoint.get('dir') or '.'}/{checkpoint['path']}"]
    for path in spec.get("paths") or ():
        words += ["--data", path]
    resolved = result or {}
    for flag, value in (
        ("--tokenizer", spec.get("tokenizer")),
        ("--seq-len", resolved.get("seq_len") or spec.get("seq_len")),
        ("--stride", _unless_default(resolved.get("stride") or spec.get("stride"), resolved.get("seq_len"))),
        ("--max-tokens", spec.get("max_tokens")),
        ("--dtype", resolved.get("dtype") or _unless_default(spec.get("dtype"), "auto")),
        ("--device", str(resolved["device"]).split(":")[0].split(" ")[0] if resolved.get("device") else None),
        ("--nproc", _unless_default(resolved.get("world_size"), 1)),
        ("--batch-size", resolved.get("batch_size")),
    ):
        if value is not None:
            words += [flag, str(value)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """For a shell; what a page could not show (control characters, bidi marks) as bash's $'...' escapes."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + "'"


def _unless_default(value: Any, default: Any) -> Any:
    return None if value == default else value
