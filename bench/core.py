"""GPT-2-small shape with optimizer state in the file: our command beside the plain script, whole processes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from bench import files
from bench.processes import Ran, machine, python


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--windows", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--dtypes", nargs="*", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain-batch", type=int, default=8, help="the seed's default is 8")
    parser.add_argument("--layers", type=int, default=12, help="12 layers of 768 are GPT-2 small")
    parser.add_argument("--vocab-size", type=int, default=50257)


def run(options: argparse.Namespace) -> None:
    print(f"# core: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = {**files.GPT2_SMALL, "n_layers": options.layers, "vocab_size": options.vocab_size}
        path = files.checkpoint(folder, shape)
        print(f"file {path.stat().st_size / 1e6:.0f} MB")
        for dtype in options.dtypes:
            for windows in options.windows:
                _compare(path, shape, windows, dtype, options)


def _compare(path: Path, shape: dict[str, int], windows: int, dtype: str, options: argparse.Namespace) -> None:
    data = str(files.tokens(path.parent, windows * 1024 + 1, shape["vocab_size"], f"w{windows}.npy"))
    more = ["bfloat16"] if dtype == "bfloat16" else []
    plain_runs, our_runs = [], []
    for _ in range(options.repeats):  # alternating, so that a busy neighbour disturbs both
        plain_runs.append(python("bench/plain.py", str(path), data, "1024", str(options.plain_batch), *more))
        ours = ["-m", "evalcore", "--checkpoint-path", str(path), "--data", data, "--dtype", dtype, "--device", "cpu"]
        our_runs.append(python(*ours, "--tokenizer-name", "bytes", "--json"))
    rate = python("bench/gemm.py", dtype).printed["flops_per_cpu_second"]
    plain, ours = _middle(plain_runs), _middle(our_runs)
    share = files.forward_flops(shape, windows) / ours.cpu_s / rate
    losses = plain_runs[0].printed["loss"], our_runs[0].printed["loss"]
    print(
        f"{windows:3} windows {dtype}:"
        f" plain {plain.cpu_s:6.1f} CPU-s {plain.wall_s:6.1f} s {plain.peak_bytes / 1e9:.2f} GB"
        f" | ours {ours.cpu_s:6.1f} CPU-s {ours.wall_s:6.1f} s {ours.peak_bytes / 1e9:.2f} GB"
        f" | {plain.cpu_s / ours.cpu_s:.2f}x CPU, {plain.wall_s / ours.wall_s:.2f}x wall,"
        f" {share:.0%} of {rate / 1e9:.0f} GFLOP/s per CPU-s | loss differs by {abs(losses[0] - losses[1]):.1e}"
    )


def _middle(runs: list[Ran]) -> Ran:
    by_cpu = sorted(runs, key=lambda ran: ran.cpu_s)
    return Ran(median(r.wall_s for r in runs), median(r.cpu_s for r in runs), by_cpu[-1].peak_bytes, by_cpu[0].printed)
