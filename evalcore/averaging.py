"""`python -m evalcore.averaging A B C --out FILE`: writes the mean of checkpoints as one checkpoint.

Owns the arguments, the weights and the layout of the file. Memory: one model in float32 and one tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalcore.loading.mean import OpenedMember
    from evalcore.loading.reading import Opened

EXIT_USAGE, EXIT_NOT_FOUND, EXIT_FAILED, EXIT_CHECKPOINT = 2, 4, 5, 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 usage, 4 a checkpoint is missing, 5 it cannot be written, 8 a checkpoint cannot be averaged."""
    parser = argparse.ArgumentParser(prog="ckptwatch average", description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CKPT")
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--ema", type=float, metavar="DECAY")
    parser.add_argument("--state", metavar="NAME")
    parser.add_argument("--model-config", metavar="FILE")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if len(options.checkpoints) < 2:
        return _fail(EXIT_USAGE, "a mean needs at least two checkpoints", "name them all before --out")
    if options.ema is not None and not 0 < options.ema < 1:
        return _fail(EXIT_USAGE, f"--ema {options.ema} is not between 0 and 1", "0.9 weighs the last ten")
    if os.path.lexists(options.out) and not options.force:
        return _fail(EXIT_USAGE, f"{options.out} exists", "give another --out, or --force to replace it")
    folder = os.path.dirname(options.out) or "."
    if not os.path.isdir(folder):
        return _fail(EXIT_NOT_FOUND, f"there is no folder {folder} to write {options.out} in", f"mkdir -p {folder}")
    from evalcore.models.plan import CheckpointError

    try:
        members = _write(options)
    except FileNotFoundError as error:
        return _fail(EXIT_NOT_FOUND, f"{error.filename}: no such file or folder", "check the path")
    except CheckpointError as error:
        return _fail(EXIT_CHECKPOINT, f"{error.kind}: {error.reason}", error.hint)
    except OSError as error:
        return _fail(EXIT_FAILED, f"{error.filename or options.out}: {error.strerror or error}", "check --out")
    for member in members:
        print(f"{member.weight:.4f}  {member.name}", file=sys.stderr)
    weights = {member.name: member.weight for member in members}
    print(json.dumps({"out": options.out, "weights": weights}) if options.json else options.out)
    return 0


def _write(options: argparse.Namespace) -> list[OpenedMember]:
    """Raises CheckpointError naming the checkpoint, OSError."""
    from evalcore.loading.checkpoint import open_checkpoint
    from evalcore.loading.mean import OpenedMember, mean_of
    from evalcore.loading.reading import OpenOptions
    from evalcore.loading.weights import read_tensors
    from evalcore.mean_weights import ema_weights, equal_weights
    from evalcore.messages import ModelSpec
    from evalcore.models.plan import CheckpointError
    from evalcore.saving import save_checkpoint

    config = _config(options.model_config)
    spec = ModelSpec(None, config, options.state)
    opened: dict[str, Opened] = {}
    try:
        for path in options.checkpoints:
            if path in opened:
                raise CheckpointError("unsupported", f"{path} is named twice", "name each checkpoint once")
            try:
                opened[path] = open_checkpoint(path, OpenOptions(spec))
            except CheckpointError as error:
                raise CheckpointError(error.kind, f"{path}: {error.reason}", error.hint) from error
        _demand_different(opened)
        names = _newest_first(opened)
        weights = equal_weights(len(names)) if options.ema is None else ema_weights(options.ema, len(names))
        members = [OpenedMember(name, opened[name], weight) for name, weight in zip(names, weights, strict=False)]
        mean = mean_of(members, spec, built=False)
        tensors, _ = read_tensors(mean.records, mean.state.tensors)
        save_checkpoint(_payload(mean, members, tensors), Path(options.out))
        return members
    finally:
        for checkpoint in opened.values():
            checkpoint.close()


def _payload(mean: Opened, members: Sequence[OpenedMember], tensors: dict[str, Any]) -> dict[str, Any]:
    """What torch.load(weights_only=True) and this project's reader read. The family and what was assumed are fields."""
    from evalcore.archive.meaning.family import FAMILIES

    reading = mean.reading
    payload: dict[str, Any] = {"model": tensors}
    config = {**reading.assumed, **(reading.config.values if reading.config is not None else {})}
    if config:
        named = {"family": reading.family} if reading.family in FAMILIES else {}
        payload["model_config"] = {**config, **named}
    if mean.summary.step is not None:
        payload["step"] = mean.summary.step
    payload["mean_of"] = [member.name for member in members]
    payload["mean_weights"] = [member.weight for member in members]
    return payload


def _newest_first(opened: dict[str, Opened]) -> list[str]:
    """By their steps where all have one, else the last one named is the newest."""
    names = list(reversed(opened))
    steps = {name: opened[name].summary.step for name in names}
    if None in steps.values() or len(set(steps.values())) < len(names):
        return names
    return sorted(names, key=lambda name: steps[name] or 0, reverse=True)


def _demand_different(opened: dict[str, Opened]) -> None:
    from evalcore.models.plan import CheckpointError

    seen: dict[str, str] = {}
    for name, checkpoint in opened.items():
        same = seen.setdefault(checkpoint.summary.digest, name)
        if same != name:
            raise CheckpointError("unsupported", f"{same} and {name} are the same checkpoint", "name each once")


def _config(path: str | None) -> dict[str, Any] | None:
    from evalcore.models.plan import CheckpointError

    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("unsupported", f"--model-config {path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise CheckpointError("unsupported", f"--model-config {path} holds no JSON object")
    return config


def _fail(status: int, reason: str, hint: str) -> int:
    print(f"error: {reason}" + (f"\n  next:  {hint}" if hint else ""), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
