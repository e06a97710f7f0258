"""What a data file is, for a person: format, token count, largest id, and what looks wrong with it.

Owns the list of problems. Reads; never writes outside the token cache.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalcore.data.errors import DataError
from evalcore.data.formats import DataFile, recognise
from evalcore.data.metapickle import read_meta
from evalcore.data.opening import open_stream
from evalcore.data.stream import Report
from evalcore.messages import EvalSetSpec


@dataclass
class Sniffed:
    """kind: text | jsonl | npy | bin | raw | foreign. tokens, largest_id: None where no tokenizer was named for text.

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
    max_tokens: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> Sniffed:
    """Say what a file is; a file that cannot be read as data comes back as kind `foreign` with its problem.

    Raises DataError only where the path does not exist. vocab_size, seq_len: of the model it is meant for. report:
    called as a large file is tokenised or read.
    """
    file = Path(path)
    if not file.exists() and not file.is_symlink():
        raise DataError(f"{file} does not exist", "check the path")
    size = file.stat().st_size if file.exists() else 0
    try:
        found = recognise(file, format, token_dtype)
    except DataError as error:
        return Sniffed(str(file), "foreign", error.reason, size, problems=[str(error)])
    out = Sniffed(str(file), found.kind, found.label, size, str(found.dtype) if found.dtype is not None else None)
    _measure(out, found, tokenizer, token_dtype, format, max_tokens, cache_dir, report)
    _judge(out, vocab_size, seq_len)
    return out


def _measure(
    out: Sniffed,
    found: DataFile,
    tokenizer: str | None,
    token_dtype: str | None,
    format: str,
    max_tokens: int | None,
    cache_dir: Any,
    report: Report | None,
) -> None:
    if found.is_text and tokenizer is None:
        return
    spec = EvalSetSpec("sniffed", (str(found.path),), format, tokenizer, token_dtype=token_dtype, max_tokens=max_tokens)
    try:
        stream = open_stream(spec, cache_dir=cache_dir, report=report)
        out.tokens = stream.n_tokens
        out.smallest_id, out.largest_id = stream.measure_ids(report)
    except DataError as error:
        out.problems.append(str(error))
        return
    if stream.document_starts is not None:
        out.documents = len(stream.document_starts)
    if stream.id_bytes is not None:
        out.vocab_size = len(stream.id_bytes)
        out.text_bytes = _text_bytes(stream)
    if found.kind == "bin" and (meta := read_meta(found.path.with_name("meta.pkl"))) is not None:
        out.vocab_size = meta.vocab_size
    out.problems.extend(stream.notes)


def _text_bytes(stream: Any) -> int:
    total = 0
    for start in range(0, stream.n_tokens, 1 << 22):
        counts = stream.target_bytes(stream.read(start, min(start + (1 << 22), stream.n_tokens)))
        total += int(counts[counts > 0].sum())
    return total


def _judge(out: Sniffed, vocab_size: int | None, seq_len: int) -> None:
    if out.tokens is None or out.largest_id is None or out.smallest_id is None:
        return
    if out.largest_id == out.smallest_id:
        what = "zero" if out.largest_id == 0 else f"the same id {out.largest_id}"
        out.problems.append(f"every token is {what}: the file was probably never filled")
    if out.smallest_id < 0:
        out.problems.append(f"holds the negative id {out.smallest_id}: the token type is probably wrong")
    if out.tokens < 2:
        out.problems.append("has fewer than 2 tokens: there is no target to score")
    elif out.tokens < seq_len + 1:
        out.problems.append(f"is shorter than one window of {seq_len} tokens and its target")
    known = vocab_size or out.vocab_size
    if known is not None and out.largest_id >= known:
        out.problems.append(f"holds id {out.largest_id}, outside a vocabulary of {known}")
    if out.largest_id >= 1 << 24:
        out.problems.append(f"holds id {out.largest_id}, larger than any vocabulary: check byte order and token type")
