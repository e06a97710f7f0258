"""From a row of a task's file to an item: its contexts, continuations and the index of the right one.

Owns the fields of each task and their renderings: those of EleutherAI/lm-evaluation-harness 4e7e0d4 (lm_eval/tasks),
and build-nanogpt's of HellaSwag (hellaswag.py 6104ab1). Never encodes, never scores.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evalcore.tasks.answers import LETTERS, choices_named, is_absent, single
from evalcore.tasks.contradictions import problem_of_row
from evalcore.tasks.rows import Row, RowError
from evalcore.tasks.spec import LANGUAGE_MODELING, TaskSpec


@dataclass(frozen=True)
class Item:
    """where, index: as in Row. contexts: one, or for a schema one for each choice. continuations: one for each choice,
    or one for a schema and for language modelling, without the delimiter. gold: index of the right choice."""

    where: str
    index: int
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int = 0

    @property
    def n_choices(self) -> int:
        return max(len(self.contexts), len(self.continuations))


def render(spec: TaskSpec, row: Row, label: str | None = None) -> Item:
    """The item of a row. label: from the file of labels, where there is one. Raises RowError with file and line."""
    fields = _Fields(row, label)
    contexts, continuations, gold = _RENDER[spec.rendering](spec, fields)
    item = Item(row.where, row.index, tuple(contexts), tuple(continuations), gold)
    choices = item.contexts if len(contexts) > 1 else item.continuations
    if any(not text.strip() for text in (*choices, *continuations)):
        raise RowError(f"{row.where} has an empty choice: there is no token to score", "correct or remove the item")
    if not 0 <= gold < item.n_choices:
        hint = (
            "correct the label; -1 stands in test splits, which have no answers" if gold == -1 else "correct the label"
        )
        raise RowError(f"{row.where}: label {gold} is not one of its {item.n_choices} choices", hint)
    problem = problem_of_row(row.fields, spec.kind, fields.used, fields.listed, choices, gold, fields.labels)
    if spec.kind != LANGUAGE_MODELING and len(choices) < 2:
        problem = "has one choice alone: every model would be right"
    if problem is not None:
        raise RowError(f"{row.where} {problem}", "correct or remove the item")
    return item


class _Fields:
    """Access to a row's fields with errors that name its place."""

    def __init__(self, row: Row, label: str | None) -> None:
        self._row, self._label = row, label
        self.values = row.fields
        self.used: str | None = None  # the field that the answer was taken from
        self.listed: str | None = None  # the field that the choices were taken from
        self.labels: list[Any] = []  # what the row calls its choices

    def error(self, problem: str) -> RowError:
        return RowError(f"{self._row.where} {problem}", f"its fields are: {', '.join(self.values)}"[:300])

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.error(f"has no text in field {name!r}")
        if not may_be_empty and not value.strip():
            raise self.error(f"has nothing in field {name!r}: the item has no question")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(f"has no list of texts in field {name!r}")
        self.listed = name
        return value

    def number(self, *names: str, yes_or_no: bool = False) -> int:
        """The label in the first of these fields that is there, else that of the file of labels; a whole number."""
        self.used = next((name for name in names if not is_absent(self.values.get(name))), None)
        own = None if self.used is None else self.values[self.used]
        given = [value for value in (own, self._label) if value is not None]
        if not given:
            beside = "" if yes_or_no else "; `dev-labels.lst` beside `dev.jsonl`, one label a line, is read too"
            raise self.error(f"has no label in field {names[0]!r}: it may be of a test split without answers{beside}")
        numbers = [_yes_or_no(value) if yes_or_no else _whole(value) for value in given]
        if None in numbers:
            raise self.error(f"has the label {given[numbers.index(None)]!r}, which is no number")
        if len(set(numbers)) > 1:
            raise self.error(f"has the label {given[0]!r}, and its file of labels says {given[1]!r}")
        return numbers[0]  # type: ignore[return-value]


def _whole(value: Any) -> int | None:
    """The whole number that this is: 2, "2", or 2.0, which pandas writes where other rows have no label."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


_YES_OR_NO = {"no": 0, "false": 0, "yes": 1, "true": 1}


def _yes_or_no(value: Any) -> int | None:
    if isinstance(value, str) and (text := value.strip().lower()) in _YES_OR_NO:
        return _YES_OR_NO[text]
    return int(value) if isinstance(value, bool) else _whole(value)


_Rendered = tuple[list[str], list[str], int]


def _hellaswag(spec: TaskSpec, fields: _Fields) -> _Rendered:
    if "endings" not in fields.values and {"query", "choices", "gold"} <= set(fields.values):  # as the harness made it
        if spec.scoring == "nanogpt":
            raise fields.error("has no fields 'ctx' and 'endings', which scoring 'nanogpt' reads: use 'lm-eval'")
        return _multiple_choice(spec, fields)
    endings, gold = fields.texts("endings"), fields.number("label")
    if spec.scoring == "nanogpt":
        return [fields.text("ctx")], endings, gold
    label, before, after = (fields.text(name, may_be_empty=True) for name in ("activity_label", "ctx_a", "ctx_b"))
    if not (before + after).strip():
        raise fields.error("has nothing in fields 'ctx_a' and 'ctx_b': the item has no question")
    return [_cleaned(f"{label}: {before} {after.capitalize()}")], [_cleaned(ending) for ending in endings], gold


def _cleaned(text: str) -> str:
    """Brackets are left over from WikiHow's pages."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _lambada(spec: TaskSpec, fields: _Fields) -> _Rendered:
    context, _, last = fields.text("text").rpartition(" ")
    return [context], [last], 0


def _arc(spec: TaskSpec, fields: _Fields) -> _Rendered:
    question, texts, gold = _labelled_choices(fields, "question")
    return [f"Question: {question}\nAnswer:"], texts, gold


def _openbookqa(spec: TaskSpec, fields: _Fields) -> _Rendered:
    question, texts, gold = _labelled_choices(fields, "question_stem")
    return [question], texts, gold


def _labelled_choices(fields: _Fields, name: str) -> tuple[str, list[str], int]:
    """(question, texts of the choices, index of answerKey); AI2's own files nest stem and choices in `question`.

    Choices without labels are A, B and so on, as they are wherever the answer is a letter.
    """
    nested = fields.values.get("question")
    inner = nested if isinstance(nested, dict) else fields.values
    question = inner.get("stem") if isinstance(nested, dict) else fields.text(name)
    choices = _by_part(inner.get("choices"))
    if fields.values.get("choices") is not None and _by_part(fields.values["choices"]) != choices:
        raise fields.error("has other choices in 'choices' than in 'question'")
    texts, labels = (choices.get("text"), choices.get("label")) if isinstance(choices, dict) else (None, None)
    paired = isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels) > 0
    if not paired or not all(isinstance(text, str) for text in texts or ()) or not isinstance(question, str):
        raise fields.error("has no question with choices that have `text` and `label`")
    assert texts is not None and labels is not None  # both are lists here
    if not question.strip():
        raise fields.error("has nothing in its question")
    fields.labels = labels
    return question, texts, _named_answer(fields, labels, texts, "answerKey", "answer")


def _named_answer(fields: _Fields, labels: list[Any], texts: list[str], *names: str) -> int:
    """The choice that the first of these fields that is there names by label or text; never by number."""
    used = next((name for name in names if not is_absent(fields.values.get(name))), None)
    if used is None:
        raise fields.error(f"has no `{names[0]}`: it may be of a test split without answers")
    fields.used, key = used, single(fields.values[used])
    found = choices_named(key, labels, texts)
    if not found:
        raise fields.error(f"has the {used} {key!r}, which is none of its labels {', '.join(map(str, labels))}"[:300])
    if len(found) > 1:
        raise fields.error(f"has the label {key!r} of its {used} more than once")
    return found[0]


def _by_part(choices: Any) -> Any:
    """{text: [...], label: [...]} of a list of {text, label}, or of texts; anything else as it is."""
    if not isinstance(choices, list):
        return choices
    if 0 < len(choices) <= len(LETTERS) and all(isinstance(text, str) for text in choices):
        return {"text": choices, "label": list(LETTERS[: len(choices)])}
    if all(isinstance(choice, dict) for choice in choices):
        return {part: [choice.get(part) for choice in choices] for part in ("text", "label")}
    return choices


def _piqa(spec: TaskSpec, fields: _Fields) -> _Rendered:
    choices = [fields.text(name, may_be_empty=True) for name in ("sol1", "sol2")]
    return [f"Question: {fields.text('goal')}\nAnswer:"], choices, fields.number("label")


def _winogrande(spec: TaskSpec, fields: _Fields) -> _Rendered:
    before, blank, after = fields.text("sentence").partition("_")
    if not blank or "_" in after:
        raise fields.error("has no `_` in its sentence" if not blank else "has more than one `_` in its sentence")
    contexts = [before + fields.text(option) for option in ("option1", "option2")]
    answer = fields.number("answer")
    if answer not in (1, 2):
        raise fields.error(f"has the answer {answer}, which is neither 1 nor 2")
    return contexts, [after.strip()], answer - 1


def _sciq(spec: TaskSpec, fields: _Fields) -> _Rendered:
    names = ("distractor1", "distractor2", "distractor3", "correct_answer")
    support = fields.values.get("support") or ""
    if not isinstance(support, str):
        raise fields.error("has no text in field 'support'")
    context = f"{support.lstrip()}\nQuestion: {fields.text('question')}\nAnswer:"
    fields.used = "correct_answer"
    return [context], [fields.text(name, may_be_empty=True) for name in names], 3


def _boolq(spec: TaskSpec, fields: _Fields) -> _Rendered:
    context = f"{fields.text('passage')}\nQuestion: {fields.text('question')}?\nAnswer:"
    return [context], ["no", "yes"], fields.number("label", "answer", yes_or_no=True)


def _mmlu(spec: TaskSpec, fields: _Fields) -> _Rendered:
    """The harness's prompt names the subject and scores the letters."""
    if "subject" not in fields.values:
        raise fields.error(
            "has no field 'subject', which MMLU's prompt names: add it, or rename the fields query, choices and gold "
            "for the task multiple_choice"
        )
    texts, subject = fields.texts("choices"), fields.text("subject").replace("_", " ")
    if len(texts) != 4:
        raise fields.error(f"has {len(texts)} choices, and a question of MMLU has 4")
    letters = list(LETTERS[:4])
    answer, fields.labels = single(fields.values.get("answer")), letters
    if isinstance(answer, str) and not answer.strip().isdigit():
        gold = _named_answer(fields, letters, texts, "answer")
    else:
        gold = fields.number("answer")
    options = "".join(f"{letter}. {text}\n" for letter, text in zip(letters, texts, strict=True))
    front = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return [f"{front}{fields.text('question').strip()}\n{options}Answer:"], letters, gold


def _multiple_choice(spec: TaskSpec, fields: _Fields) -> _Rendered:
    return [fields.text("query")], fields.texts("choices"), fields.number("gold")


def _schema(spec: TaskSpec, fields: _Fields) -> _Rendered:
    contexts = fields.texts("context_options")
    if len(contexts) < 2:
        raise fields.error("has fewer than two `context_options`")
    return contexts, [fields.text("continuation", may_be_empty=True)], fields.number("gold")


def _language_modeling(spec: TaskSpec, fields: _Fields) -> _Rendered:
    return [fields.text("context")], [fields.text("continuation", may_be_empty=True)], 0


_RENDER: dict[str, Callable[[TaskSpec, _Fields], _Rendered]] = {
    "hellaswag": _hellaswag,
    "lambada": _lambada,
    "arc": _arc,
    "piqa": _piqa,
    "winogrande": _winogrande,
    "openbookqa": _openbookqa,
    "sciq": _sciq,
    "boolq": _boolq,
    "mmlu": _mmlu,
    "multiple_choice": _multiple_choice,
    "schema": _schema,
    "language_modeling": _language_modeling,
}
