"""Memory of one evaluation: how many windows fit, what out-of-memory looks like, and the peak.

Owns the numbers behind `batch_size = auto`. Never evaluates.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evalcore.device_memory import PASS_TOKENS
from evalcore.measure import accelerator

_CPU_TOKENS = (2048, 4096)  # a large model is busy with 2,048 tokens; a tiny one is overhead below 4,096
_CPU_PARALLEL_TOKENS = 16384  # many cores each want a window, as long as all of them together stay small
_DEVICE_TOKENS = 32768
_DEVICE_SHARE = 0.7  # of the free memory: a trainer on the same device must not run out of it
_LOGITS_BYTES = 512 << 20
_OOM_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether fewer windows at a time could cure this error."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _OOM_WORDS)


def auto_batch_size(model: Any, device: torch.device, seq_len: int, vocab_size: int | None) -> int:
    """Windows per forward pass. vocab_size: given only where the model makes whole logits, which then set the limit."""
    if accelerator.is_accelerator(device):
        tokens = _DEVICE_TOKENS
    else:
        parameters = sum(p.numel() for p in model.parameters()) if hasattr(model, "parameters") else 0
        tokens = min(max(10**11 // max(parameters, 1), _CPU_TOKENS[0]), _CPU_TOKENS[1])
        tokens = max(tokens, min(torch.get_num_threads() * seq_len, _CPU_PARALLEL_TOKENS))
    if vocab_size is not None:
        tokens = min(tokens, _LOGITS_BYTES // (4 * vocab_size))
    return max(1, tokens // seq_len)


def fitted_batch_size(wanted: int, seq_len: int, device: torch.device, score: Callable[[int], object]) -> int:
    """`wanted`, or fewer windows where the device's free memory is too little for them.

    score(n) runs one pass over n windows; it is called once, with few, and what it took is scaled up. For a few windows
    the answer is `wanted`: trying is cheaper than measuring. So it is on a device that tells nothing of its memory.
    """
    sample = max(1, PASS_TOKENS // seq_len)
    before = accelerator.allocated_bytes(device)
    if wanted <= sample or before is None:
        return wanted
    accelerator.reset_peak(device)
    score(sample)
    peak, free = accelerator.peak_allocated_bytes(device), accelerator.free_bytes(device)
    return wanted if peak is None or free is None else windows_that_fit(wanted, sample, peak - before, free)


def windows_that_fit(wanted: int, sample: int, taken_bytes: int, free_bytes: int) -> int:
    """Windows whose pass stays within its share of free_bytes, given what a pass over `sample` windows took."""
    per_window = max(taken_bytes, 1) / sample
    return max(1, min(wanted, int(_DEVICE_SHARE * free_bytes / per_window)))


def reset_peak(device: torch.device) -> None:
    """Begin a new peak: of the device's allocator, or of the process where the kernel lets us."""
    if accelerator.is_accelerator(device):
        accelerator.reset_peak(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak is then that of the whole process


def peak_bytes(device: torch.device) -> int:
    """Peak since `reset_peak`, in bytes."""
    if accelerator.is_accelerator(device) and (peak := accelerator.peak_allocated_bytes(device)) is not None:
        return peak
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass  # no /proc: the peak of the whole process is the next best
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
