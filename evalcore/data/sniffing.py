"""What a data file is, for a person: format, token count, largest id, and what looks wrong with it.

Owns the list of problems. Reads; never writes outside the token cache.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalcore.data.data_file import DataFile
from evalcore.data.documents import Meter, documents
from evalcore.data.errors import DataError
from evalcore.data.formats import recognise
from evalcore.data.opening import meta_of, open_stream
from evalcore.data.stream import ReportPhase, TokenStream
from evalcore.data_digest import files_of_dataset
from evalcore.messages import EvalSetSpec
from evalcore.tasks.rows import RowError
from evalcore.tasks.sniffing import TaskEvidence, count_items, sniff_task, text_format


@dataclass
class Sniffed:
    """What a file is, and what is wrong with it.

    kind: text | jsonl | json | parquet | npy | bin | raw | task | foreign. task, items: where the rows are those of a
    task; task is None where several fit. tokens, largest_id: None for text without a tokenizer.
    bytes: of the file. documents: where they are known. problems: sentences, empty where all is well.
    """

    path: str
    kind: str
    label: str
    bytes: int
    dtype: str | None = None
    tokens: int | None = None
    smallest_id: int | None = None
    largest_id: int | None = None
    documents: int | None = None
    text_bytes: int | None = None
    vocab_size: int | None = None
    problems: list[str] = field(default_factory=list)
    task: str | None = None
    items: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def sniff(
    path: str | os.PathLike[str],
    *,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    seq_len: int = 1024,
    token_dtype: str | None = None,
    format: str = "auto",
    text_field: str = "text",
    max_tokens: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    report: ReportPhase | None = None,
) -> Sniffed:
    """Describe a file; one that cannot be read as data comes back as kind `foreign` with its problem.

    Raises DataError only where the path does not exist. vocab_size, seq_len: of the model it is meant for. report:
    called as a large file is tokenised or read.
    """
    file = Path(path)
    if not file.exists() and not file.is_symlink():
        raise DataError(f"{file} does not exist", "check the path")
    members = files_of_dataset(str(file)) or [str(file)]
    size = sum(os.stat(member).st_size for member in members if os.path.exists(member))
    if format == "auto" and token_dtype is None and (evidence := sniff_task(str(file))) is not None:
        return _sniffed_task(str(file), size, evidence)
    try:
        recognised = recognise(Path(members[0]), format, token_dtype)
    except DataError as error:
        return Sniffed(str(file), "foreign", error.reason, size, problems=[str(error)])
    dtype = str(recognised.dtype) if recognised.dtype is not None else None
    sniffed = Sniffed(str(file), recognised.kind, recognised.label, size, dtype)
    spec = EvalSetSpec(
        "data", tuple(members), format, tokenizer, None, None, max_tokens, "auto", text_field, token_dtype
    )
    try:
        if recognised.is_text and tokenizer is None:
            _try_first_document(recognised, text_field)
        else:
            _measure(sniffed, open_stream(spec, cache_dir=cache_dir, report=report), report)
    except DataError as error:
        sniffed.problems.append(str(error))
    if sniffed.vocab_size is None and (meta := meta_of(recognised)) is not None:
        sniffed.vocab_size = meta.vocab_size
    _add_problems(sniffed, vocab_size, seq_len)
    return sniffed


def _sniffed_task(path: str, size: int, evidence: TaskEvidence) -> Sniffed:
    names = " or ".join(evidence.candidates)
    sniffed = Sniffed(path, "task", f"items of {names}", size, task=evidence.task)
    if evidence.task is None:
        sniffed.problems.append(f"{path} may hold items of {names}: {evidence.why}; give --task NAME")
    if evidence.also_text:
        sniffed.problems.append(
            f"{path} is both: items of {names} and documents with a field `text`; give --task NAME, or --format "
            f"{text_format(path)}"
        )
    try:
        sniffed.items = sum(map(count_items, files_of_dataset(path) or [path]))
    except RowError as error:
        sniffed.problems.append(str(error))
    return sniffed


def _try_first_document(file: DataFile, text_field: str) -> None:
    """Raise DataError where no document can be read: the wrong field, no text at all, another encoding."""
    for blocks in documents(file, text_field, Meter()):
        next(blocks)
        return
    raise DataError(f"{file.path} holds no text", "name another file")


def _measure(sniffed: Sniffed, stream: TokenStream, report: ReportPhase | None) -> None:
    sniffed.tokens = stream.n_tokens
    sniffed.smallest_id, sniffed.largest_id = stream.measure_ids(report)
    if stream.document_starts is not None:
        sniffed.documents = len(stream.document_starts)
    if stream.id_bytes is not None:
        sniffed.vocab_size = len(stream.id_bytes)
        sniffed.text_bytes = _text_bytes(stream)
    sniffed.problems.extend(stream.notes)


def _text_bytes(stream: TokenStream) -> int:
    total = 0
    for start in range(0, stream.n_tokens, 1 << 22):
        counts = stream.target_bytes(stream.read(start, min(start + (1 << 22), stream.n_tokens)))
        assert counts is not None  # only called where bytes per id are known
        total += int(counts[counts > 0].sum())
    return total


def _add_problems(sniffed: Sniffed, vocab_size: int | None, seq_len: int) -> None:
    if sniffed.tokens is None or sniffed.largest_id is None or sniffed.smallest_id is None:
        return
    if sniffed.largest_id == sniffed.smallest_id:
        what = "zero" if sniffed.largest_id == 0 else f"the same id {sniffed.largest_id}"
        sniffed.problems.append(f"every token is {what}: the file was probably never filled")
    if sniffed.smallest_id < 0:
        sniffed.problems.append(f"holds the negative id {sniffed.smallest_id}: the token type is probably wrong")
    if sniffed.tokens < 2:
        sniffed.problems.append("has fewer than 2 tokens: there is no target to score")
    elif sniffed.tokens < seq_len + 1:
        sniffed.problems.append(f"is shorter than one window of {seq_len} tokens and its target")
    known = vocab_size or sniffed.vocab_size
    if known is not None and sniffed.largest_id >= known:
        sniffed.problems.append(f"holds id {sniffed.largest_id}, outside a vocabulary of {known}")
    if sniffed.largest_id >= 1 << 24:
        sniffed.problems.append(
            f"holds id {sniffed.largest_id}, larger than any vocabulary: check byte order and token type"
        )
