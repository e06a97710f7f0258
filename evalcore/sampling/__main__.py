"""`python -m evalcore.sampling CKPT --prompt TEXT`: load one checkpoint, print the texts it generates.

Owns its flags, its output and its exit status; the generating is the code that the daemon's jobs run. Stores nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from evalcore.command_flags import json_object
from evalcore.sampling.spec import DEFAULT_NEW_TOKENS, SampleSpec, sample_spec
from evalcore.worker.process_setup import keep_freed_memory, share_the_cpu, uncollected

EXIT_USAGE, EXIT_NOT_FOUND, EXIT_FAILED, EXIT_CHECKPOINT = 2, 4, 5, 8


def main(arguments: list[str] | None = None) -> int:
    """0: texts were printed; 2: flags; 4: no such file; 5: tokenizer or prompt; 8: the checkpoint."""
    options = parser().parse_args(arguments)
    try:
        spec = sample_spec(
            tuple(options.prompt),
            max_new_tokens=options.max_new_tokens,
            greedy=options.greedy,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            timeout_s=options.timeout_s,
        )
    except ValueError as error:
        return _fail(EXIT_USAGE, str(error), None)
    share_the_cpu()
    keep_freed_memory()
    try:
        return _sample(options, spec)
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="python -m evalcore.sampling", description=__doc__)
    out.add_argument("checkpoint", metavar="CKPT")
    out.add_argument("--prompt", action="append", required=True, metavar="TEXT", help="repeatable")
    out.add_argument("--max-new-tokens", type=int, default=DEFAULT_NEW_TOKENS, metavar="N")
    out.add_argument("--greedy", action="store_true", help="the likeliest token each time (default)")
    out.add_argument("--temperature", type=float, help="draw tokens; divides the logits")
    out.add_argument("--top-k", type=int, help="draw among the K likeliest tokens")
    out.add_argument("--top-p", type=float, help="draw among the likeliest tokens with this share of probability")
    out.add_argument("--seed", type=int, help="of the draws (default: 0)")
    out.add_argument("--timeout-s", type=float, default=600.0, help="seconds for all prompts (default: 600)")
    out.add_argument("--tokenizer", metavar="NAME|FILE|bytes", help="default: the checkpoint folder's own")
    out.add_argument("--device", default="auto")
    out.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    out.add_argument("--model-config", type=json_object, metavar="JSON", help="completes the checkpoint's own")
    out.add_argument("--model-state", metavar="NAME")
    out.add_argument("--model-factory", metavar="PKG.MOD:FUNC")
    out.add_argument("--python-path", action="append", default=[], metavar="DIR")
    out.add_argument("--json", action="store_true")
    return out


def _sample(options: argparse.Namespace, spec: SampleSpec) -> int:
    with uncollected():
        from evalcore.data.tokenizers import build_tokenizer
        from evalcore.loading.checkpoint import load_checkpoint
        from evalcore.measure.process_group import start_process_group
        from evalcore.messages import ModelSpec
        from evalcore.sampling.prompts import no_tokenizer
        from evalcore.sampling.sample_model import SampleRun
        from evalcore.worker.failures import failure_of
        from evalcore.worker.own_tokenizer import folder_beside, own_tokenizer

    path = options.checkpoint
    if not os.path.lexists(path):
        return _fail(EXIT_NOT_FOUND, f"there is no checkpoint {path}", "ckptwatch sample CKPT --prompt TEXT")
    model = ModelSpec(options.model_factory, options.model_config, options.model_state, tuple(options.python_path))
    try:
        group = start_process_group(options.device)
    except (RuntimeError, ValueError) as error:
        return _fail(EXIT_USAGE, str(error), None)
    try:
        folder = folder_beside(path)
        name = options.tokenizer if options.tokenizer not in (None, "auto") else own_tokenizer(folder)
        if name is None:
            raise no_tokenizer(path)
        tokenizer = build_tokenizer(name)
        with load_checkpoint(path, spec=model, device=str(group.device), wants_content=False) as loaded:
            run = SampleRun(
                *(loaded.model, loaded.vocab_size, loaded.context_length, loaded.config, tokenizer, group.device),
                folder=folder,
                family=loaded.family,
                dtype=options.dtype,
            )
            texts = run.texts(spec)
            facts = {"checkpoint": path, "step": loaded.step, "tokenizer": name, "mode": spec.mode}
            notes = loaded.notes
    except Exception as error:
        kind, reason, hint = failure_of(error, path)
        if kind == "crash":
            raise
        status = {"vanished": EXIT_NOT_FOUND, "data": EXIT_FAILED, "oom": EXIT_FAILED}.get(kind, EXIT_CHECKPOINT)
        return _fail(status, reason, hint)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    settings = {key: value for key, value in spec.declared().items() if key != "prompts"}
    rows = [
        {**facts, **settings, "prompt": text.prompt, "text": text.text, "tokens": len(text.tokens)}
        | {"token_ids": list(text.tokens), "ended": text.ended, "note": text.note}
        for text in texts
    ]
    _print(rows, options.json)
    return 0


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for row in rows:
        step = "no step" if row["step"] is None else f"step {row['step']}"
        how = row["mode"] if row["mode"] == "greedy" else f"temperature {row['temperature']:g}, seed {row['seed']}"
        sys.stdout.write(f"{fit(row['checkpoint'])}  {step}  {how}, {row['tokens']} tokens\n")
        sys.stdout.write(f"{fit(row['prompt'], lines=True)}|{fit(row['text'], lines=True)}\n")
        sys.stdout.write(f"note: {row['note']}\n" if row["note"] else "")


def fit(text: str, lines: bool = False) -> str:
    """The text fit for a terminal: control characters and bidi marks escaped. lines: line breaks and tabs stay."""
    kept = "\n\t" if lines else ""
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape", "backslashreplace").decode()
        for sign in text
    )


def _fail(status: int, reason: str, hint: str | None) -> int:
    sys.stderr.write(f"error: {fit(reason)}\n" + (f"  next:  {hint}\n" if hint else ""))
    return status


if __name__ == "__main__":
    sys.exit(main())
