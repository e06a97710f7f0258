"""Items of every task as their files hold them, and the scores by a plain loop: one choice at a time, full logits.

The loop follows the three conventions as their original projects write them and uses none of our task code.
"""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

WORDS = "the cat sat on a mat and then it ran to see red birds sing near old trees while rain fell on roofs".split()


def sentence(draw: random.Random, low: int, high: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))


def rows_of(task: str, n: int = 24, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with the fields of the task's public files."""
    draw = random.Random(f"{task} {seed}")

    def text(low: int = 4, high: int = 12) -> str:
        return sentence(draw, low, high)

    def lettered() -> dict[str, Any]:
        labels = ["A", "B", "C", "D"][: draw.randint(3, 4)]
        return {"text": [text(1, 4) for _ in labels], "label": labels}

    def row(index: int) -> dict[str, Any]:
        if task == "hellaswag":
            before, after = text().capitalize() + ".", draw.choice(["He " + text(1, 3), ""])
            return {
                "ind": index, "activity_label": "Roof " + text(1, 1), "ctx_a": before + " [header]", "ctx_b": after,
                "ctx": f"{before} {after}".strip(), "label": draw.choice([draw.randint(0, 3), str(draw.randint(0, 3))]),
                "endings": [text(2, 7) + draw.choice([".", " [title] So."]) for _ in range(4)],
            }  # fmt: skip
        if task == "lambada":
            return {"text": text(8, 30)}
        if task == "arc":
            choices = lettered()
            return {
                "id": str(index),
                "question": text(),
                "choices": choices,
                "answerKey": draw.choice(choices["label"]),
            }
        if task == "openbookqa":
            choices = lettered()
            return {"question_stem": text(), "choices": choices, "answerKey": draw.choice(choices["label"])}
        if task == "piqa":
            return {"goal": text(), "sol1": text(), "sol2": text(), "label": draw.randint(0, 1)}
        if task == "winogrande":
            words = {"sentence": f"{text(2, 5)} _ {text(2, 5)}.", "option1": "cat", "option2": "birds"}
            return {**words, "answer": draw.choice("12")}
        if task == "sciq":
            wrong = {f"distractor{i}": text(1, 3) for i in (1, 2, 3)}
            return {
                "question": text(),
                **wrong,
                "correct_answer": text(1, 3),
                "support": draw.choice(["", " " + text()]),
            }
        if task == "boolq":
            return {"question": text(), "passage": text(9, 20), "label": draw.choice([True, False])}
        if task == "mmlu":
            choices = [text(1, 2) for _ in range(4)]
            return {"question": f" {text()}", "subject": "bird_song", "choices": choices, "answer": draw.randrange(4)}
        if task == "multiple_choice":
            # choices with a common beginning, and one that is the beginning of all others
            front = draw.choice(["", "the cat "])
            choices = [front + text(1, 4) for _ in range(draw.randint(2, 4))]
            return {"query": text(), "choices": choices, "gold": draw.randrange(len(choices))}
        if task == "schema":
            options = [f"{text(2, 4)} {name}" for name in ("cat", "birds", "rain")[: draw.randint(2, 3)]]
            return {"context_options": options, "continuation": text(2, 5), "gold": draw.randrange(len(options))}
        assert task == "language_modeling"
        return {"context": text(4, 9) + draw.choice(["", " ", "\n"]), "continuation": text(1, 2)}

    def with_distinct_choices(index: int) -> dict[str, Any]:
        while _has_a_choice_twice(made := row(index)):
            pass
        return made

    return [with_distinct_choices(index) for index in range(n)]


def _has_a_choice_twice(row: dict[str, Any]) -> bool:
    """The right choice among others of the same text makes no item."""
    single = [
        row[key]
        for key in ("sol1", "sol2", "correct_answer", "distractor1", "distractor2", "distractor3")
        if key in row
    ]
    lists = [row[key] for key in ("choices", "endings", "context_options") if key in row]
    texts = single + [text for part in lists for text in (part["text"] if isinstance(part, dict) else part)]
    return len(set(texts)) < len(texts)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_tokenised(path: Path, items: list[dict[str, Any]], tokenizer: Any) -> Path:
    """llm.c's file of these items."""
    stream = []
    for index, row in enumerate(items):
        parts = [tokenizer.encode(row["ctx"]).tolist(), *(tokenizer.encode(" " + e).tolist() for e in row["endings"])]
        body = [index, int(row["label"]), 4]
        for part in parts:
            body += [len(part), *part]
        stream += [65535, 2 * (len(body) + 2), *body]
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240522, 1, len(items)
    path.write_bytes(header.tobytes() + np.array(stream, dtype="<u2").tobytes())
    return path


class PlainScorer:
    """log p of one continuation after one context, in float64, by the whole logits of one sequence."""

    def __init__(self, model: Any, context: int) -> None:
        self.model, self.context = copy.deepcopy(model).double(), context

    def nats(self, tokens: list[int], start: int, keep: int | None = None) -> tuple[list[float], bool]:
        """(-log p of tokens[start:], whether each is the argmax); cut from the left to `keep` tokens."""
        left = max(0, len(tokens) - (keep or self.context + 1))
        tokens, start = tokens[left:], start - left
        with torch.no_grad():
            logits = self.model(torch.tensor([tokens[:-1]]))[0]
        logs = torch.log_softmax(logits, -1)
        nats = [-logs[at - 1, tokens[at]].item() for at in range(start, len(tokens))]
        return nats, all(int(logits[at - 1].argmax()) == tokens[at] for at in range(start, len(tokens)))


def harness(pairs: list[tuple[str, str]], tokenizer: Any, scorer: PlainScorer) -> list[tuple[list[float], bool]]:
    """lm-evaluation-harness: trailing space moves over, both encoded at once, cut to context + 1."""
    answers = []
    for context, continuation in pairs:
        moved = len(context) - len(context.rstrip())
        if moved:
            continuation, context = context[-moved:] + continuation, context[:-moved]
        before = tokenizer.encode(context).tolist() if context else [tokenizer.bos_id]
        whole = tokenizer.encode(context + continuation).tolist()
        tokens = whole if context else before + whole
        answers.append(scorer.nats(tokens, len(before)))
    return answers


def apart(pairs: list[tuple[str, str]], tokenizer: Any, scorer: PlainScorer) -> list[tuple[list[float], bool]]:
    """build-nanogpt: context and continuation encoded apart."""
    answers = []
    for context, continuation in pairs:
        before, after = tokenizer.encode(context).tolist(), tokenizer.encode(continuation).tolist()
        answers.append(scorer.nats(before + after, len(before)))
    return answers


def mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
