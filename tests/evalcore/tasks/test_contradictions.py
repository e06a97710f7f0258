"""A row whose fields contradict each other is refused with its file and line; oddities that change nothing are not."""

import gzip
import json
import re
from pathlib import Path

import pyarrow
import pytest

from evalcore import evaluate_task
from evalcore.data import DataError
from evalcore.tasks.prepare import prepare
from evalcore.tasks.spec import task_spec
from tests.support.tasks import rows_of, write_rows

BOOLQ = {"question": "is it so", "passage": "the cat sat", "answer": True}
CHOICES = {"query": "the cat", "choices": ["sat", "ran", "slept"], "gold": 1}
ARC = {"question": "who", "choices": {"text": ["cat", "dog", "bird"], "label": ["A", "B", "C"]}, "answerKey": "B"}
HELLASWAG = {
    "activity_label": "Cat", "ctx_a": "A cat sits.", "ctx_b": "it", "ctx": "A cat sits. it",
    "endings": ["runs.", "sleeps.", "eats.", "sings."], "label": 2,
}  # fmt: skip
PIQA = {"goal": "sit", "sol1": "on a mat", "sol2": "on a bird", "label": 0}
WINOGRANDE = {"sentence": "the cat saw _ run.", "option1": "birds", "option2": "rain", "answer": "1"}
SCIQ = {"question": "what", "correct_answer": "red", "distractor1": "a", "distractor2": "b", "distractor3": "c"}
SCHEMA = {"context_options": ["the cat", "the bird"], "continuation": "sings", "gold": 1}
OPENBOOK = {"question_stem": "it is", "choices": ARC["choices"], "answerKey": "A"}
MMLU = {"question": "who", "subject": "bird_song", "choices": ["cat", "dog", "bird", "cat"], "answer": 2}
LANGUAGE = {"context": "the cat", "continuation": "sat"}


def refusal(task, row, tmp_path, tokenizer):
    path = write_rows(tmp_path / "val.jsonl", [rows_of(task_spec(task).rendering, 1)[0], row])
    with pytest.raises(DataError) as caught:
        prepare(task_spec(task), [path], tokenizer)
    assert f"{path} line 2" in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("boolq", BOOLQ | {"label": 0}, "'label' says 0, and 'answer' says True"),
        ("multiple_choice", CHOICES | {"label": 0}, "'gold' says 1, and 'label' says 0"),
        ("multiple_choice", CHOICES | {"answer": "A"}, "'gold' says 1, and 'answer' says 'A'"),
        ("multiple_choice", CHOICES | {"answer": "slept"}, "'gold' says 1, and 'answer' says 'slept'"),
        ("multiple_choice", CHOICES | {"answer": "flew"}, "'gold' says 1, and 'answer' says 'flew'"),
        ("schema", SCHEMA | {"label": "0"}, "'gold' says 1, and 'label' says '0'"),
        ("hellaswag", HELLASWAG | {"gold": 3}, "'label' says 2, and 'gold' says 3"),
        ("arc_easy", ARC | {"label": 2}, "'answerKey' says 'B', and 'label' says 2"),
        ("openbookqa", OPENBOOK | {"answer": "dog"}, "'answerKey' says 'A', and 'answer' says 'dog'"),
        ("winogrande", WINOGRANDE | {"label": 2}, "'answer' says '1', and 'label' says 2"),
        ("sciq", SCIQ | {"answer": "b"}, "'correct_answer' says 'red', and 'answer' says 'b'"),
        ("hellaswag", HELLASWAG | {"choices": ["w", "x", "y", "z"]}, "other choices in 'choices' than in 'endings'"),
        ("multiple_choice", CHOICES | {"options": ["sat", "ran"]}, "other choices in 'options' than in 'choices'"),
        ("arc_easy", ARC | {"question": {"stem": "who", "choices": []}}, "in 'choices' than in 'question'"),
        ("multiple_choice", CHOICES | {"choices": ["ran", "ran", "sat"]}, "the right choice twice, as 1 and as 0"),
        ("piqa", PIQA | {"sol2": "on a mat"}, "the right choice twice, as 0 and as 1"),
        ("sciq", SCIQ | {"distractor2": "red"}, "the right choice twice, as 3 and as 1"),
        ("winogrande", WINOGRANDE | {"option2": "birds"}, "the right choice twice"),
        ("hellaswag", HELLASWAG | {"endings": ["a", "b", "x [y] z", "x z"]}, "the right choice twice"),
        ("arc_easy", ARC | {"choices": {"text": ["a", "b"], "label": ["B", "B"]}}, "label 'B' of its answerKey more"),
        ("arc_easy", ARC | {"answer": ["A", "B"]}, r"'answerKey' says 'B', and 'answer' says \['A', 'B'\]"),
        ("arc_easy", ARC | {"answer": "(A)"}, r"'answerKey' says 'B', and 'answer' says '\(A\)'"),
        ("arc_easy", ARC | {"answerKey": ["A", "B"]}, r"answerKey \['A', 'B'\], which is none of its labels"),
        ("arc_easy", ARC | {"answerKey": 1}, "answerKey 1, which is none of its labels A, B, C"),
        ("arc_easy", ARC | {"choices": ["1", "2", "3"], "answerKey": "2"}, "'2', which is none of its labels A, B, C"),
        ("arc_easy", ARC | {"answerKey": [], "answer": None}, "no `answerKey`"),
        ("hellaswag", HELLASWAG | {"query": "Cat", "choices": ["runs."] * 4, "gold": 2}, "in 'choices' than in 'end"),
        ("mmlu", MMLU | {"answer": 4}, "label 4 is not one of its 4 choices"),
        ("mmlu", MMLU | {"answer": "E"}, "answer 'E', which is none of its labels A, B, C, D"),
        ("mmlu", MMLU | {"label": 1}, "'answer' says 2, and 'label' says 1"),
        ("mmlu", MMLU | {"choices": ["a", "b"]}, "has 2 choices, and a question of MMLU has 4"),
        ("mmlu", {k: v for k, v in MMLU.items() if k != "subject"}, "no field 'subject', which MMLU's prompt names"),
        ("multiple_choice", CHOICES | {"choices": ["ran"], "gold": 0}, "one choice alone"),
        ("hellaswag", HELLASWAG | {"label": -1}, "label -1 is not one of its 4 choices"),
        ("piqa", PIQA | {"label": "-1"}, "label '-1', which is no number"),
        ("hellaswag", HELLASWAG | {"label": True}, "label True, which is no number"),
        ("hellaswag", HELLASWAG | {"label": 1.5}, "label 1.5, which is no number"),
        ("hellaswag", HELLASWAG | {"label": "two"}, "label 'two', which is no number"),
        ("boolq", BOOLQ | {"answer": "maybe"}, "label 'maybe', which is no number"),
        ("winogrande", WINOGRANDE | {"answer": "0"}, "answer 0, which is neither 1 nor 2"),
        ("winogrande", WINOGRANDE | {"sentence": "_ saw _."}, "more than one `_`"),
        ("hellaswag", HELLASWAG | {"ctx_a": "", "ctx_b": " "}, "nothing in fields 'ctx_a' and 'ctx_b'"),
        ("multiple_choice", CHOICES | {"query": " "}, "nothing in field 'query'"),
        ("language_modeling", LANGUAGE | {"context": "\n"}, "nothing in field 'context'"),
        ("language_modeling", LANGUAGE | {"continuation": " "}, "empty choice"),
        ("piqa", PIQA | {"goal": ""}, "nothing in field 'goal'"),
        ("boolq", BOOLQ | {"question": ""}, "nothing in field 'question'"),
        ("arc_easy", ARC | {"question": ""}, "nothing in field 'question'"),
        ("schema", SCHEMA | {"context_options": ["the cat", " "]}, "empty choice"),
        ("multiple_choice", HELLASWAG, "no text in field 'query'"),
        ("piqa", {"rows": [PIQA]}, "no text in field"),
    ],
)  # fmt: skip
def test_a_row_that_contradicts_itself_is_refused_with_its_line(task, row, words, tmp_path, tokenizer):
    assert re.search(words, refusal(task, row, tmp_path, tokenizer))


def test_a_key_that_stands_twice_with_two_values_is_refused_with_its_line(tmp_path, tokenizer):
    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(PIQA) + "\n" + json.dumps(PIQA)[:-1] + ', "label": 1}\n')
    with pytest.raises(DataError, match=r"val.jsonl line 2 .* the key 'label' is there twice"):
        prepare(task_spec("piqa"), [str(path)], tokenizer)


@pytest.mark.parametrize(
    ("task", "row", "gold"),
    [
        ("boolq", BOOLQ | {"label": 1}, 1),
        ("multiple_choice", CHOICES | {"label": "1", "answer": "B"}, 1),
        ("multiple_choice", CHOICES | {"answer": " ran", "options": ["sat ", "ran", "slept"]}, 1),
        ("multiple_choice", CHOICES | {"choices": ["sat", "ran", "sat"]}, 1),  # real items have wrong choices twice
        ("arc_easy", ARC | {"label": None, "answer": ""}, 1),
        ("arc_easy", ARC | {"choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2", "label": 2}, 1),
        ("winogrande", WINOGRANDE | {"label": 0}, 0),
        ("winogrande", WINOGRANDE | {"label": "1"}, 0),
        ("sciq", SCIQ | {"support": ""}, 3),
        ("language_modeling", LANGUAGE | {"answer": "any", "category": "x"}, 0),
        ("hellaswag", HELLASWAG | {"ctx_b": "", "activity_label": ""}, 2),
    ],
)
def test_fields_that_say_the_same_or_nothing_are_no_contradiction(task, row, gold, tokenizer):
    assert prepare(task_spec(task), [row], tokenizer).items[0].gold == gold


def test_few_items_with_the_right_choice_twice_are_scored_as_the_harness_does_and_counted(model, tokenizer, tmp_path):
    """Its numpy.argmax takes the first of equal choices: right where that is the gold one, else wrong."""
    rows = rows_of("piqa", 200)
    rows[4] = rows[4] | {"sol2": rows[4]["sol1"], "label": 0}
    rows[9] = rows[9] | {"sol2": rows[9]["sol1"], "label": 1}
    path = write_rows(tmp_path / "piqa.jsonl", rows)
    result = evaluate_task(model, path, tokenizer)
    assert (result.item_scores.correct[4], result.item_scores.correct_norm[4]) == (1, 1)
    assert (result.item_scores.correct[9], result.item_scores.correct_norm[9]) == (0, 0)
    assert f"2 items have the right choice twice, the first at {path} line 5; the first of equal" in result.note
    rows[20] = rows[20] | {"sol2": rows[20]["sol1"]}
    with pytest.raises(DataError, match=r"line 5 has the right choice twice.*3 of 200 items have; .* up to 1% of"):
        evaluate_task(model, write_rows(tmp_path / "more.jsonl", rows), tokenizer)


def test_a_choice_of_mmlu_that_stands_twice_has_letters_of_its_own(tokenizer):
    task = prepare(task_spec("mmlu"), [MMLU | {"answer": 0}], tokenizer)
    assert task.notes == tokenizer.notes and len({request.tokens.tobytes() for request in task.items[0].requests}) == 4


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_compressed_file_that_is_damaged_is_refused_by_its_path(suffix, damage, tmp_path, tokenizer):
    text = "".join(json.dumps(PIQA | {"goal": f"sit {n * n * 7919}"}) + "\n" for n in range(2000)).encode()
    path = str(tmp_path / f"val.jsonl.{suffix}")
    if suffix == "gz":
        with gzip.open(path, "wb") as file:
            file.write(text)
    else:
        with pyarrow.output_stream(path, compression="zstd") as file:
            file.write(text)
    assert len(prepare(task_spec("piqa"), [path], tokenizer).items) == 2000
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2
    data = data[:middle] if damage == "cut" else data[:middle] + bytes(60) + data[middle + 60 :]
    Path(path).write_bytes(data)
    with pytest.raises(DataError, match=re.escape(path)):
        prepare(task_spec("piqa"), [path], tokenizer)


def test_true_and_false_as_texts_agree_with_a_label(tmp_path, tokenizer):
    row = {"question": "is it so", "passage": "the cat sat", "answer": "true", "label": 1}
    prepare(task_spec("boolq"), [write_rows(tmp_path / "agrees.jsonl", [row])], tokenizer)
    assert "contradicts itself" in refusal("boolq", {**row, "answer": "false"}, tmp_path, tokenizer)
