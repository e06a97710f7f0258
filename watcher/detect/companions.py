"""Files that belong to a checkpoint file and to nothing else: nanochat's meta_N.json and optim_N_rank*.pt.

Reads listings and stats. Deletes nothing.
"""

from __future__ import annotations

import os
import re

_MODEL = re.compile(r"model_(\d+)\.pt")


def companions_of(path: str) -> list[tuple[str, os.stat_result]]:
    """(name, stat) of regular files that were saved with a model_N.pt of nanochat: without them it is no such file."""
    folder, name = os.path.split(path)
    match = _MODEL.fullmatch(name)
    if match is None:
        return []
    pattern = re.compile(rf"meta_{match[1]}\.json|optim_{match[1]}(?:_rank\d+)?\.pt")
    found = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
    except OSError:
        return []
    return sorted(found) if any(name.startswith("meta_") for name, _ in found) else []
