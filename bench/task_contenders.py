"""One contender of `bench tasks`: scores HellaSwag items with a saved GPT-2; prints time, memory and choices as JSON.

usage: python bench/task_contenders.py make|ours|ours-bf16|nanogpt-loop|lm-eval FOLDER LAYERS-OR-BATCH
The items are rendered the same way for all. CPU-seconds are those of scoring, tokenising included, not of loading.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[variable] = "1"
Rendered = list[tuple[str, list[str]]]


def make(folder: Path, layers: int) -> None:
    """A random GPT-2 with this many layers, and a byte-level tokenizer whose tokens are the words of the items."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=20000,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join((text, *endings)) for text, endings in rendered(folder)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, model_max_length=1024)
    fast.save_pretrained(folder / "model")
    config = GPT2Config(n_layer=layers, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    print(json.dumps({}))


def rendered(folder: Path) -> Rendered:
    """(context, endings) of each item by lm-evaluation-harness' template."""

    def clean(text: str) -> str:
        return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")

    rows = [json.loads(line) for line in (folder / "hellaswag.jsonl").read_text().splitlines()]
    return [
        (
            clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"),
            [clean(ending) for ending in row["endings"]],
        )
        for row in rows
    ]


def ours(folder: Path, batch: int, dtype: str = "float32") -> Any:
    from evalcore import evaluate_task
    from evalcore.data.tokenizers import build_tokenizer
    from evalcore.loading.checkpoint import load_checkpoint
    from evalcore.worker.process_setup import keep_freed_memory

    keep_freed_memory()  # as every worker does
    loaded, tokenizer = load_checkpoint(str(folder / "model")), build_tokenizer(str(folder / "model"))

    def score(count: int | None) -> list[int]:
        result = evaluate_task(
            loaded.model,
            folder / "hellaswag.jsonl",
            tokenizer,
            task="hellaswag",
            max_items=count,
            context_length=1024,
            dtype=dtype,
        )
        return list(result.item_scores.chosen)

    return score


def nanogpt_loop(folder: Path, batch: int) -> Any:
    """Item by item: four padded rows, whole logits, cross entropy under a mask."""
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    model = GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "model")

    @torch.no_grad()
    def score(count: int | None) -> list[int]:
        chosen = []
        for context, endings in rendered(folder)[:count]:
            before = tokenizer.encode(context)
            pairs = [(before, tokenizer.encode(" " + ending)) for ending in endings]
            length = max(len(a) + len(b) for a, b in pairs)
            tokens, counts = torch.zeros(len(pairs), length, dtype=torch.long), torch.zeros(len(pairs), length)
            for row, (a, b) in enumerate(pairs):
                tokens[row, : len(a) + len(b)] = torch.tensor(a + b)
                counts[row, len(a) : len(a) + len(b)] = 1
            logits = model(tokens).logits
            nats = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            )
            chosen.append(int((nats.view(len(pairs), -1) * counts[:, 1:]).sum(1).argmin()))
        return chosen

    return score


def lm_eval(folder: Path, batch: int) -> Any:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder / "model"), device="cpu", dtype="float32", batch_size=batch)

    def score(count: int | None) -> list[int]:
        items = rendered(folder)[:count]
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=(context, " " + ending), idx=0)
            for context, endings in items
            for ending in endings
        ]
        answers = iter(model.loglikelihood(requests, disable_tqdm=True))
        return [max(range(len(endings)), key=[next(answers)[0] for _ in endings].__getitem__) for _, endings in items]

    return score


def main() -> None:
    who, folder, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if who == "make":
        make(folder, number)
        return
    contenders = {
        "ours": ours,
        "ours-bf16": partial(ours, dtype="bfloat16"),
        "nanogpt-loop": nanogpt_loop,
        "lm-eval": lm_eval,
    }
    score = contenders[who](folder, number)
    score(1)  # what a library loads at its first call is not what is compared
    before = time.process_time()
    chosen = score(None)
    cpu_s = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"cpu_s": cpu_s, "peak_bytes": peak, "chosen": chosen}))


if __name__ == "__main__":
    main()
