"""How time goes with ranks, with overlapping windows, and with the context's length."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import files
from bench.processes import machine, torchrun


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=32_769)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])


def run(said: argparse.Namespace) -> None:
    print(f"# scaling: {machine()}; one thread per rank")
    shape = {**files.GPT2_SMALL, "n_layers": 4, "d_model": 256, "n_heads": 4, "d_ff": 1024, "vocab_size": 8192}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ["--checkpoint-path", str(files.checkpoint(folder, shape)), "--device", "cpu", "--json", "--data"]
        base.append(str(files.tokens(folder, said.tokens, 8192)))
        for ranks in said.ranks:
            _line(f"{ranks} ranks", torchrun(ranks, "-m", "evalcore", *base).said)
        for stride in (1024, 512, 256):
            _line(f"stride {stride}", torchrun(1, "-m", "evalcore", *base, "--stride", str(stride)).said)
        for length in (128, 256, 512, 1024):
            _line(f"context {length}", torchrun(1, "-m", "evalcore", *base, "--seq-len", str(length)).said)


def _line(what: str, said: dict) -> None:  # type: ignore[type-arg]
    print(
        f"{what:12} {said['eval_seconds']:7.2f} s {said['tokens_per_second']:10,.0f} tokens/s, loss {said['loss']:.9f}"
    )
