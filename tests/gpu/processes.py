"""Checks that need processes of their own: nccl over every visible GPU, and two launches on two devices at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.gpu.checks import CONFIG, SEQ_LEN
from tests.support.checkpoints import save_rosellm

TIMEOUT_S = 600


def save_inputs(folder: Path, windows: int = 64) -> list[str]:
    """A checkpoint and tokens, as arguments of the stand-alone command."""
    save_rosellm(folder / "a.pt", config=CONFIG, optimizer=False)
    tokens = np.random.default_rng(0).integers(0, CONFIG["vocab_size"], windows * SEQ_LEN + 1).astype(np.uint16)
    np.save(folder / "val.npy", tokens)
    data = ["--data-mode", "fineweb_npy", "--val-npy", str(folder / "val.npy")]
    return ["-m", "evalcore", "--checkpoint-path", str(folder / "a.pt"), *data, "--json"]


def every_number_of_ranks_gives_one_value(arguments: list[str], gpus: int, device: str = "cuda") -> str:
    """1 rank under torchrun uses nccl too."""
    losses = {}
    for count in sorted({1, 2, gpus} & set(range(1, gpus + 1))):
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", *_rendezvous()]
        losses[count] = _loss([*launcher, *arguments, "--device", device, "--dtype", "float32"])
    spread = max(losses.values()) - min(losses.values())
    assert spread <= 1e-6 * losses[1], losses
    return f"{device}, ranks {', '.join(map(str, losses))}: spread {spread:.1e} nats"


def two_launches_share_no_device(arguments: list[str], uuids: list[str]) -> str:
    """Both at once, each with one device in its CUDA_VISIBLE_DEVICES, as the daemon starts them."""
    if len(uuids) < 2:
        return "skipped: one device"
    command = [sys.executable, *arguments, "--device", "cuda", "--dtype", "float32"]
    running = [
        subprocess.Popen(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": uuid}, stdout=subprocess.PIPE, text=True)
        for uuid in uuids[:2]
    ]
    losses = [json.loads(process.communicate(timeout=TIMEOUT_S)[0].splitlines()[-1])["loss"] for process in running]
    assert losses[0] == losses[1], losses
    return f"two at once, the same loss {losses[0]:.6f}"


def _loss(arguments: list[str]) -> float:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])["loss"]


def _rendezvous() -> tuple[str, ...]:
    return "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"
