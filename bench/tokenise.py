"""Text to tokens: our cache, cold and warm, beside one `encode` of the whole text. Needs the ranks of the encoding."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.processes import machine, python
from tests.support.tokenizers import save_ranks

_OURS = """
import json, sys, time
from evalcore.data import open_stream
taken = {}
for turn in ("cold", "warm"):
    started = time.perf_counter()
    stream = open_stream(sys.argv[1], tokenizer=sys.argv[2], cache_dir=sys.argv[3])
    taken[turn] = time.perf_counter() - started
print(json.dumps(taken | {"tokens": len(stream)}))
"""
_PLAIN = """
import json, sys, time, tiktoken, tiktoken.load, numpy
from evalcore.data.tokenizers import GPT2_PATTERN
if sys.argv[2].endswith(".tiktoken"):
    ranks = tiktoken.load.load_tiktoken_bpe(sys.argv[2])
    end = {"<|endoftext|>": len(ranks)}
    encoding = tiktoken.Encoding("ranks", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=end)
else:
    encoding = tiktoken.get_encoding(sys.argv[2])
started = time.perf_counter()
ids = numpy.array(encoding.encode(open(sys.argv[1], newline="").read(), allowed_special="all") + [encoding.eot_token])
print(json.dumps({"cold": time.perf_counter() - started, "tokens": len(ids)}))
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--tokenizer", default="gpt2", help="an encoding of tiktoken; `made`: a small one, made here")


def run(options: argparse.Namespace) -> None:
    print(f"# tokenise: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        _write_prose(text, options.megabytes << 20)
        tokenizer = options.tokenizer
        if tokenizer == "made":
            ranks = save_ranks(Path(name) / "made.tiktoken", text.read_text(encoding="utf-8")[:20_000])
            tokenizer = str(ranks)
        plain = python("-c", _PLAIN, str(text), tokenizer)
        ours = python("-c", _OURS, str(text), tokenizer, str(Path(name) / "cache"))
        assert plain.printed["tokens"] == ours.printed["tokens"]
        tokens, cold = ours.printed["tokens"], ours.printed["cold"]
        print(
            f"{text.stat().st_size / 1e6:.0f} MB, {tokens:,} tokens:"
            f" plain {plain.printed['cold']:.2f} s {plain.peak_bytes / 1e6:.0f} MB |"
            f" ours cold {cold:.2f} s, warm {ours.printed['warm']:.3f} s, {ours.peak_bytes / 1e6:.0f} MB"
        )


def _write_prose(path: Path, size: int) -> None:
    """The text of Python's own standard library, repeated to size: at hand on every machine that runs this."""
    import sysconfig

    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = "".join(source.read_text(encoding="utf-8", errors="ignore") for source in sources)
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < size:
            file.write(text[: size - file.tell()])
