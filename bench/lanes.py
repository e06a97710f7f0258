"""Windows side by side, one core each, beside one window on all cores: three sizes of model on one CPU."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from bench.processes import machine

#: name: vocabulary, context, layers, heads, width, tokens
SIZES = {
    "tiny": (512, 128, 2, 4, 64, 100_000),
    "10-million": (512, 256, 6, 6, 384, 30_000),
    "gpt2-small": (8192, 256, 12, 12, 768, 8_192),  # with a small vocabulary
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beside", type=int, default=0, help="busy processes beside, as a trainer would be")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--tokens", type=int, help="instead of those of the size")


def run(options: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from evalcore.measure.evaluate import evaluate
    from evalcore.models.decoder import Decoder, DecoderShape

    print(f"# lanes: {machine()}, {torch.get_num_threads()} threads, {options.beside} busy processes beside")
    with _busy(options.beside):
        for name in options.sizes:
            vocab, context, layers, heads, width, n = SIZES[name]
            model = Decoder(DecoderShape(vocab, context, layers, heads, width, 4 * width)).eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.02)
            tokens = np.random.default_rng(0).integers(0, vocab, options.tokens or n).astype(np.uint16)
            taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            losses = set()
            for turn in range(options.repeats + 1):
                for lanes in (True, False):
                    model.stateless = lanes
                    cpu_s, wall_s = time.process_time(), time.perf_counter()
                    losses.add(evaluate(model, tokens).loss)
                    if turn:  # the first turn warms up
                        taken[lanes].append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
            _line(name, taken, "equal" if len(losses) == 1 else "DIFFER")


def _line(name: str, taken: dict[bool, list[tuple[float, float]]], bits: str) -> None:
    (cpu, wall), (old_cpu, old_wall) = ([median(v) for v in zip(*taken[lanes], strict=True)] for lanes in (True, False))
    print(
        f"{name}: side by side {cpu:.2f} CPU-s {wall:.2f} s | split products {old_cpu:.2f} CPU-s {old_wall:.2f} s"
        f" | {old_cpu / cpu:.2f}x CPU, {old_wall / wall:.2f}x wall, bits {bits}"
    )


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    spin = [sys.executable, "-c", f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(99999))"]
    running = [subprocess.Popen(spin) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
