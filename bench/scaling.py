"""How time goes with ranks, with overlapping windows, and with the context's length."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench import files
from bench.processes import machine, torchrun


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=32_769)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--strides", type=int, nargs="*", default=[1024, 512, 256])
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 256, 512, 1024], help="of the context")


def run(options: argparse.Namespace) -> None:
    print(f"# scaling: {machine()}; one thread per rank")
    shape = {**files.GPT2_SMALL, "n_layers": 4, "d_model": 256, "n_heads": 4, "d_ff": 1024, "vocab_size": 8192}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ["--checkpoint-path", str(files.checkpoint(folder, shape)), "--device", "cpu", "--json", "--data"]
        base.append(str(files.tokens(folder, options.tokens, 8192)))
        for ranks in options.ranks:
            _line(f"{ranks} ranks", torchrun(ranks, "-m", "evalcore", *base).printed)
        for stride in options.strides:
            _line(f"stride {stride}", torchrun(1, "-m", "evalcore", *base, "--stride", str(stride)).printed)
        for length in options.lengths:
            _line(f"context {length}", torchrun(1, "-m", "evalcore", *base, "--seq-len", str(length)).printed)


def _line(what: str, result: dict[str, Any]) -> None:
    rate = f"{result['tokens_per_second']:10,.0f} tokens/s"
    print(f"{what:12} {result['eval_seconds']:7.2f} s {rate}, loss {result['loss']:.9f}")
