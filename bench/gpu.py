"""On one CUDA device: our evaluation beside the plain way, in one process, with torch, numpy and tiktoken only.

Owns its own models' weights (random, GPT-2-small shape) so that no checkpoint has to travel. Alternates the two ways,
prints milliseconds per pass (median, and the spread), tokens per second, peak device memory beyond what is held before
the pass, and the share of the device's measured bfloat16 product rate. Needs nothing of the watcher.
usage: python bench/gpu.py [--windows 64] [--repeats 5] [--layers 12] [--also compile cuda-graphs flex-attention]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import gpu_tasks
from bench.gpu_variants import VARIANTS, variant
from bench.plain import Gpt
from evalcore.data.stream import TokenStream
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from evalcore.measure.process_group import ProcessGroup
from evalcore.tasks.evaluate_task import evaluate_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--items", type=int, default=500, help="HellaSwag items, made up")
    parser.add_argument("--device", default="cuda", help="cuda; cpu only to try the script itself")
    parser.add_argument("--also", nargs="*", default=[], choices=VARIANTS, help="our model otherwise, beside eager")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no CUDA device here; nothing was measured")
    config = {
        "vocab_size": options.vocabulary, "max_position_embeddings": 1024, "n_layers": options.layers, "n_heads": 12,
        "d_model": 768, "d_ff": 3072, "dropout": 0.0, "use_tensor_parallel": False, "use_activation_checkpoint": False,
    }  # fmt: skip
    torch.manual_seed(0)
    plain_model = Gpt(config).eval()
    tokens = np.random.default_rng(0).integers(0, options.vocabulary, options.windows * 1024 + 1).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save({"model": plain_model.state_dict(), "optimizer": {}, "step": 1, "config": config}, path)
        started = time.perf_counter()
        loaded = load_checkpoint(path, device=str(device), linear_dtype=torch.bfloat16)
        load_s = time.perf_counter() - started
    plain_model.to(device)
    group = ProcessGroup(device)
    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: plain_loss(plain_model, tokens, device),
        "ours": lambda: evaluate(loaded.model, tokens, dtype="bfloat16", group=group).loss,
    }
    for name in options.also:
        try:
            other = variant(name, loaded.model, device)
            ways[name] = lambda other=other: evaluate(other, tokens, dtype="bfloat16", group=group).loss  # type: ignore[misc]
            ways[name]()  # compiles, captures
        except Exception as error:  # whatever this torch, compiler or device lacks: the other ways are measured
            ways.pop(name, None)
            print(f"{name}: not supported here: {(str(error).strip() or repr(error)).splitlines()[0][:200]}")
    rate = product_rate(device)
    parameters = sum(p.numel() for p in plain_model.parameters()) - 1024 * 768 - options.vocabulary * 768
    flops = 2.0 * options.windows * 1024 * (parameters + options.layers * 1024 * 768)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses, peaks = {}, {}
    for turn in range(options.repeats + 1):
        for name, way in ways.items():
            held = reset(device)
            started = time.perf_counter()
            losses[name] = way()
            synchronize(device)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - started)
            peaks[name] = torch.cuda.max_memory_allocated(device) - held if device.type == "cuda" else 0
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"{name:14} {middle * 1e3:8.1f} ms ({min(taken) * 1e3:.1f} to {max(taken) * 1e3:.1f}),"
            f" {options.windows * 1024 / middle:12,.0f} tokens/s, {peaks[name] / 1e9:.2f} GB beyond the models,"
            f" {flops / middle / rate:.0%} of {rate / 1e12:.0f} TFLOP/s, loss {losses[name]:.6f}"
        )
    if device.type == "cuda":
        print(overlap(loaded.model, tokens, group))
    print(items_per_second(plain_model, loaded.model, options.items, group))
    ratio = statistics.median(seconds["plain"]) / statistics.median(seconds["ours"])
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(json.dumps({"device": where, "torch": torch.__version__, "ratio": ratio, "load_seconds": load_s}))


def plain_loss(model: Gpt, tokens: np.ndarray, device: torch.device, batch: int = 8) -> float:
    """The plain way under autocast: 8 windows a pass, as the seed's default is."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    windows = [ids[s : s + 1025] for s in range(0, len(ids) - 1, 1024)]
    total, count = 0.0, 0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for i in range(0, len(windows), batch):
            part = torch.stack(windows[i : i + batch]).to(device)
            total += model(part[:, :-1], part[:, 1:]).double().item() * part[:, 1:].numel()
            count += part[:, 1:].numel()
    return total / count


def overlap(model: torch.nn.Module, tokens: np.ndarray, group: ProcessGroup, batches: int = 8) -> str:
    """A reader that needs half of the device's time, against one that needs none: what of it shows in the total."""
    read, windows = TokenStream.read, len(tokens) // 1024

    def timed(pause_s: float) -> float:
        def slow_read(stream: TokenStream, start: int, stop: int) -> np.ndarray:
            if stop - start == 1025:
                time.sleep(pause_s)
            return read(stream, start, stop)

        TokenStream.read = slow_read  # type: ignore[method-assign]
        try:
            started = time.perf_counter()
            evaluate(model, tokens, dtype="bfloat16", group=group, batch_size=-(-windows // batches))
            return time.perf_counter() - started
        finally:
            TokenStream.read = read  # type: ignore[method-assign]

    taken_s = min(timed(0.0) for _ in range(3))
    pause_s = taken_s / windows / 2
    added = (min(timed(pause_s) for _ in range(3)) - taken_s) / (windows * pause_s)
    return f"overlap        a reader that sleeps {windows * pause_s * 1e3:.0f} ms in all adds {added:.0%} of that"


def items_per_second(plain: Gpt, model: torch.nn.Module, count: int, group: ProcessGroup) -> str:
    """HellaSwag items: ours beside the loop of a training script, the faster of two runs each."""
    task, device = gpu_tasks.made_up(count), group.device
    taken: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(2):
        for name, times in taken.items():
            started = time.perf_counter()
            if name == "plain":
                chosen = gpu_tasks.plain_choices(plain, task, device)
            else:
                result = evaluate_task(model, task, dtype="bfloat16", group=group)
            synchronize(device)
            times.append(time.perf_counter() - started)
    plain_s, ours_s = min(taken["plain"]), min(taken["ours"])
    other = sum(a != b for a, b in zip(chosen, result.item_scores.chosen, strict=True))
    return (
        f"HellaSwag      {count / ours_s:,.0f} items/s, plain loop {count / plain_s:,.0f} items/s:"
        f" {plain_s / ours_s:.1f}x; another choice on {other} of {count} items"
    )


def product_rate(device: torch.device) -> float:
    """FLOP/s of a large bfloat16 matrix product on this device."""
    side = 8192 if device.type == "cuda" else 512
    a = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    a @ a
    synchronize(device)
    started = time.perf_counter()
    for _ in range(10):
        a @ a
    synchronize(device)
    return 10 * 2.0 * side**3 / (time.perf_counter() - started)


def reset(device: torch.device) -> int:
    """Begin a new peak; the bytes that are held already."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
