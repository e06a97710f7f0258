"""`python -m evalcore.loading.factory_trial CKPT --factory PKG.MOD:FUNC`: load one checkpoint, run one forward pass.

Prints what was found out, or the traceback of the user's code. Evaluates nothing and stores nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch

from evalcore.archive.errors import ArchiveError
from evalcore.command_flags import json_object
from evalcore.loading.checkpoint import CheckpointError, LoadedModel, load_checkpoint
from evalcore.measure.accelerator import pick_device
from evalcore.messages import ModelSpec
from evalcore.models.user_code import UserCodeError

EXIT_USAGE, EXIT_NOT_FOUND, EXIT_CHECKPOINT = 2, 4, 8
TOKENS_MAX = 1024
TOKENS_WITHOUT_CONTEXT = 64


def main(arguments: list[str] | None = None) -> int:
    """0: the model works; 2: flags; 4: no such file; 8: the factory, its model or the checkpoint does not."""
    parser = argparse.ArgumentParser(prog="python -m evalcore.loading.factory_trial", description=__doc__)
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--factory", required=True, metavar="PKG.MOD:FUNC")
    parser.add_argument("--python-path", action="append", default=[], metavar="DIR")
    parser.add_argument("--model-config", type=json_object, metavar="JSON", help="completes the checkpoint's own")
    parser.add_argument("--model-state", metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--finished-file", help="is made at the end: user code may end the process with any status")
    options = parser.parse_args(arguments)
    spec = ModelSpec(options.factory, options.model_config, options.model_state, tuple(options.python_path))
    try:
        device = str(pick_device(options.device, 0))
    except RuntimeError as error:
        return _fail(str(error), "", EXIT_USAGE)
    try:
        with load_checkpoint(options.checkpoint, spec=spec, device=device, wants_content=False) as loaded:
            facts = facts_of(loaded, device)
    except UserCodeError as error:
        sys.stderr.write(f"{error.traceback_text.rstrip()}\n")
        return _fail(error.reason, "")
    except (ArchiveError, CheckpointError) as error:
        return _fail(error.reason, error.hint)
    except FileNotFoundError:
        return _fail(f"there is no checkpoint {options.checkpoint}", "", EXIT_NOT_FOUND)
    status = 0 if facts["causal"] else EXIT_CHECKPOINT
    _print(facts, options.json)
    if options.finished_file:
        sys.stdout.flush()
        open(options.finished_file, "w").close()
    return status


def facts_of(loaded: LoadedModel, device: str) -> dict[str, Any]:
    """One forward pass over distinct tokens, and a second one with another last token, which shows the causality."""
    model: Any = loaded.model
    length = max(2, min(loaded.context_length or TOKENS_WITHOUT_CONTEXT, TOKENS_MAX))
    tokens = (torch.arange(length, device=device) % loaded.vocab_size)[None]
    other = tokens.clone()
    other[0, -1] = (other[0, -1] + 1) % loaded.vocab_size
    started = time.perf_counter()
    with torch.inference_mode():
        logits = model.logits(tokens)
        seconds = time.perf_counter() - started
        changed = (model.logits(other) - logits)[0, :-1].abs().max().item()
    return {
        "model": type(getattr(model, "inner", model)).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step": loaded.step,
        "context_length": loaded.context_length,
        "vocab_size": loaded.vocab_size,
        "logits": list(logits.shape),
        "finite": bool(torch.isfinite(logits).all()),
        "causal": bool(changed <= 1e-3),
        "seconds": seconds,
        "notes": loaded.notes,
    }


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    notes = facts.pop("notes")
    if facts["context_length"] is None:
        remedy = "give --seq-len, or the model an attribute context_length"
        facts["context_length"] = f"not known: windows of 1024 tokens are assumed; {remedy}"
    if not facts["causal"]:
        facts["causal"] = "no: logits of earlier positions change with the last token, so a loss would mean nothing"
    facts["seconds"] = f"{facts['seconds']:.3f}"
    for name, value in facts.items():
        shown = "yes" if value is True else "no" if value is False else value
        sys.stdout.write(f"{name.replace('_', ' '):<15} {shown}\n")
    for note in notes:
        sys.stdout.write(f"note: {note}\n")


def _fail(reason: str, hint: str, status: int = EXIT_CHECKPOINT) -> int:
    sys.stderr.write(f"error: {reason}\n" + (f"  next:  {hint}\n" if hint else ""))
    return status


if __name__ == "__main__":
    sys.exit(main())
