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

from evalcore.data.data_file import TEXT_KINDS
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
    parser.add_argument("--token-dtype", help="type of ids in token files without a header")
    parser.add_argument("--format", default="auto", help="what the files are")
    parser.add_argument("--text-field", default="text", help="field of JSON documents that holds the text")
    parser.add_argument("--cache-dir", help="where tokenised text is kept")
    parser.add_argument("--json", action="store_true", help="accepted for clarity; the output is always JSON")
    parser.add_argument("--progress", action="store_true", help="also print progress")
    options = parser.parse_args(arguments)
    reporter = ProgressReporter((lambda now: _write({"progress": asdict(now)})) if options.progress else None)
    for path in options.paths:
        _write(try_tokenizer(path) if options.action == "tokenizer" else look(path, options, reporter))
    return 0


def _write(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
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
        reporter.report(phase, eval_set=Path(path).name, done=done, total=total, unit="bytes")

    tokenizer = options.tokenizer
    declared = {
        name: getattr(options, name) for name in ("seq_len", "token_dtype", "format", "text_field", "cache_dir")
    }
    try:
        sniffed = sniff(path, tokenizer=tokenizer, report=report, **declared)
        if options.action == "stats" and tokenizer is None and sniffed.kind in TEXT_KINDS:
            tokenizer = DEFAULT_TOKENIZER
            sniffed = sniff(path, tokenizer=tokenizer, report=report, **declared)
    except DataError as error:
        return Sniffed(path, "missing", error.reason, 0, problems=[str(error)]).as_dict()
    facts = {**sniffed.as_dict(), "tokenizer": tokenizer}
    if options.action == "stats":
        tokens, text_bytes = sniffed.tokens or 0, sniffed.text_bytes
        facts["targets"] = tokens - 1 if tokens >= 2 else None
        facts["seq_len"] = options.seq_len
        facts["windows"] = len(plan_windows(tokens, options.seq_len)) if tokens >= 2 else None
        facts["bytes_per_token"] = text_bytes / tokens if text_bytes and tokens else None
    return facts


if __name__ == "__main__":
    sys.exit(main())
