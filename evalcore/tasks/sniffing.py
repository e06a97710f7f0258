"""Is a data file a task's items? Evidence from its first row, or the columns or magic number of a binary file.

Owns the fields by which a task is known, and which files of labels belong to a file of items. Standard library only:
the daemon asks before it makes an eval set. Never reads beyond the first row, never decides between two tasks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalcore.archive.signatures import LLMC_ITEMS
from evalcore.data_digest import files_of_dataset, kind_of_name
from evalcore.tasks.arrow_columns import arrow_columns
from evalcore.tasks.parquet_columns import parquet_columns
from evalcore.tasks.rows import RowError, is_parquet, is_table, read_rows
from evalcore.tasks.spec import TOKENS

#: First number of llm.c's tokenised multiple-choice items.
_LABELLED = ("hellaswag", "piqa", "winogrande")
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
#: task -> fields that its items have, and, where these are common names, the only others that they may have
_FIELDS: dict[str, tuple[frozenset[str], frozenset[str] | None]] = {
    "hellaswag": (frozenset({"ctx", "endings"}), None),
    "piqa": (frozenset({"goal", "sol1", "sol2"}), None),
    "winogrande": (frozenset({"sentence", "option1", "option2"}), None),
    "sciq": (frozenset({"question", "correct_answer", "distractor1", "distractor2", "distractor3"}), None),
    "openbookqa": (frozenset({"question_stem", "choices", "answerKey"}), None),
    "arc": (frozenset({"question", "choices", "answerKey"}), frozenset({"id", "answer"})),
    "mmlu": (frozenset({"question", "choices", "answer"}), frozenset({"id", "subject"})),
    "boolq": (frozenset({"question", "passage"}), frozenset({"answer", "label", "title", "idx"})),
    "multiple_choice": (frozenset({"query", "choices", "gold"}), None),
    "schema": (frozenset({"context_options", "continuation", "gold"}), None),
    "language_modeling": (frozenset({"context", "continuation"}), None),
}


@dataclass(frozen=True)
class TaskEvidence:
    """candidates: task names (keys of `spec.TASKS`, or `tokens`) whose items these are; several where the fields do not
    tell. also_text: the rows have a field `text` as well. why: a clause for a sentence."""

    candidates: tuple[str, ...]
    also_text: bool
    why: str

    @property
    def task(self) -> str | None:
        """The task, where only one fits."""
        return self.candidates[0] if len(self.candidates) == 1 else None


def sniff_task(path: str) -> TaskEvidence | None:
    """What task the file holds items of, or None: none, plain text, or a file that cannot be read so far.

    A folder of Hugging Face datasets is known by its first file.
    """
    path = (files_of_dataset(path) or [path])[0]
    try:
        if _is_tokens(path):
            return TaskEvidence((TOKENS,), False, "its header is that of llm.c's tokenised items")
        if is_table(path):
            names = parquet_columns(path) if is_parquet(path) else arrow_columns(path)
            return None if names is None else _evidence(path, dict.fromkeys(names))
        plain = path.lower().removesuffix(".gz").removesuffix(".zst")
        if not plain.endswith(_JSON_SUFFIXES):
            return None
        row = next(read_rows(path), None)
    except (OSError, RowError):
        return None  # the reader of the data names the problem
    return None if row is None else _evidence(path, row.fields)


def text_format(path: str) -> str:
    """The `format` by which the texts of a file are read that also holds items."""
    name = (files_of_dataset(path) or [path])[0]
    return kind if (kind := kind_of_name(name)) in ("json", "parquet", "arrow") else "jsonl"


def count_items(path: str) -> int:
    """Number of items of a file that `sniff_task` knows. Raises RowError for a row that cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise RowError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
    if len(head) == 12 and struct.unpack_from("<i", head)[0] == LLMC_ITEMS:
        return struct.unpack("<iii", head)[2]
    return sum(1 for _ in read_rows(path))


def label_files(path: str, rendering: str) -> tuple[str, ...]:
    """Files that may hold the labels of these items, whether they are there or not."""
    if rendering not in _LABELLED:
        return ()
    stem = path
    for suffix in (".gz", ".zst", *_JSON_SUFFIXES):
        stem = stem.removesuffix(suffix)
    return (f"{stem}-labels.lst",)


def _is_tokens(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(4)
    return len(head) == 4 and struct.unpack("<i", head)[0] == LLMC_ITEMS


def _evidence(path: str, fields: Mapping[str, Any]) -> TaskEvidence | None:
    names = set(fields)
    also_text = "text" in names
    fitting = [
        task
        for task, (needed, others) in _FIELDS.items()
        if needed <= names and (others is None or names - {"text"} <= needed | others)
    ]
    if isinstance(fields.get("question"), Mapping):
        fitting = ["arc", "openbookqa"] if {"question", "answerKey"} <= names else []
    elif fitting == ["mmlu"] and "subject" not in names:
        fitting = _arc_or_mmlu(fields["choices"], fields["answer"])
    if "hellaswag" in fitting:  # the harness's own rows have query, choices and gold beside the raw fields
        fitting = ["hellaswag"]
    if not fitting:
        return None
    candidates = _told_by_name(os.path.basename(path).lower(), fitting)
    return TaskEvidence(candidates, also_text, f"its rows have the fields {', '.join(fields)}"[:200])


def _arc_or_mmlu(choices: Any, answer: Any) -> list[str]:
    """ARC's choices have labels, MMLU's are texts with the number of the right one."""
    if isinstance(choices, Mapping) or (isinstance(choices, list) and any(isinstance(c, Mapping) for c in choices)):
        return ["arc"]
    return ["mmlu"] if isinstance(choices, list) and isinstance(answer, int) else ["arc", "mmlu"]


def _told_by_name(name: str, fitting: list[str]) -> tuple[str, ...]:
    """AI2's own files of ARC and OpenBookQA have the same fields; ARC's two halves always do."""
    if fitting == ["arc", "openbookqa"]:
        told = [task for task, words in (("arc", ("arc",)), ("openbookqa", ("openbook", "obqa"))) if _has(name, words)]
        fitting = told if len(told) == 1 else fitting
    if fitting == ["arc"]:
        told = [half for half in ("easy", "challenge") if half in name]
        return (f"arc_{told[0]}",) if len(told) == 1 else ("arc",)
    return tuple(fitting)


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)
