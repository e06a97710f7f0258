"""Twenty tiny checkpoints waiting: one launch that drains them beside a torchrun of the plain script for each."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import files
from bench.processes import machine, torchrun
from evalcore.launch_folder import LaunchFolder, read_outcome, write_atomically
from evalcore.messages import AttemptRequest, EvalSetSpec, Item, LaunchSpec, to_json


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=20_000)


def run(options: argparse.Namespace) -> None:
    print(f"# backlog: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = files.tokens(folder, options.tokens, files.TINY["vocab_size"])
        paths = [files.checkpoint(folder, files.TINY, f"step_{i}.pt", seed=i) for i in range(options.checkpoints)]
        launch = LaunchFolder(folder / "launch")
        launch.create()
        spec = LaunchSpec("bench", (EvalSetSpec("val", (str(data),)),), device="cpu")
        write_atomically(launch.spec, to_json(spec))
        for i, path in enumerate(paths, 1):
            write_atomically(launch.item(i), to_json(Item(str(path), "", 0, (AttemptRequest(i, "t", "val"),))))
        ours = torchrun(1, "-m", "evalcore.worker", str(launch.root))
        losses = [read_outcome(launch.outcome(i)).measurement.loss for i in range(1, len(paths) + 1)]  # type: ignore[union-attr]
        plain = [torchrun(1, "bench/plain.py", str(path), str(data), "128", "8") for path in paths]
        wall, cpu = sum(ran.wall_s for ran in plain), sum(ran.cpu_s for ran in plain)
        worst = max(abs(ran.printed["loss"] - loss) for ran, loss in zip(plain, losses, strict=True))
        print(
            f"{len(paths)} checkpoints: plain {wall:.1f} s {cpu:.1f} CPU-s"
            f" | ours {ours.wall_s:.1f} s {ours.cpu_s:.1f} CPU-s"
            f" | {wall / ours.wall_s:.1f}x wall, {cpu / ours.cpu_s:.1f}x CPU | losses differ by {worst:.1e} at most"
        )
