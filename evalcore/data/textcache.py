"""Text tokenised once per tokenizer and content, kept as a raw token file beside its document starts.

Owns the cache folder's names and their atomic writing; bounded memory. Never changes a token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalcore.data.chunking import chunks
from evalcore.data.data_file import DataFile
from evalcore.data.documents import Meter, documents
from evalcore.data.errors import DataError
from evalcore.data.stream import ReportPhase
from evalcore.data.tokenizers import Tokenizer
from evalcore.launch_folder import write_atomically

_VERSION = 1
_CHUNK_CHARS = 1 << 19


@dataclass(frozen=True)
class TokenisedText:
    """Token ids (memory-mapped) and the position of the first token of each document."""

    tokens: np.ndarray
    document_starts: np.ndarray


def default_cache_dir() -> Path:
    """Where tokenised text is kept by default."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ckptwatch" / "tokens"


def tokenised(
    files: list[DataFile],
    tokenizer: Tokenizer,
    *,
    content_digest: str,
    text_field: str = "text",
    max_tokens: int | None = None,
    cache_dir: Path | None = None,
    report: ReportPhase | None = None,
) -> TokenisedText:
    """The files' tokens from the cache, or tokenised into it now. report is called as it goes."""
    folder = _writable(cache_dir or default_cache_dir())
    kinds = [file.kind for file in files]
    field = None if set(kinds) == {"text"} else text_field
    key = json.dumps([_VERSION, tokenizer.identity, content_digest, kinds, field])
    for limit in dict.fromkeys((None, max_tokens)):  # a whole one serves every max_tokens
        cached = _load(folder, _name(key, limit))
        if cached is not None:
            return cached
    name = _name(key, max_tokens)
    _write(folder, name, files, tokenizer, text_field, max_tokens, report or (lambda phase, done, total: None))
    cached = _load(folder, name)
    if cached is None:
        raise DataError(
            f"the token cache {folder} lost what was just written to it", "check the disk, or give --cache-dir"
        )
    return cached


def _name(key: str, limit: int | None) -> str:
    return hashlib.sha256(f"{key}{limit}".encode()).hexdigest()[:32]


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass  # a home that cannot be written, say in a container: the temporary folder serves as well
    fallback = Path(tempfile.gettempdir()) / f"ckptwatch-tokens-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    if fallback.stat().st_uid != os.getuid():
        raise DataError(f"the token cache {fallback} belongs to another user", "give --cache-dir")
    return fallback


def _load(folder: Path, name: str) -> TokenisedText | None:
    """What is there under this name, if it is whole: sizes must agree with the description, written last."""
    try:
        description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tokens = np.memmap(
            folder / f"{name}.tokens", dtype=description["dtype"], mode="r", shape=(description["n_tokens"],)
        )
        starts = np.fromfile(folder / f"{name}.documents", dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return TokenisedText(tokens, starts) if len(starts) == description["n_documents"] else None


def _write(
    folder: Path,
    name: str,
    files: list[DataFile],
    tokenizer: Tokenizer,
    field: str,
    limit: int | None,
    report: ReportPhase,
) -> None:
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    starts: list[int] = []
    total, size = 0, sum(file.path.stat().st_size for file in files)
    report("tokenising", 0, size)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False))
        stack.callback(lambda: Path(out.name).unlink(missing_ok=True))
        pieces = stack.enter_context(contextlib.closing(_pieces(files, tokenizer, field)))
        for starts_document, ids, at in pieces:
            if starts_document:
                starts.append(total)
            ids = ids if limit is None else ids[: limit - total]
            out.write(ids.astype(dtype).tobytes())
            total += len(ids)
            needed = at if limit is None or not total else min(size, at * limit // total)  # about so far, for `limit`
            report("tokenising", at, size if limit is None else max(at, needed))
            if limit is not None and total >= limit:
                break
        if total == 0:
            raise DataError(f"{', '.join(str(file.path) for file in files)[:300]} holds no text", "name another file")
        out.flush()
        os.fsync(out.fileno())
        np.array(starts, dtype=np.int64).tofile(folder / f".{name}.{os.getpid()}.documents")
        (folder / f".{name}.{os.getpid()}.documents").replace(folder / f"{name}.documents")
        Path(out.name).replace(folder / f"{name}.tokens")
    description = {"dtype": dtype, "n_tokens": total, "n_documents": len(starts), "tokenizer": tokenizer.name}
    write_atomically(folder / f"{name}.json", json.dumps(description))


def _pieces(
    files: list[DataFile], tokenizer: Tokenizer, field: str
) -> Generator[tuple[bool, np.ndarray, int], None, None]:
    """(starts a document, ids, bytes read to there) in order; a few threads encode, which run ahead a bounded way."""
    workers, meter = len(os.sched_getaffinity(0)), Meter()
    waiting: deque[tuple[bool, Future[np.ndarray] | np.ndarray, int]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for starts_document, text in _texts(files, tokenizer, field, meter):
            ids = _eos(tokenizer) if text is None else pool.submit(_encode, tokenizer, text)
            waiting.append((starts_document, ids, meter.bytes_read))
            if len(waiting) >= 4 * workers + 64:
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())


def _done(starts_document: bool, ids: Future[np.ndarray] | np.ndarray, at: int) -> tuple[bool, np.ndarray, int]:
    return starts_document, ids.result() if isinstance(ids, Future) else ids, at


def _texts(files: list[DataFile], tokenizer: Tokenizer, field: str, meter: Meter) -> Iterator[tuple[bool, str | None]]:
    """(starts a document, text of a chunk), and (False, None) for the end of a document."""
    for file in files:
        for blocks in documents(file, field, meter):
            parts = iter(("".join(blocks),)) if tokenizer.whole_text else chunks(blocks, _CHUNK_CHARS)
            for number, part in enumerate(parts):
                yield number == 0, part
            yield False, None


def _eos(tokenizer: Tokenizer) -> np.ndarray:
    return np.array([] if tokenizer.eos_id is None else [tokenizer.eos_id], dtype=np.uint32)


def _encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    try:
        return tokenizer.encode(text)
    except UnicodeEncodeError:  # JSON may contain half a surrogate pair, which no UTF-8 can hold
        return tokenizer.encode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
