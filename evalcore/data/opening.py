"""From an eval set's description to a TokenStream.

Owns the choice of reader and tokenizer. Token files are memory-mapped; text goes through the token cache.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from evalcore.data.arrow import arrow_ids
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError, TokenizerUnavailable
from evalcore.data.formats import recognise
from evalcore.data.megatron import document_starts
from evalcore.data.metapickle import Meta, read_meta
from evalcore.data.padding import padding_notes
from evalcore.data.parquet import parquet_ids
from evalcore.data.stream import ReportPhase, TokenStream
from evalcore.data.textcache import tokenised
from evalcore.data.tokenizers import Tokenizer, build_tokenizer
from evalcore.data_digest import digest_files, each_once, files_of_dataset, kind_of_name
from evalcore.messages import EvalSetSpec

DEFAULT_TOKENIZER = "gpt2"
_ZERO_TAIL_TOKENS = 1024


def open_stream(
    source: EvalSetSpec | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    tokenizer: str | None = None,
    max_tokens: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    report: ReportPhase | None = None,
) -> TokenStream:
    """The tokens of an eval set, a file, or several files in order; raises DataError.

    tokenizer: for text, and to know the bytes of ids in token files. report: called as a text is read and tokenised.
    """
    spec = _as_spec(source, tokenizer, max_tokens)
    if spec.max_tokens is not None and spec.max_tokens < 2:
        raise DataError(f"max_tokens is {spec.max_tokens}; at least 2 are needed", "give a larger --max-tokens")
    paths = [Path(path) for path in expand_paths(spec.paths)]
    if not paths:
        raise DataError(f"eval set {spec.name!r} names no files", "give --data FILE")
    files = [recognise(path, spec.format, spec.token_dtype) for path in paths]
    if len({file.is_text for file in files}) > 1:
        raise DataError(f"eval set {spec.name!r} mixes text and token files", "make two eval sets of it")
    if files[0].is_text:
        return _open_text(spec, files, cache_dir, report)
    return _open_tokens(spec, files, report)


def expand_paths(paths: Iterable[str]) -> list[str]:
    """Each path as it is or, where nothing has that name, its glob sorted; a pattern without a match stays itself.

    A folder of Hugging Face datasets stands for its Arrow files.
    """
    files: list[str] = []
    for path in paths:
        matches = [] if Path(path).exists() else sorted(glob.glob(path, recursive=True))
        for match in matches or [path]:
            files.extend(files_of_dataset(match) or [match])
    return each_once(files)


def default_tokenizer() -> Tokenizer:
    """gpt2, for data without a named tokenizer. Raises TokenizerUnavailable, which tells that it is the default."""
    try:
        return build_tokenizer(DEFAULT_TOKENIZER)
    except TokenizerUnavailable as error:
        raise TokenizerUnavailable(
            f"no tokenizer was given, so it is {DEFAULT_TOKENIZER}: {error.reason}",
            "name the tokenizer of the training with --tokenizer: `bytes`, or a tokenizer.json, .tiktoken, "
            f"tokenizer.pkl or meta.pkl file; for {DEFAULT_TOKENIZER}, a folder with its ranks in TIKTOKEN_CACHE_DIR",
        ) from error


def _as_spec(source: object, tokenizer: str | None, max_tokens: int | None) -> EvalSetSpec:
    if isinstance(source, EvalSetSpec):
        changes = {"tokenizer": tokenizer, "max_tokens": max_tokens}
        return replace(source, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    paths = tuple(os.fspath(path) for path in source)  # type: ignore[attr-defined]
    name = Path(paths[0]).stem if paths else "data"
    return EvalSetSpec(name=name, paths=paths, tokenizer=tokenizer, max_tokens=max_tokens)


def _open_text(
    spec: EvalSetSpec,
    files: list[DataFile],
    cache_dir: str | os.PathLike[str] | None,
    report: ReportPhase | None,
) -> TokenStream:
    tokenizer = build_tokenizer(spec.tokenizer) if spec.tokenizer else default_tokenizer()
    try:
        total = sum(file.path.stat().st_size for file in files)
        hashed = partial(_hashed, report, total) if report else None
        digest = digest_files([str(file.path) for file in files], hashed)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", "check its permissions") from None
    if spec.data_digest and spec.data_digest != digest:
        raise DataError(
            f"the files of eval set {spec.name!r} changed since it was registered", "start the daemon again"
        )
    text = tokenised(
        files,
        tokenizer,
        content_digest=digest,
        text_field=spec.text_field,
        max_tokens=spec.max_tokens,
        cache_dir=Path(cache_dir) if cache_dir else None,
        report=report,
    )
    stream = TokenStream(
        [text.tokens],
        max_tokens=spec.max_tokens,
        id_bytes=tokenizer.id_bytes(),
        document_starts=text.document_starts,
        prefix_bytes=tokenizer.prefix_bytes,
        tokenizer=tokenizer.name,
        label=_label(files),
        decode=tokenizer.decode,
    )
    stream.notes.extend(tokenizer.notes)
    stream.notes.extend(note for file in files for note in file.notes)
    unusual = [file for file in files if file.kind == "text" and kind_of_name(str(file.path), spec.format) == "other"]
    if unusual:
        what = unusual[0].path.name + (f" and {len(unusual) - 1} more" if len(unusual) > 1 else "")
        stream.notes.append(
            f"{what}: read as plain text, {total:,} bytes, {stream.n_tokens:,} tokens by {tokenizer.name}"
        )
    if stream.id_bytes is None:
        stream.notes.append(f"bits per byte unknown: tokenizer {tokenizer.name} has no fixed number of bytes per id")
    return stream


def _hashed(report: ReportPhase, total: int, done: int) -> None:
    report("hashing", done, total)


def _open_tokens(spec: EvalSetSpec, files: list[DataFile], report: ReportPhase | None) -> TokenStream:
    read = [read_tokens(file) for file in files]
    stream = TokenStream([ids for ids, _ in read], max_tokens=spec.max_tokens, label=_label(files))
    stream.notes.extend(note for file in files for note in file.notes)
    _refuse_unfilled(stream, files, report)
    if all(starts is not None for _, starts in read):
        stream.document_starts = _joined(stream, [starts for _, starts in read if starts is not None])
        if any(file.row_tokens or file.column for file in files):
            stream.notes.append("rows are joined in order; each counts as a document")
            for file, (ids, starts) in zip(files, read, strict=True):
                if starts is not None:
                    stream.notes.extend(padding_notes(file.path, ids, starts, allowed=spec.max_tokens is not None))
    if spec.tokenizer is not None:
        try:
            tokenizer = build_tokenizer(spec.tokenizer)
        except TokenizerUnavailable as error:  # the loss does not need it: a number without bits per byte beats none
            stream.notes.append(f"bits per byte unknown: {error.reason}")
            return stream
        stream.know_bytes(tokenizer.id_bytes(), tokenizer.name, tokenizer.decode)
        if tokenizer.eos_id is not None and stream.document_starts is None:
            stream.document_starts = _starts_after(stream, tokenizer.eos_id)
    elif (meta := meta_of(files[0])) is not None:
        lacking = int((meta.id_bytes < 0).sum())
        if lacking:  # unlike a tokenizer's table, that of characters has a text for every id
            stream.notes.append(f"bits per byte unknown: meta.pkl has no text for {lacking} of {meta.vocab_size} ids")
        else:
            stream.know_bytes(meta.id_bytes, "meta.pkl", meta.decode)
    return stream


def meta_of(file: DataFile) -> Meta | None:
    """nanoGPT's meta.pkl beside a `.bin` without a header: what its ids stand for. None where there is none."""
    if file.kind not in ("bin", "raw") or file.offset_bytes or file.path.suffix.lower() != ".bin":
        return None
    return read_meta(file.path.with_name("meta.pkl"))


def _refuse_unfilled(stream: TokenStream, files: list[DataFile], report: ReportPhase | None) -> None:
    """Raise DataError where all tokens, or a long tail of a file, are one id: allocated or padded, never written."""
    low, high = stream.measure_ids(report)
    if low == high and (low == 0 or stream.n_tokens >= _ZERO_TAIL_TOKENS):
        reason = f"every token of {stream.label} is {_word(low)}: the file was probably never filled"
        raise DataError(reason, "write it again")
    if stream.max_tokens is not None:
        return  # who gave the number has looked
    before = 0
    for file, part in zip(files, stream.parts, strict=True):
        filled = _filled(part)
        if len(part) - filled >= _ZERO_TAIL_TOKENS:
            last = file is files[-1]
            raise DataError(
                f"the last {len(part) - filled} of {len(part)} tokens of {file.path} are "
                f"{_word(part[-1])}: it was probably not filled to its end",
                f"give --max-tokens {before + filled} (or {before + len(part)}, all)" if last else "write it again",
            )
        before += len(part)


def _word(token: int) -> str:
    return "zero" if token == 0 else f"the id {token}"


def _filled(part: np.ndarray) -> int:
    """Number of tokens before the last ones, which are all the same."""
    stop = len(part)
    while stop:
        start = max(0, stop - (1 << 20))
        if (others := np.flatnonzero(part[start:stop] != part[-1])).size:
            return start + int(others[-1]) + 1
        stop = start
    return 0


def read_tokens(file: DataFile) -> tuple[np.ndarray, np.ndarray | None]:
    """(ids, where a row or document begins; None where the file does not say it)."""
    if file.column is not None:
        return (parquet_ids if file.kind == "parquet_ids" else arrow_ids)(file.path, file.column)
    ids = map_tokens(file)
    if file.index is not None:
        return ids, document_starts(file.index)
    return ids, np.arange(0, len(ids), file.row_tokens, dtype=np.int64) if file.row_tokens else None


def map_tokens(file: DataFile) -> np.ndarray:
    """The token ids of one file as a read-only map; nothing is read until it is used."""
    if file.n_tokens == 0:
        raise DataError(f"{file.path} holds no tokens", "name another file")
    assert file.dtype is not None and file.n_tokens is not None  # every token kind has both
    try:
        return np.memmap(file.path, dtype=file.dtype, mode="r", offset=file.offset_bytes, shape=(file.n_tokens,))
    except (OSError, ValueError) as error:
        raise DataError(f"{file.path} cannot be mapped: {error}", "copy it again") from None


def _starts_after(stream: TokenStream, eos_id: int) -> np.ndarray:
    """Positions where a document begins: the first token, and each one after an end-of-text token."""
    parts = [np.array([0], dtype=np.int64)]
    for start in range(0, stream.n_tokens, 1 << 22):
        block = stream.read(start, min(start + (1 << 22), stream.n_tokens))
        parts.append(np.flatnonzero(block == eos_id) + start + 1)
    starts = np.concatenate(parts)
    return starts[starts < stream.n_tokens]


def _joined(stream: TokenStream, starts: list[np.ndarray]) -> np.ndarray:
    """Positions in the stream where a row or document of each file begins."""
    before = np.cumsum([0, *(len(part) for part in stream.parts)])
    joined = np.concatenate([own + at for own, at in zip(starts, before, strict=False)])
    return joined[joined < stream.n_tokens]


def _label(files: list[DataFile]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].path}{more}"
