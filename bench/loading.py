"""How long a training checkpoint takes to be understood and to become a model: ours beside torch.load.

A GPT-2-small-shaped rosellm checkpoint with AdamW state (two thirds of the file) is written once, then read in turn:
summary (step, configuration, shapes; no torch), our load (only the model's records, CRC checked), and the plain way
(torch.load of the file, weights_only, then load_state_dict). The file is in the page cache for all of them.

    python bench/loading.py [--layers 12] [--rounds 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evalcore.archive import probe, summarise
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.models.decoder import on_meta
from tests.support.checkpoints import ROSELLM, save_rosellm

_PEAK = "print([int(line.split()[1]) >> 10 for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "big.pt"
        small_gpt2 = {"vocab_size": 50257, "max_position_embeddings": 1024, "n_layers": options.layers, "n_heads": 12}
        save_rosellm(path, config={**ROSELLM, **small_gpt2, "d_model": 768, "d_ff": 3072}, tied=True)
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
            (
                "peak MB, ours",
                f"from evalcore.loading.checkpoint import load_checkpoint; load_checkpoint({str(path)!r})",
            ),
            ("peak MB, torch.load", f"import torch; torch.load({str(path)!r}, map_location='cpu', weights_only=True)"),
            ("peak MB, summarise", f"from evalcore.archive import summarise; summarise({str(path)!r})"),
        ):
            root = Path(__file__).resolve().parent.parent
            out = subprocess.run([sys.executable, "-c", f"{code}; {_PEAK}"], capture_output=True, text=True, cwd=root)
            print(f"{name:34} {out.stdout.strip()}")


if __name__ == "__main__":
    main()
