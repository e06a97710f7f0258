"""Text to tokens: our cache, cold and warm, beside one `encode` of the whole text. Needs GPT-2's ranks."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.processes import machine, python

_OURS = """
import json, sys, time
from evalcore.data import open_stream
said = {}
for turn in ("cold", "warm"):
    started = time.perf_counter()
    stream = open_stream(sys.argv[1], tokenizer=sys.argv[2], cache_dir=sys.argv[3])
    said[turn] = time.perf_counter() - started
print(json.dumps(said | {"tokens": len(stream)}))
"""
_PLAIN = """
import json, sys, time, tiktoken, numpy
encoding = tiktoken.get_encoding(sys.argv[2])
started = time.perf_counter()
ids = numpy.array(encoding.encode(open(sys.argv[1], newline="").read(), allowed_special="all") + [encoding.eot_token])
print(json.dumps({"cold": time.perf_counter() - started, "tokens": len(ids)}))
"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--tokenizer", default="gpt2")


def run(said: argparse.Namespace) -> None:
    print(f"# tokenise: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        _write_prose(text, said.megabytes << 20)
        plain = python("-c", _PLAIN, str(text), said.tokenizer)
        ours = python("-c", _OURS, str(text), said.tokenizer, str(Path(name) / "cache"))
        assert plain.said["tokens"] == ours.said["tokens"]
        print(
            f"{text.stat().st_size / 1e6:.0f} MB, {ours.said['tokens']:,} tokens:"
            f" plain {plain.said['cold']:.2f} s {plain.peak_bytes / 1e6:.0f} MB |"
            f" ours cold {ours.said['cold']:.2f} s, warm {ours.said['warm']:.3f} s, {ours.peak_bytes / 1e6:.0f} MB"
        )


def _write_prose(path: Path, size: int) -> None:
    """The text of Python's own standard library, repeated to size: at hand on every machine that runs this."""
    import sysconfig

    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = "".join(source.read_text(encoding="utf-8", errors="ignore") for source in sources)
    with open(path, "w", encoding="utf-8") as file:
        while file.tell() < size:
            file.write(text)
