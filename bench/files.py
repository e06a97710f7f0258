"""The checkpoints and token files that the benchmarks read, written once per run into a folder of its own."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import numpy as np

GPT2_SMALL = {
    "vocab_size": 50257, "max_position_embeddings": 1024, "n_layers": 12, "n_heads": 12, "d_model": 768, "d_ff": 3072,
}  # fmt: skip
TINY = {
    "vocab_size": 512, "max_position_embeddings": 128, "n_layers": 2, "n_heads": 4, "d_model": 64, "d_ff": 256,
}  # fmt: skip
#: Tokens of a context and of an ending: 5, 25, 50, 75 and 95 % of HellaSwag's validation items in GPT-2's tokens.
CONTEXT, ENDING = (18, 35, 53, 63, 76), (8, 17, 31, 39, 52)


def drawn_length(draw: random.Random, quantiles: tuple[int, ...]) -> int:
    low = draw.randrange(len(quantiles) - 1)
    return draw.randint(quantiles[low], quantiles[low + 1])


def checkpoint(folder: Path, shape: dict[str, int], name: str = "model.pt", seed: int = 0) -> Path:
    """A rosellm checkpoint of this shape with AdamW state in it: two thirds of the file.

    Written by a process of its own: a child's peak memory starts at what its parent held when it forked.
    """
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(folder / name, shape, seed))
    writer.start()
    writer.join()
    if writer.exitcode != 0:
        raise SystemExit(f"{folder / name} could not be written")
    return folder / name


def _write(path: Path, shape: dict[str, int], seed: int) -> None:
    from tests.support.checkpoints import save_rosellm

    save_rosellm(path, config=dict(shape), tied=True, seed=seed)


def tokens(folder: Path, n: int, vocab_size: int, name: str = "val.npy") -> Path:
    path = folder / name
    np.save(path, np.random.default_rng(0).integers(0, vocab_size, n).astype(np.uint16))
    return path


def forward_flops(shape: dict[str, int], windows: int) -> float:
    """Multiply-adds of the forward pass times two: linear layers, the head, and causal attention's lower half."""
    d, t, layers = shape["d_model"], shape["max_position_embeddings"], shape["n_layers"]
    linear = layers * (4 * d * d + 2 * d * shape["d_ff"]) + d * shape["vocab_size"]
    attention = layers * t * d  # two products of t/2 keys on average
    return 2.0 * windows * t * (linear + attention)
