"""Whole processes measured from outside: wall time, CPU-seconds of the tree, peak resident memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ran:
    """wall_s, cpu_s (user and system, children included), peak_bytes (of the largest process), the JSON it printed."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    printed: dict[str, Any]


def python(*arguments: str, env: dict[str, str] | None = None) -> Ran:
    """Run `python ARGUMENTS` to its end; SystemExit with its words where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**compiled_once(os.environ), **(env or {})},
    )
    assert process.stdout is not None and process.stderr is not None
    output, words = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{words[-2000:]}")
    last = output.strip().splitlines()[-1] if output.strip() else "{}"
    return Ran(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, json.loads(last) if last[0] == "{" else {})


def compiled_once(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment with compiled modules kept, as an installation has them, whatever the checkout allows."""
    kept = {name: value for name, value in outer.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"PYTHONPYCACHEPREFIX": os.path.join(tempfile.gettempdir(), f"ckptwatch-bench-{os.getuid()}"), **kept}


def torchrun(ranks: int, *arguments: str, env: dict[str, str] | None = None) -> Ran:
    flags = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return python(*flags, *arguments, env={"OMP_NUM_THREADS": "1", **(env or {})})


def machine() -> str:
    """The CPU's name and what of its instructions matters here."""
    info = Path("/proc/cpuinfo").read_text()
    name = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "unknown")
    known = [word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {word}" in info]
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {' '.join(known)}, load {os.getloadavg()[0]:.1f}"
