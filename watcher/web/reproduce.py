"""The command line that reproduces one result. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalcore.tasks.spec import TASKS, TOKENS

Row = dict[str, Any]
#: A database of its own: the result that is reproduced stays as it is.
DATABASE = "reproduce.db"


@dataclass(frozen=True)
class ModelFlags:
    """The `[model]` section as flags. settings_digest: of that section, as checkpoints keep it."""

    factory: str | None = None
    python_path: Sequence[str] = ()
    config: str | None = None
    state: str | None = None
    settings_digest: str | None = None

    def words(self) -> list[str]:
        words = ["--model-factory", self.factory] if self.factory else []
        for folder in self.python_path if self.factory else ():
            words += ["--python-path", folder]
        words += ["--model-config", self.config] if self.config else []
        return words + (["--model-state", self.state] if self.state else [])


def command(checkpoint: Row, spec_json: str, model: ModelFlags, result: Row | None = None) -> str:
    """`ckptwatch eval CKPT ...` with the set's declared values, and the result's device, processes and batch size.

    What is declared `auto` stays so: on the same checkpoint and device it resolves to the same, and the digest of the
    set stays the same too. A task of a bundle has the same scores but for its random baseline, which is in the bundle.

    checkpoint: a row with `dir` and `path`. spec_json: the set's frozen definition. Every argument is quoted.
    """
    spec = json.loads(spec_json)
    words = ["ckptwatch", "eval", f"{checkpoint.get('dir') or '.'}/{checkpoint['path']}"]
    for path in spec.get("paths") or ():
        words += ["--data", path]
    words += ["--one-set"] if len(spec.get("paths") or ()) > 1 else []
    resolved, task = result or {}, spec.get("task") or {}
    is_stream = not task
    for flag, value in (
        ("--task", _task_flag(task)),
        ("--scoring", task.get("scoring")),
        ("--shots", task.get("shots") or None),
        ("--delimiter", _unless_default(task.get("delimiter"), " ")),
        ("--max-items", task.get("max_items")),
        ("--format", _unless_default(spec.get("format"), "auto") if is_stream else None),
        ("--token-dtype", spec.get("token_dtype")),
        ("--text-field", _unless_default(spec.get("text_field"), "text")),
        ("--tokenizer", spec.get("tokenizer")),
        ("--seq-len", spec.get("seq_len")),
        ("--stride", spec.get("stride")),
        ("--max-tokens", spec.get("max_tokens")),
        ("--dtype", _unless_default(spec.get("dtype"), "auto")),
        ("--device", str(resolved["device"]).split(":")[0].split(" ")[0] if resolved.get("device") else None),
        ("--nproc", _unless_default(resolved.get("world_size"), 1)),
        ("--batch-size", resolved.get("batch_size")),
    ):
        if value is not None:
            words += [flag, str(value)]
    if task.get("bos") is not None:
        words.append("--bos" if task["bos"] else "--no-bos")
    words += [*model.words(), "--db", DATABASE, "--again"]
    return " ".join(map(_quoted, words))


def _task_flag(task: Row) -> str | None:
    """The name that --task takes; the tasks of a bundle have names of their own. None: tokenised items need no flag."""
    name, rendering = task.get("name"), task.get("rendering")
    known = TASKS.get(name or "") == rendering
    return name if known else rendering if rendering != TOKENS else None


def _quoted(word: str) -> str:
    """For a shell; what a page could not show (control characters, bidi marks) as bash's $'...' escapes."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + "'"


def _unless_default(value: Any, default: Any) -> Any:
    return None if value == default else value
