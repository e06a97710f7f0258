"""The tokenizer in a checkpoint's own folder, for text and tasks where the eval set names none."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from evalcore.messages import EvalSetSpec, Item
from evalcore.tasks.spec import TOKENS

#: Reading these needs a tokenizer; token files have ids already.
TEXT_KINDS = {"text", "jsonl", "json", "table"}
NOTE = "tokenized with the folder's own tokenizer.json"


def folder_of(item: Item) -> str:
    """The checkpoint's folder: itself, or that of a safetensors file, which has its configuration beside it."""
    is_weights = item.path.endswith(".safetensors") and not os.path.isdir(item.path)
    return os.path.dirname(item.beside or item.path) if is_weights else item.path


def with_own_tokenizer(eval_set: EvalSetSpec, checkpoint: str) -> EvalSetSpec:
    """The eval set with the folder's tokenizer.json where it needs a tokenizer, names none, and there is one."""
    own = os.path.join(checkpoint, "tokenizer.json")
    if eval_set.tokenizer is not None or not _needs_tokenizer(eval_set) or not os.path.isfile(own):
        return eval_set
    digest = "sha256:" + hashlib.sha256(Path(own).read_bytes()).hexdigest()
    return replace(eval_set, tokenizer=own, tokenizer_digest=digest)


def _needs_tokenizer(eval_set: EvalSetSpec) -> bool:
    if eval_set.task is not None:
        return eval_set.task.rendering != TOKENS
    return eval_set.format in TEXT_KINDS or bool(TEXT_KINDS & set(eval_set.kinds))
