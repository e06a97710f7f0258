"""The tokenizer in a checkpoint's own folder, for text and tasks where the eval set names none."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from evalcore.messages import EvalSetSpec, Item
from evalcore.tasks.spec import TOKENS

#: Reading these needs a tokenizer; token files have ids already.
TEXT_KINDS = {"text", "jsonl", "json", "table", "parquet", "arrow"}
NOTE = "tokenized with the folder's own tokenizer.json"


def folder_of(item: Item) -> str:
    """The checkpoint's folder: itself, or that of a safetensors file, which has its configuration beside it."""
    return folder_beside(item.path, item.beside)


def folder_beside(path: str, beside: str = "") -> str:
    """The same of a path. beside: the trainer's own path, where `path` is a copy."""
    is_weights = path.endswith(".safetensors") and not os.path.isdir(path)
    return os.path.dirname(beside or path) if is_weights else path


def own_tokenizer(checkpoint: str) -> str | None:
    """The tokenizer.json in the checkpoint's folder; None where there is none."""
    own = os.path.join(checkpoint, "tokenizer.json")
    return own if os.path.isfile(own) else None


def with_own_tokenizer(eval_set: EvalSetSpec, checkpoint: str) -> EvalSetSpec:
    """The eval set with the folder's tokenizer.json where it needs a tokenizer, names none, and there is one."""
    own = own_tokenizer(checkpoint)
    if eval_set.tokenizer is not None or not _needs_tokenizer(eval_set) or own is None:
        return eval_set
    digest = "sha256:" + hashlib.sha256(Path(own).read_bytes()).hexdigest()
    return replace(eval_set, tokenizer=own, tokenizer_digest=digest)


def _needs_tokenizer(eval_set: EvalSetSpec) -> bool:
    if eval_set.sample is not None:
        return True
    if eval_set.task is not None:
        return eval_set.task.rendering != TOKENS
    return eval_set.format in TEXT_KINDS or bool(TEXT_KINDS & set(eval_set.kinds))
