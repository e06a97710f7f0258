"""How long a training checkpoint takes to be understood and to become a model: ours beside torch.load.

A GPT-2-small-shaped rosellm checkpoint with AdamW state (two thirds of the file) is written once, then read in turn:
summary (step, configuration, shapes; no torch), our load (only the model's records, CRC checked), and the plain way
(torch.load of the file, weights_only, then load_state_dict). The file is in the page cache for all of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import files
from bench.processes import machine, python


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, default=12, help="12 layers of 768 are GPT-2 small")
    parser.add_argument("--vocab-size", type=int, default=50257)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the file is written  [default: a temporary folder]")


def run(options: argparse.Namespace) -> None:
    import torch

    from evalcore.archive import probe, summarise
    from evalcore.loading.checkpoint import load_checkpoint
    from evalcore.models.decoder import on_meta

    print(f"# loading: {machine()}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        shape = {**files.GPT2_SMALL, "n_layers": options.layers, "vocab_size": options.vocab_size}
        path = files.checkpoint(Path(folder), shape)
        loaded = load_checkpoint(path)
        size = path.stat().st_size
        print(f"file {size / 1e6:.0f} MB, model {loaded.read_bytes / 1e6:.0f} MB, torch {torch.__version__}")
        model = on_meta(loaded.plan.build).to_empty(device="cpu")
        names = {ours: source.key for ours, source in loaded.plan.weights.items()}

        def plain() -> None:
            state = torch.load(path, map_location="cpu", weights_only=True)["model"]
            model.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})

        ways: dict[str, Callable[[], object]] = {
            "probe (identity, completeness)": lambda: probe(path),
            "summarise (step, config, shapes)": lambda: summarise(path),
            "load, ours (model, CRC checked)": lambda: load_checkpoint(path).close(),
            "load, ours, refilling a model": lambda: load_checkpoint(path, reuse=loaded).close(),
            "load, ours, every record checked": lambda: load_checkpoint(path, verify="all").close(),
            "torch.load + load_state_dict": plain,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
        base = statistics.median(times["torch.load + load_state_dict"])
        for name, taken in times.items():
            middle = statistics.median(taken)
            print(f"{name:34} median {middle * 1e3:9.1f} ms, best {min(taken) * 1e3:9.1f} ms, {base / middle:8.1f}x")
        for name, code in (
            ("ours", f"from evalcore.loading.checkpoint import load_checkpoint; load_checkpoint({str(path)!r})"),
            ("torch.load", f"import torch; torch.load({str(path)!r}, map_location='cpu', weights_only=True)"),
            ("summarise", f"from evalcore.archive import summarise; summarise({str(path)!r})"),
        ):
            print(f"{'peak, ' + name:34} {python('-c', code).peak_bytes / 1e6:9.0f} MB")
