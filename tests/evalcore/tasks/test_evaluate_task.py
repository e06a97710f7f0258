"""Scores of every task equal those of a plain loop over one choice at a time, by the rules of the original projects."""

import math
import random
import re

import numpy as np
import pytest
import torch

from evalcore import evaluate_task
from evalcore.tasks.spec import task_spec
from tests.evalcore.tasks.conftest import CONTEXT
from tests.support.tasks import WORDS, apart, harness, mean_and_error, rows_of

CHOICE_TASKS = ("hellaswag", "arc", "openbookqa", "piqa", "sciq", "boolq", "mmlu")


def clean(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub("\\[.*?\\]", "", text).replace("  ", " ")


def harness_item(task, row):
    """(contexts and choices as the harness' templates write them, index of the right choice)."""
    if task == "hellaswag":
        query = clean(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize())
        return query, [clean(ending) for ending in row["endings"]], int(row["label"])
    if task in ("arc", "openbookqa"):
        query = "Question: " + row["question"] + "\nAnswer:" if task == "arc" else row["question_stem"]
        return query, row["choices"]["text"], row["choices"]["label"].index(row["answerKey"])
    if task == "piqa":
        return "Question: " + row["goal"] + "\nAnswer:", [row["sol1"], row["sol2"]], row["label"]
    if task == "sciq":
        query = row["support"].lstrip() + "\nQuestion: " + row["question"] + "\nAnswer:"
        return query, [row[f"distractor{i}"] for i in (1, 2, 3)] + [row["correct_answer"]], 3
    if task == "mmlu":
        options = "".join(f"{letter}. {text}\n" for letter, text in zip("ABCD", row["choices"], strict=True))
        front = "The following are multiple choice questions (with answers) about bird song.\n\n"
        return front + row["question"].strip() + "\n" + options + "Answer:", list("ABCD"), row["answer"]
    query = row["passage"] + "\nQuestion: " + row["question"] + "?\nAnswer:"
    return query, ["no", "yes"], int(row["label"])


@pytest.mark.parametrize("task", CHOICE_TASKS)
def test_multiple_choice_is_scored_as_lm_evaluation_harness_does(task, model, tokenizer, plain):
    rows = rows_of(task)
    result = evaluate_task(model, rows, tokenizer, task=task)
    right, right_norm, bits, nats, gold_nats, gold_tokens = [], [], [], [], 0.0, 0
    for row in rows:
        query, choices, gold = harness_item(task, row)
        scored = [sum(n) for n, _ in harness([(query, " " + choice) for choice in choices], tokenizer, plain)]
        nats += scored
        right.append(float(np.argmax([-s for s in scored]) == gold))
        right_norm.append(float(np.argmax([-s / len(c) for s, c in zip(scored, choices, strict=True)]) == gold))
        bits.append(scored[gold] / (math.log(2) * len((" " + choices[gold]).encode())))
        gold_nats += scored[gold]
        gold_tokens += len(harness([(query, " " + choices[gold])], tokenizer, plain)[0][0])
    assert list(result.item_scores.choice_nats) == pytest.approx(nats, rel=1e-5)
    assert (result.accuracy, result.accuracy_stderr) == pytest.approx(mean_and_error(right))
    if task in ("boolq", "mmlu"):
        assert result.accuracy_norm is None
    else:
        assert (result.accuracy_norm, result.accuracy_norm_stderr) == pytest.approx(mean_and_error(right_norm))
    assert result.bits_per_byte == pytest.approx(np.mean(bits), rel=1e-5)
    assert result.loss == pytest.approx(gold_nats / gold_tokens, rel=1e-5) and result.tokens == gold_tokens
    assert result.random_baseline == pytest.approx(np.mean([1 / len(harness_item(task, row)[1]) for row in rows]))
    assert (result.items, result.stride, result.ppl, result.seq_len) == (24, None, None, CONTEXT) and result.finite


def next_word(text, model, tokenizer):
    """The word, with a space before it in the vocabulary, that the model finds likeliest after the text."""
    words = {tokenizer.encode(" " + word)[0]: word for word in WORDS if len(tokenizer.encode(" " + word)) == 1}
    with torch.no_grad():
        logits = model(torch.from_numpy(tokenizer.encode(text).astype(np.int64))[None])[0, -1]
    return max(words.items(), key=lambda pair: logits[pair[0]].item())[1]


def test_lambada_is_right_where_every_token_is_the_likeliest(model, tokenizer, plain):
    rows = rows_of("lambada", 40)
    for row in rows[
        :20
    ]:  # the model's own likeliest token as the last word: right, as long as it is one token then too
        row["text"] = row["text"] + " " + next_word(row["text"], model, tokenizer)
    result = evaluate_task(model, rows, tokenizer, task="lambada")
    pairs = [(" ".join(row["text"].split(" ")[:-1]), " " + row["text"].split(" ")[-1]) for row in rows]
    scored = harness(pairs, tokenizer, plain)
    assert list(result.item_scores.gold_nats) == pytest.approx([sum(n) for n, _ in scored], rel=1e-5)
    assert list(result.item_scores.correct) == [int(greedy) for _, greedy in scored]
    assert (result.accuracy, result.accuracy_stderr) == pytest.approx(mean_and_error([float(g) for _, g in scored]))
    assert result.ppl_item == pytest.approx(math.exp(np.mean([sum(n) for n, _ in scored])), rel=1e-5)
    assert result.accuracy_norm is None and result.random_baseline == 0.0


def test_winogrande_scores_what_follows_each_option(model, tokenizer, plain):
    rows = rows_of("winogrande")
    result = evaluate_task(model, rows, tokenizer, task="winogrande")
    right, nats = [], []
    for row in rows:
        at = row["sentence"].index("_")
        after = " " + row["sentence"][at + 1 :].strip()
        pairs = [(row["sentence"][:at] + row[option], after) for option in ("option1", "option2")]
        scored = [sum(n) for n, _ in harness(pairs, tokenizer, plain)]
        nats += scored
        right.append(float(np.argmin(scored) == int(row["answer"]) - 1))
    assert list(result.item_scores.choice_nats) == pytest.approx(nats, rel=1e-5)
    assert (result.accuracy, result.accuracy_stderr) == pytest.approx(mean_and_error(right))
    assert result.accuracy_norm is None


def test_hellaswag_by_nanogpt_takes_the_raw_context_and_the_mean_of_tokens(model, tokenizer, plain):
    rows = rows_of("hellaswag")
    result = evaluate_task(model, rows, tokenizer, task="hellaswag", scoring="nanogpt")
    right, right_norm = [], []
    for row in rows:
        scored = [n for n, _ in apart([(row["ctx"], " " + ending) for ending in row["endings"]], tokenizer, plain)]
        right.append(float(np.argmin([sum(n) for n in scored]) == int(row["label"])))
        right_norm.append(float(np.argmin([np.mean(n) for n in scored]) == int(row["label"])))
    assert result.accuracy == pytest.approx(np.mean(right)) and result.accuracy_norm == pytest.approx(
        np.mean(right_norm)
    )


def core_predictions(kind, rows, shots, delimiter, tokenizer, plain):
    """(right or not, nats of every choice) as nanochat's core_eval does it, in the order of the rows."""
    data = list(enumerate(rows))
    random.Random(1337).shuffle(data)
    answers = {}
    for idx, (number, item) in enumerate(data):
        rng = random.Random(1234 + idx)
        examples = [data[i][1] for i in rng.sample([i for i in range(len(data)) if i != idx], shots)]
        front = ""
        for e in examples:
            if kind == "multiple_choice":
                front += e["query"] + delimiter + e["choices"][e["gold"]] + "\n\n"
            elif kind == "schema":
                front += e["context_options"][e["gold"]] + delimiter + e["continuation"] + "\n\n"
            else:
                front += e["context"].strip() + delimiter + e["continuation"] + "\n\n"
        bos = [tokenizer.bos_id]
        if kind == "language_modeling":
            without = (front + item["context"].strip() + delimiter).strip()
            tokens = bos + tokenizer.encode(front + item["context"].strip() + delimiter + item["continuation"]).tolist()
            start = 1 + len(tokenizer.encode(without))
            nats, greedy = plain.nats(tokens, start, CONTEXT)
            answers[number] = (greedy, [sum(nats)])
            continue
        if kind == "multiple_choice":
            prompts = [front + item["query"] + delimiter + choice for choice in item["choices"]]
        else:
            prompts = [front + context + delimiter + item["continuation"] for context in item["context_options"]]
        tokens = [bos + tokenizer.encode(prompt).tolist() for prompt in prompts]
        turned = tokens if kind == "multiple_choice" else [t[::-1] for t in tokens]
        common = 0
        while common < min(map(len, turned)) and len({t[common] for t in turned}) == 1:
            common += 1
        starts = [common if kind == "multiple_choice" else len(t) - common for t in tokens]
        scored = [plain.nats(t, s, CONTEXT)[0] for t, s in zip(tokens, starts, strict=True)]
        means = [sum(n) / len(n) if n else math.nan for n in scored]
        answers[number] = (means.index(min(means)) == item["gold"], [sum(n) for n in scored])
    return [answers[number] for number in range(len(rows))]


@pytest.mark.parametrize("kind", ["multiple_choice", "schema", "language_modeling"])
@pytest.mark.parametrize(("shots", "delimiter"), [(0, " "), (8, "\nAnswer: ")])
def test_core_tasks_are_scored_as_nanochat_does(kind, shots, delimiter, model, tokenizer, plain):
    rows = rows_of(kind)
    if kind == "multiple_choice":
        rows[3] |= {"choices": ["the cat", "the cat sat"], "gold": 0}  # the first is the beginning of the other
    spec = task_spec(kind, shots=shots, delimiter=delimiter)
    result = evaluate_task(model, rows, tokenizer, task=spec)
    expected = core_predictions(kind, rows, shots, delimiter, tokenizer, plain)
    assert list(result.item_scores.choice_nats) == pytest.approx([n for _, nats in expected for n in nats], rel=1e-5)
    assert list(result.item_scores.correct) == [int(right) for right, _ in expected]
    assert result.accuracy == pytest.approx(np.mean([right for right, _ in expected]))
    assert list(result.item_scores.index) == list(range(24))
    if kind == "multiple_choice":
        assert "1 items have a choice with which all others begin" in result.note
    assert (shots > 0) == ("longer than the context and cut" in (result.note or ""))


def test_max_items_takes_the_first_rows_and_for_core_the_first_after_the_shuffle(model, tokenizer):
    rows = rows_of("multiple_choice")
    shuffled = list(range(24))
    random.Random(1337).shuffle(shuffled)
    core = evaluate_task(model, rows, tokenizer, task="multiple_choice", max_items=5)
    assert list(core.item_scores.index) == sorted(shuffled[:5])
    first = evaluate_task(model, rows, tokenizer, task="multiple_choice", scoring="lm-eval", max_items=5)
    assert list(first.item_scores.index) == [0, 1, 2, 3, 4]
