"""`python -m tests.gpu`: every check on the accelerator of this machine, and a table to paste.

Exits with 0 where all hold, and where there is no device: then it says what it would have done.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from tests.gpu import processes
from tests.gpu.checks import CHECKS, Subject


def main() -> int:
    names = [check.__name__ for check in CHECKS]
    names += ["every_number_of_ranks_gives_one_value", "two_launches_share_no_device"]
    if not torch.cuda.is_available():
        print("would check on each CUDA device, with the weights of a small random model:")
        print("\n".join(f"  {name.replace('_', ' ')}" for name in names))
        print("then run bench/gpu.py: tokens/s beside a plain evaluation script")
        print("skipped: no CUDA device")
        return 0
    device = torch.device("cuda", 0)
    rows = [_row(check.__name__, lambda check=check: check(Subject(device))) for check in CHECKS]
    gpus = torch.cuda.device_count()
    with tempfile.TemporaryDirectory() as folder:
        arguments = processes.save_inputs(Path(folder))
        uuids = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(gpus)]
        ranks, launches = processes.every_number_of_ranks_gives_one_value, processes.two_launches_share_no_device
        rows.append(_row(ranks.__name__, lambda: ranks(arguments, gpus)))
        rows.append(_row(launches.__name__, lambda: launches(arguments, uuids)))
    print(f"\n{gpus} x {torch.cuda.get_device_name(device)}, torch {torch.__version__}\n")
    print("| check | holds | measured |\n|---|---|---|")
    for name, holds, words in rows:
        print(f"| {name.replace('_', ' ')} | {'yes' if holds else 'NO'} | {words} |")
    return 0 if all(holds for _, holds, _ in rows) else 1


def _row(name: str, check: Callable[[], str]) -> tuple[str, bool, str]:
    try:
        words = check()
    except Exception as error:
        traceback.print_exc()
        return name, False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    print(f"{name}: {words}", flush=True)
    return name, True, words


if __name__ == "__main__":
    sys.exit(main())
