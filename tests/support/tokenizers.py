"""A small byte-pair tokenizer made from a text, and its `.tiktoken` file: no network, no ranks from elsewhere."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from pathlib import Path

import regex

from evalcore.data.tokenizers import GPT2_PATTERN

CL100K_LIKE = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)


def train_ranks(text: str, merges: int = 200, pattern: str = GPT2_PATTERN) -> dict[bytes, int]:
    """Byte-pair merges of the most frequent neighbours within the pattern's pieces."""
    words = Counter(tuple(bytes([b]) for b in piece.encode()) for piece in regex.findall(pattern, text))
    ranks = {bytes([b]): b for b in range(256)}
    while len(ranks) < 256 + merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        pairs = Counter({pair: n for pair, n in pairs.items() if b"".join(pair) not in ranks})
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks[b"".join(best)] = len(ranks)
        words = Counter({_merged(word, best): count for word, count in words.items()})
    return ranks


def save_ranks(path: Path, text: str, merges: int = 200, pattern: str | None = None) -> Path:
    """Write a ranks file, with its pattern beside it where it is not GPT-2's."""
    ranks = train_ranks(text, merges, pattern or GPT2_PATTERN)
    path.write_bytes(b"".join(base64.b64encode(token) + f" {rank}\n".encode() for token, rank in ranks.items()))
    if pattern is not None:
        said = {"pattern": pattern, "special_tokens": {"<|endoftext|>": len(ranks)}}
        path.with_name(path.name + ".json").write_text(json.dumps(said))
    return path


def _merged(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    out: list[bytes] = []
    for part in word:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)
