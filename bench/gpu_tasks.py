"""HellaSwag items on one device: ours beside the loop of a training script, four padded choices at a time.

Made-up items with the lengths of HellaSwag's in GPT-2's tokens; a character is a token here, so that no vocabulary has
to be fetched. Needs torch and numpy only.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F

from bench.files import CONTEXT, ENDING, drawn_length
from evalcore.tasks.prepare import PreparedTask, prepare
from evalcore.tasks.spec import task_spec

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_up(count: int) -> PreparedTask:
    draw = random.Random(1)

    def text(quantiles: tuple[int, ...]) -> str:
        return "".join(draw.choices(_LETTERS, k=drawn_length(draw, quantiles)))

    rows = [
        {
            "activity_label": "", "ctx_a": text(CONTEXT), "ctx_b": "", "label": draw.randrange(4),
            "endings": [text(ENDING) for _ in range(4)],
        }
        for _ in range(count)
    ]  # fmt: skip
    return prepare(task_spec("hellaswag"), rows, "bytes")


def plain_choices(model: torch.nn.Module, task: PreparedTask, device: torch.device) -> list[int]:
    """The choice with the lowest sum of nats for each item: whole logits, one item a pass, an `.item()` for each."""
    chosen = []
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        for item in task.items:
            tokens = [torch.from_numpy(request.tokens.astype("int64")) for request in item.requests]
            padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(device)  # (4, T)
            logits = model.logits(padded[:, :-1])  # type: ignore[operator]
            nats = F.cross_entropy(logits.transpose(1, 2).float(), padded[:, 1:], reduction="none")  # (4, T - 1)
            sums = [
                nats[row, request.start - 1 : len(request.tokens) - 1].sum()
                for row, request in enumerate(item.requests)
            ]
            chosen.append(int(torch.stack(sums).argmin().item()))
    return chosen
