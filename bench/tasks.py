"""HellaSwag items per CPU-second with a GPT-2-small shape: ours, lm-evaluation-harness and a loop as build-nanogpt's.

Same weights, same items, each in a process of its own. lm-evaluation-harness comes with the extra `bench`; without it a
line says so. The items are a file of yours (--file hellaswag_val.jsonl), or made up with HellaSwag's lengths.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import tempfile
from pathlib import Path

from bench.files import CONTEXT, ENDING, drawn_length
from bench.processes import machine, python

_WORDS = 3000


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="hellaswag_val.jsonl  [default: items made up]")
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--layers", type=int, default=12, help="12 layers of 768 are GPT-2 small")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16], help="batch sizes of lm-evaluation-harness")
    # one thread by default: threads that wait for each other in a loop would count as work
    parser.add_argument("--threads", type=int, default=1, help="threads of each contender")


def run(options: argparse.Namespace) -> None:
    print(f"# tasks: {machine()}")
    if importlib.util.find_spec("transformers") is None:
        print("tasks: transformers is not installed (pip install '.[hf]' in the clone): nothing to compare with")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = _made_up(options.items) if options.file is None else _read(options.file, options.items)
        (folder / "hellaswag.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        contenders = [("ours", "0"), ("ours-bf16", "0"), ("nanogpt-loop", "0")]
        contenders += [("lm-eval", str(size)) for size in options.batches]
        python("bench/task_contenders.py", "make", str(folder), str(options.layers))
        ours = None
        for who, batch in contenders:
            if who == "lm-eval" and importlib.util.find_spec("lm_eval") is None:
                print("lm-eval         not installed: in a clone of ckptwatch: pip install '.[bench]'")
                break
            threads = {"OMP_NUM_THREADS": str(options.threads)}
            answer = python("bench/task_contenders.py", who, str(folder), batch, env=threads).printed
            rate = len(rows) / answer["cpu_s"]
            ours = ours or (rate, answer)
            differ = sum(a != b for a, b in zip(answer["chosen"], ours[1]["chosen"], strict=True))
            print(
                f"{who:12} {'' if batch == '0' else 'batch ' + batch:9} {rate:7.3f} items per CPU-s, "
                f"{answer['peak_bytes'] / 1e9:.2f} GB | ours is {ours[0] / rate:.2f}x | other choice on {differ} items"
            )


def _read(path: str, count: int) -> list[dict[str, object]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def _made_up(count: int) -> list[dict[str, object]]:
    draw = random.Random(1)

    def text(quantiles: tuple[int, ...]) -> str:
        return " ".join(f"word{draw.randrange(_WORDS)}" for _ in range(drawn_length(draw, quantiles)))

    return [
        {
            "activity_label": "Made up", "ctx_a": text(CONTEXT), "ctx_b": "", "ctx": "", "label": draw.randrange(4),
            "endings": [text(ENDING) for _ in range(4)],
        }
        for _ in range(count)
    ]  # fmt: skip
