"""The training run of `ckptwatch demo`: a separate process that knows nothing of the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class DemoTrainer:
    """Starts evalcore.demo.train; its output goes to this process's stdout."""

    def __init__(self, text: Path, folder: Path, steps: int, save_every: int) -> None:
        arguments = [os.fspath(text), os.fspath(folder), str(steps), str(save_every)]
        self._process = subprocess.Popen([sys.executable, "-m", "evalcore.demo.train", *arguments])

    def ended(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
