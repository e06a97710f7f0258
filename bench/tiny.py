"""A tiny model on many windows, where overhead is what one pays for: evaluation time alone and whole processes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import files
from bench.processes import machine, python


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)


def run(options: argparse.Namespace) -> None:
    print(f"# tiny: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = str(files.checkpoint(folder, files.TINY))
        data = str(files.tokens(folder, options.tokens, files.TINY["vocab_size"]))
        plain, ours = [], []
        for _ in range(options.repeats):
            plain.append(python("bench/plain.py", path, data, "128", "8"))
            ours.append(
                python("-m", "evalcore", "--checkpoint-path", path, "--data", data, "--device", "cpu", "--json")
            )
        for what, seconds in (
            ("evaluation", [min(r.printed["eval_seconds"] for r in runs) for runs in (plain, ours)]),
            ("whole process, CPU", [min(r.cpu_s for r in runs) for runs in (plain, ours)]),
        ):
            print(f"{what}: plain {seconds[0]:.2f} s | ours {seconds[1]:.2f} s | {seconds[0] / seconds[1]:.1f}x")
        print(f"loss differs by {abs(plain[0].printed['loss'] - ours[0].printed['loss']):.1e}")
