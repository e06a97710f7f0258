"""The same scores for any batch size, order, layout and memory; what cannot be scored is an error with its place."""

import gzip
import json

import pytest
import torch
from torch import nn

from evalcore import evaluate_task, prepare_task
from evalcore.data import DataError
from evalcore.measure.agreement import OutOfMemory
from evalcore.tasks.spec import task_spec
from tests.evalcore.tasks.conftest import CONTEXT
from tests.evalcore.tasks.test_evaluate_task import harness_item
from tests.support.tasks import rows_of, write_rows, write_tokenised


class Foreign(nn.Module):
    """A trainer's own model: its forward gives whole logits, and nothing tells that branches are allowed."""

    def __init__(self, inner, limit=None):
        super().__init__()
        self.inner, self.limit, self.most = inner, limit, 0

    def forward(self, tokens):
        self.most = max(self.most, tokens.numel())
        if self.limit is not None and tokens.numel() > self.limit:
            raise torch.OutOfMemoryError(f"{tokens.numel()} tokens")
        return {"logits": self.inner(tokens)}


@pytest.fixture(scope="module")
def prepared(tokenizer):
    names = ("hellaswag", "boolq", "winogrande", "lambada", "multiple_choice")
    return {name: prepare_task(task_spec(name), rows_of(name, 30), tokenizer) for name in names}


@pytest.mark.parametrize("name", ["hellaswag", "boolq", "winogrande", "lambada", "multiple_choice"])
def test_batch_size_and_layout_leave_the_scores_alone(name, prepared, model):
    """Native models share the context between choices; a foreign one gets each choice as a text of its own."""
    first = evaluate_task(model, prepared[name], context_length=CONTEXT)
    others = [evaluate_task(model, prepared[name], batch_size=size) for size in (1, 2, 7, 64)]
    others.append(evaluate_task(Foreign(model), prepared[name], context_length=CONTEXT))
    for other in others:
        ours, theirs = first.item_scores, other.item_scores
        assert list(ours.correct) == list(theirs.correct) and list(ours.correct_norm) == list(theirs.correct_norm)
        assert list(ours.choice_nats) == pytest.approx(list(theirs.choice_nats), rel=1e-6, abs=1e-6)
        assert (other.accuracy, other.accuracy_norm) == (first.accuracy, first.accuracy_norm)
    assert others[-1].batch_size > 1


def test_choices_of_the_same_tokens_have_the_very_same_nats_and_the_first_of_them_wins(model, tokenizer):
    rows = [HELLASWAG[0] | {"endings": [f"ends {i}", "the same end", "the same end", "other"]} for i in range(20)]
    for size in (1, 3, 16):
        scores = evaluate_task(model, rows, tokenizer, task="hellaswag", batch_size=size).item_scores
        for item in range(len(rows)):
            nats = list(scores.choice_nats[4 * item : 4 * item + 4])
            assert nats[1] == nats[2] and scores.chosen[item] != 2 and scores.chosen_norm[item] != 2


def test_the_context_is_computed_once_for_all_choices(prepared, model, monkeypatch):
    seen = []
    hidden = model.hidden

    def counted(tokens, *layout):
        seen.append(tokens.numel())
        return hidden(tokens, *layout)

    monkeypatch.setattr(model, "hidden", counted)
    evaluate_task(model, prepared["hellaswag"], batch_size=1)
    requests = [request for item in prepared["hellaswag"].items for request in item.requests]
    assert sum(seen) < 0.6 * sum(len(request.tokens) - 1 for request in requests)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(prepared, model):
    whole = evaluate_task(Foreign(model), prepared["hellaswag"], context_length=CONTEXT)
    tight = Foreign(model, limit=150)
    halved = evaluate_task(tight, prepared["hellaswag"], context_length=CONTEXT)
    assert halved.batch_size < whole.batch_size and tight.most > 150
    assert list(halved.item_scores.choice_nats) == pytest.approx(list(whole.item_scores.choice_nats), rel=1e-6)
    with pytest.raises(OutOfMemory, match=r"one item of [0-9]+ tokens does not fit"):
        evaluate_task(Foreign(model, limit=3), prepared["hellaswag"], context_length=CONTEXT)


def test_nats_that_are_no_number_are_a_result_with_a_note_and_never_right(prepared, model):
    class Broken(nn.Module):
        def forward(self, tokens):
            return torch.full((*tokens.shape, 400), torch.nan)

    result = evaluate_task(Broken(), prepared["hellaswag"], context_length=CONTEXT)
    assert not result.finite and result.accuracy == 0.0 and result.bits_per_byte is None
    assert "not finite in 120 of 120 choices" in result.note
    lambada = evaluate_task(Broken(), prepared["lambada"], context_length=CONTEXT)
    assert lambada.accuracy == 0.0 and lambada.ppl_item is None


def test_the_selfcheck_compares_every_choice(prepared, model):
    from evalcore.tasks.selfcheck import task_selfcheck

    result = evaluate_task(model, prepared["hellaswag"])
    assert task_selfcheck(model, prepared["hellaswag"], result).ok
    nats = result.item_scores.choice_nats
    nats[7] += 1e-3
    check = task_selfcheck(model, prepared["hellaswag"], result)
    assert not check.ok and "selfcheck FAILED" in check.sentence


def test_one_task_in_every_container_is_one_score(model, tokenizer, tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{**row, "label": str(row["label"])} for row in rows_of("hellaswag", 10)]
    paths = [write_rows(tmp_path / "val.jsonl", rows)]
    (tmp_path / "val.jsonl.gz").write_bytes(gzip.compress((tmp_path / "val.jsonl").read_bytes()))
    (tmp_path / "val.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "val.parquet")
    paths += [str(tmp_path / f"val.{suffix}") for suffix in ("jsonl.gz", "json", "parquet")]
    results = [evaluate_task(model, path, tokenizer) for path in paths]
    assert {r.task for r in results} == {"hellaswag"}
    assert len({tuple(r.item_scores.choice_nats) for r in results}) == 1
    both = evaluate_task(model, paths[:2], tokenizer)
    assert both.items == 20 and list(both.item_scores.index) == list(range(20))


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


def text_of_the_right_choice(row):
    return row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])]


def as_the_harness_makes_it(row):
    """The fields that lm-evaluation-harness adds to a row of HellaSwag."""
    query, choices, gold = harness_item("hellaswag", row)
    return {"query": query, "choices": choices, "gold": gold}


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("winogrande", lambda row: row | {"answer": int(row["answer"])}),
        ("boolq", lambda row: {**{k: v for k, v in row.items() if k != "label"}, "answer": row["label"]}),
        ("boolq", lambda row: row | {"label": int(row["label"])}),
        ("arc", lambda row: row | {"question": {"stem": row["question"], "choices": [
            {"text": t, "label": n} for t, n in zip(row["choices"]["text"], row["choices"]["label"], strict=True)]}}),
        ("arc", lambda row: row | {"choices": [
            {"text": t, "label": n} for t, n in zip(row["choices"]["text"], row["choices"]["label"], strict=True)]}),
        ("arc", lambda row: row | {"answer": [row["answerKey"]]}),
        ("arc", lambda row: row | {"answer": f"({row['answerKey']})", "answerKey": f"{row['answerKey']}."}),
        ("arc", lambda row: without(row, "answerKey") | {"answer": [f"({row['answerKey']})"]}),
        ("arc", lambda row: without(row, "answerKey") | {"answer": text_of_the_right_choice(row)}),
        ("arc", lambda row: row | {"choices": row["choices"]["text"]}),
        ("arc", lambda row: row | {"choices": row["choices"] | {"label": [f"({n})" for n in row["choices"]["label"]]}}),
        ("hellaswag", lambda row: row | as_the_harness_makes_it(row)),
        ("hellaswag", lambda row: as_the_harness_makes_it(row)),
        ("mmlu", lambda row: row | {"answer": "ABCD"[row["answer"]]}),
        ("mmlu", lambda row: row | {"answer": [f"({'ABCD'[row['answer']]})"], "id": 7}),
        ("mmlu", lambda row: row | {"answer": str(row["answer"])}),
    ],
)  # fmt: skip
def test_variants_of_a_row_that_people_have_are_one_item(task, change, model, tokenizer):
    rows = rows_of(task, 8)
    ours, theirs = (evaluate_task(model, r, tokenizer, task=task) for r in (rows, [change(row) for row in rows]))
    assert ours.item_scores == theirs.item_scores


def test_labels_stand_in_the_rows_or_in_a_file_beside_them(model, tokenizer, tmp_path):
    rows = rows_of("piqa", 8)
    inside = evaluate_task(model, write_rows(tmp_path / "inside.jsonl", rows), tokenizer)
    path = write_rows(tmp_path / "valid.jsonl", [{k: v for k, v in row.items() if k != "label"} for row in rows])
    (tmp_path / "valid-labels.lst").write_text("".join(f"{row['label']}\n" for row in rows))
    assert evaluate_task(model, path, tokenizer).item_scores == inside.item_scores
    (tmp_path / "valid-labels.lst").write_text("0\n" * 7)
    with pytest.raises(DataError, match=r"line 8 has no label in field 'label'|8 items, and its file of labels has 7"):
        evaluate_task(model, path, tokenizer)


HELLASWAG = rows_of("hellaswag", 3)


@pytest.mark.parametrize(
    ("task", "rows", "words"),
    [
        ("hellaswag", [*HELLASWAG[:2], HELLASWAG[2] | {"label": 4}], "line 3: label 4 is not one of its 4 choices"),
        (
            "hellaswag",
            [HELLASWAG[0] | {"label": ""}],
            "line 1 has no label in field 'label': it may be of a test split",
        ),
        ("hellaswag", [HELLASWAG[0] | {"label": "B"}], "line 1 has the label 'B', which is no number"),
        ("hellaswag", [HELLASWAG[0] | {"label": "\u00b2"}], "line 1 has the label '\u00b2', which is no number"),
        ("hellaswag", [HELLASWAG[0] | {"label": "1" * 5000}], "which is no number"),
        ("hellaswag", [HELLASWAG[0] | {"ctx_a": "half \ud800"}], "line 1 has text that is not Unicode"),
        ("hellaswag", [HELLASWAG[0] | {"endings": ["a", "", "b", "c"]}], "line 1 has an empty choice"),
        ("hellaswag", [HELLASWAG[0] | {"endings": "abcd"}], "line 1 has no list of texts in field 'endings'"),
        ("hellaswag", [{"ctx": "a", "endings": ["a"], "label": 0}], "no text in field 'activity_label'"),
        ("arc", [rows_of("arc", 1)[0] | {"answerKey": "E"}], "answerKey 'E', which is none of its labels"),
        ("winogrande", [rows_of("winogrande", 1)[0] | {"sentence": "none"}], "no `_` in its sentence"),
        ("lambada", [{"text": "the cat "}], "line 1 has an empty choice"),
        ("multiple_choice", [{"query": "a", "choices": ["b"], "gold": -1}], "line 1: label -1"),
        ("hellaswag", [], "holds no items"),
    ],
)
def test_an_item_that_cannot_be_scored_is_named_with_its_line(task, rows, words, model, tokenizer, tmp_path):
    with pytest.raises(DataError, match=words):
        evaluate_task(model, write_rows(tmp_path / "val.jsonl", rows), tokenizer, task=task)


def test_a_malformed_line_and_too_few_items_for_the_shots_are_refused(model, tokenizer, tmp_path):
    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(HELLASWAG[0]) + "\n\n{broken\n")
    with pytest.raises(DataError, match=r"val.jsonl line 3 is not JSON"):
        evaluate_task(model, path, tokenizer)
    with pytest.raises(DataError, match="3 items, and 3 shots need 4"):
        evaluate_task(model, HELLASWAG, tokenizer, task="hellaswag", scoring="core", shots=3)
    with pytest.raises(DataError, match=r"which task the items of .* is not clear"):
        evaluate_task(model, [{"text": "a b"}], tokenizer)


def test_an_id_above_the_vocabulary_and_a_continuation_beyond_the_context_name_the_line(model, tokenizer, tmp_path):
    long = HELLASWAG[1] | {"endings": ["cat " * 120, "a", "b", "c"]}
    path = write_rows(tmp_path / "val.jsonl", [HELLASWAG[0], long])
    with pytest.raises(DataError, match=r"line 2: a continuation of [0-9]+ tokens does not fit") as caught:
        evaluate_task(model, path, tokenizer)
    assert caught.value.kind == "shape"
    with pytest.raises(
        DataError, match=r"line [12] has token id [0-9]+, outside the model's vocabulary of 300"
    ) as caught:
        evaluate_task(model, path, tokenizer, vocab_size=300)
    assert caught.value.kind == "shape"


def test_a_byte_level_model_has_tasks_too(task_folder):
    """Bytes have no beginning-of-text token: an item without a context cannot be scored, with `bytes+eos` it can."""
    from tests.support.models import SmallModel

    small = SmallModel(300, positions=512)
    result = evaluate_task(small, rows_of("piqa", 6), "bytes", task="piqa")
    assert result.tokens == result.bytes and result.bits_per_byte is not None
    with pytest.raises(DataError, match="item 1 has an empty context, and tokenizer bytes has no beginning-of-text"):
        evaluate_task(small, [{"text": "word"}], "bytes", task="lambada")
    assert evaluate_task(small, [{"text": "word"}], "bytes+eos", task="lambada").items == 1
    core = evaluate_task(small, rows_of("multiple_choice", 6), "bytes", task="multiple_choice")
    assert "no beginning-of-text token before the prompts" in core.note


def test_llm_c_items_have_the_scores_of_the_text_that_they_were_made_from(model, tokenizer, tmp_path):
    path = write_tokenised(tmp_path / "hellaswag_val.bin", HELLASWAG, tokenizer)
    text = evaluate_task(model, HELLASWAG, tokenizer, task="hellaswag", scoring="nanogpt")
    bare, known = evaluate_task(model, path), evaluate_task(model, path, tokenizer)
    assert known.item_scores == text.item_scores
    assert (bare.accuracy, bare.accuracy_norm, bare.loss) == (text.accuracy, text.accuracy_norm, text.loss)
    assert bare.bits_per_byte is None and "bits per byte unknown" in bare.note and bare.task == "tokens"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-2], "item 2: the file is cut off"),
        (lambda data: data + b"\0\0", "goes on after its 3 items"),
        (lambda data: data[:1024] + b"\x01\x00" + data[1026:], "item 0 does not begin with 65535"),
        (lambda data: data[:1030] + b"\x09\x00" + data[1032:], "item 0: label 9 is not one of its 4 choices"),
        (lambda data: data[:1034] + b"\x00\x10" + data[1036:], "item 0: its parts are longer than the item"),
        (lambda data: data[:4] + b"\x02" + data[5:], "no file of tokenised items of version 1"),
    ],
)
def test_a_damaged_file_of_tokenised_items_is_refused_at_its_item(damage, words, model, tokenizer, tmp_path):
    path = write_tokenised(tmp_path / "hellaswag_val.bin", HELLASWAG, tokenizer)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words):
        evaluate_task(model, path, task="tokens")
