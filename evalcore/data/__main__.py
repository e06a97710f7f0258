"""`python -m evalcore.data sniff|stats PATH... [--tokenizer T] --json`: one JSON object a file, in the order given;
`tokenizer NAME...`: one a name.

With --progress, lines of {"progress": ...} come between them while a file takes long.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from evalcore.data.errors import DataError
from evalcore.data.opening import DEFAULT_TOKENIZER
from evalcore.data.sniffing import Sniffed, sniff
from evalcore.data.tokenizers import build_tokenizer
from evalcore.data.windows import plan_windows
from evalcore.progress import ProgressReporter


def main(arguments: list[str] | None = None) -> int:
    """Print what each file is. A file that does not exist comes back as kind `missing`; the status is always 0."""
    parser = argparse.ArgumentParser(prog="python -m evalcore.data", description="What a data file is.")
    parser.add_argument("action", choices=["sniff", "stats", "tokenizer"], help="stats tokenises text; sniff does not")
    parser.add_argument("paths", nargs="+", metavar="PATH")
    parser.add_argument("--tokenizer", help=f"for text  [default for stats: {DEFAULT_TOKENIZER}]")
    parser.add_argument("--seq-len", type=int, default=1024, help="tokens per window")
    parser.add_argument("--token-dtype", help="for token files without a header")
    parser.add_argument("--cache-dir", help="where tokenised text is kept")
    parser.add_argument("--json", action="store_true", help="accepted for clarity; the output is always JSON")
    parser.add_argument("--progress", action="store_true", help="also say how far it is")
    options = parser.parse_args(arguments)
    reporter = ProgressReporter((lambda now: _write({"progress": asdict(now)})) if options.progress else None)
    for path in options.paths:
        _write(try_tokenizer(path) if options.action == "tokenizer" else look(path, options, reporter))
    return 0


def _write(said: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def try_tokenizer(name: str) -> dict[str, object]:
    """Can it be built here? problem, hint: None where it can."""
    try:
        return {"tokenizer": name, "vocab_size": build_tokenizer(name).vocab_size, "problem": None, "hint": None}
    except DataError as error:
        return {"tokenizer": name, "vocab_size": None, "problem": error.reason, "hint": error.hint}


def look(path: str, options: argparse.Namespace, reporter: ProgressReporter) -> dict[str, object]:
    """One file: the fields of Sniffed, and for `stats` also targets and windows."""

    def report(phase: str, done: int, total: int) -> None:
        reporter.beat(phase, eval_set=Path(path).name, done=done, total=total, unit="bytes")

    tokenizer = options.tokenizer
    same = {"seq_len": options.seq_len, "token_dtype": options.token_dtype, "cache_dir": options.cache_dir}
    same["report"] = report
    try:
        found = sniff(path, tokenizer=tokenizer, **same)
        if options.action == "stats" and tokenizer is None and found.kind in ("text", "jsonl"):
            tokenizer = DEFAULT_TOKENIZER
            found = sniff(path, tokenizer=tokenizer, **same)
    except DataError as error:
        return Sniffed(path, "missing", error.reason, 0, problems=[str(error)]).as_dict()
    said = {**found.as_dict(), "tokenizer": tokenizer}
    if options.action == "stats":
        counted = found.tokens is not None and found.tokens >= 2
        said["targets"] = found.tokens - 1 if counted and found.tokens else None
        said["windows"] = len(plan_windows(found.tokens, options.seq_len)) if counted and found.tokens else None
        text = found.text_bytes
        said["bytes_per_token"] = text / found.tokens if text and found.tokens else None
    return said


if __name__ == "__main__":
    sys.exit(main())
