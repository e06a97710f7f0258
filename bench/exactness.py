"""How far the number moves: float32 over batch, chunk, threads and ranks; bfloat16 on a model that was trained."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import files
from bench.processes import machine, torchrun


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=300, help="training steps of the model for bfloat16")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--windows", type=int, default=17, help="of 256 tokens, for float32; one short window more")
    parser.add_argument("--held-out", type=int, default=40_000, help="tokens for bfloat16")


def run(options: argparse.Namespace) -> None:
    print(f"# exactness: {machine()}")
    with tempfile.TemporaryDirectory() as name:
        _float32(Path(name), options.windows, options.ranks)
        _bfloat16(options.steps, options.held_out)


def _float32(folder: Path, windows: int, ranks: list[int]) -> None:
    import torch

    from evalcore.data import open_stream
    from evalcore.loading.checkpoint import load_checkpoint
    from evalcore.measure.evaluate import evaluate

    shape = {**files.GPT2_SMALL, "n_layers": 2, "vocab_size": 8192, "max_position_embeddings": 256}
    path = files.checkpoint(folder, shape)
    data = files.tokens(folder, windows * 256 + 100, 8192)
    losses = {}
    with load_checkpoint(path) as loaded:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in (1, 2, 3, 5, 8):
                for chunk in (100, 1024):
                    result = evaluate(loaded.model, open_stream(data), batch_size=batch, chunk_tokens=chunk)
                    losses[f"{threads} threads, batch {batch}, chunk {chunk}"] = result.loss
    for count in ranks:
        flags = ["--checkpoint-path", str(path), "--data", str(data), "--device", "cpu", "--batch-size", "2", "--json"]
        losses[f"{count} ranks"] = torchrun(count, "-m", "evalcore", *flags).printed["loss"]
    spread = (max(losses.values()) - min(losses.values())) / min(losses.values())
    same = len({losses[f"{count} ranks"] for count in ranks}) == 1
    bits = "equal" if same else "NOT equal"
    print(f"float32: {len(losses)} ways, spread {spread:.1e} relative; ranks {ranks} bitwise {bits}")


def _bfloat16(steps: int, held_out_tokens: int) -> None:
    """A byte model of 4 layers and width 256, trained here on the standard library's text, measured on its rest."""
    import sysconfig

    import numpy as np
    import torch

    from bench.plain import Gpt
    from evalcore.loading.checkpoint import load_checkpoint
    from evalcore.measure.evaluate import evaluate

    torch.manual_seed(0)
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    ids = np.frombuffer(b"".join(source.read_bytes() for source in sources), dtype=np.uint8)
    train, held_out = ids[: len(ids) * 9 // 10], ids[-held_out_tokens:]
    config = {
        "vocab_size": 256,
        "max_position_embeddings": 128,
        "n_layers": 4,
        "n_heads": 4,
        "d_model": 256,
        "d_ff": 1024,
        "use_tensor_parallel": False,
    }
    model = Gpt(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        starts = torch.randint(0, len(train) - 129, (16,))
        batch = torch.from_numpy(np.stack([train[s : s + 129] for s in starts.tolist()]).astype(np.int64))
        optimizer.zero_grad()
        model(batch[:, :-1], batch[:, 1:]).backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save({"model": model.state_dict(), "optimizer": {}, "step": steps, "config": config}, path)
        exact = evaluate(load_checkpoint(path).model, held_out).loss
        lower = load_checkpoint(path, linear_dtype=torch.bfloat16).model
        losses = [evaluate(lower, held_out, dtype="bfloat16", batch_size=size).loss for size in (1, 2, 3, 8, 32)]
    off, spread = abs(losses[0] - exact), max(losses) - min(losses)
    print(f"bfloat16 on a byte model trained {steps} steps: {exact:.4f} nats, off by {off:.1e}, spread {spread:.1e}")
