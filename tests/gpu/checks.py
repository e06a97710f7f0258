"""One function for each claim about an accelerator; it returns what it measured, in words, or raises AssertionError.

The same functions run on the simulated accelerator in the test suite, so that they are known to work before a GPU is
at hand. What needs a real device only (nccl, streams, two processes) is in processes.py.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure import accelerator
from evalcore.measure.evaluate import evaluate
from tests.support.checkpoints import save_rosellm

SEQ_LEN = 256
CONFIG = {
    "vocab_size": 5003, "max_position_embeddings": SEQ_LEN, "n_layers": 4, "n_heads": 8, "d_model": 256, "d_ff": 1024,
}  # fmt: skip
BF16_NATS = 2e-3


class Subject:
    """One checkpoint loaded twice, for the CPU and for the device, and a stream with a short last window."""

    def __init__(self, device: torch.device, windows: int = 20, config: dict | None = None) -> None:
        self.device = device
        self.seq_len = (config or CONFIG)["max_position_embeddings"]
        with tempfile.TemporaryDirectory() as folder:
            path = save_rosellm(Path(folder) / "a.pt", config=config or CONFIG, optimizer=False)
            self.on_cpu = load_checkpoint(path).model
            self.on_device = load_checkpoint(path, device=str(device)).model
        count = windows * self.seq_len - self.seq_len // 3
        vocabulary = (config or CONFIG)["vocab_size"]
        self.tokens = np.random.default_rng(0).integers(0, vocabulary, count).astype(np.uint16)
        self.expected = evaluate(self.on_cpu, self.tokens, dtype="float32").loss

    def loss(self, dtype: str = "float32", batch_size: int | None = None):
        return evaluate(self.on_device, self.tokens, dtype=dtype, batch_size=batch_size)


def float32_is_the_cpus_value(subject: Subject) -> str:
    """No TF32: its ten bits of mantissa would show in the fourth digit."""
    loss = subject.loss().loss
    difference = abs(loss - subject.expected) / subject.expected
    assert difference <= 1e-6, f"{loss} on the device, {subject.expected} on the CPU"
    return f"relative difference {difference:.1e}"


def bfloat16_stays_within_its_tolerance(subject: Subject) -> str:
    difference = abs(subject.loss("bfloat16").loss - subject.expected)
    assert difference <= BF16_NATS, f"{difference} nats from float32"
    return f"{difference:.1e} nats from float32"


def the_value_is_the_same_for_any_batch(subject: Subject) -> str:
    losses = [subject.loss(batch_size=size).loss for size in (1, 2, 3, 8, 64)] + [subject.loss().loss]
    spread = (max(losses) - min(losses)) / losses[0]
    assert spread <= 1e-6, losses
    return f"relative spread {spread:.1e} over batches 1, 2, 3, 8, 64 and the chosen one"


def the_batch_is_halved_where_memory_is_short(subject: Subject) -> str:
    """Half of the memory that one large batch takes is left; then the loss must come out, and be the same."""
    device, wanted = subject.device, len(subject.tokens) // subject.seq_len
    before = accelerator.allocated_bytes(device)
    whole = subject.loss(batch_size=wanted)
    assert before is not None, "the device tells nothing of its memory"
    accelerator.empty_cache(device)
    with _left(device, (whole.peak_memory_bytes - before) // 2):
        result = subject.loss(batch_size=wanted)
    accelerator.empty_cache(device)
    assert result.batch_size < wanted, "the batch was not halved"
    assert abs(result.loss - subject.expected) <= 1e-6 * subject.expected
    return f"{wanted} windows became {result.batch_size}, the loss the same"


@contextlib.contextmanager
def _left(device: torch.device, count: int) -> Iterator[None]:
    """Only so many bytes can still be allocated: by a limit of this process on CUDA, else by filling the device."""
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1]
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + count) / total, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    free = accelerator.free_bytes(device)
    assert free is not None, "the device tells nothing of its memory"
    ballast = torch.empty(max(0, free - count), dtype=torch.uint8, device=device)
    yield
    del ballast


def the_host_waits_once_a_batch(subject: Subject) -> str:
    """torch's own detector of synchronisations, on CUDA; the simulation counts by itself."""
    if subject.device.type != "cuda":
        return "not measured on this device"
    subject.loss(batch_size=4)
    batches = -(-(len(subject.tokens) // subject.seq_len) // 4) + 1
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            subject.loss(batch_size=4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(warning.message) for warning in caught)
    assert waits <= batches + 2, f"{waits} waits for {batches} batches"
    return f"{waits} waits for {batches} batches"


CHECKS: tuple[Callable[[Subject], str], ...] = (
    float32_is_the_cpus_value,
    bfloat16_stays_within_its_tolerance,
    the_value_is_the_same_for_any_batch,
    the_batch_is_halved_where_memory_is_short,
    the_host_waits_once_a_batch,
)
