"""Description of a task: how its items are rendered, encoded and scored.

Owns the names of tasks, renderings and scoring conventions, and which of them fit together. Standard library only: the
settings and the sniffing use it. Never reads a file.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

MULTIPLE_CHOICE, SCHEMA, LANGUAGE_MODELING = "multiple_choice", "schema", "language_modeling"
#: Rendering of already tokenised items: llm.c's `hellaswag_val.bin`.
TOKENS = "tokens"
#: rendering -> kind of its items
RENDERINGS = {
    "hellaswag": MULTIPLE_CHOICE,
    "lambada": LANGUAGE_MODELING,
    "arc": MULTIPLE_CHOICE,
    "piqa": MULTIPLE_CHOICE,
    "winogrande": SCHEMA,
    "openbookqa": MULTIPLE_CHOICE,
    "sciq": MULTIPLE_CHOICE,
    "boolq": MULTIPLE_CHOICE,
    "mmlu": MULTIPLE_CHOICE,
    "multiple_choice": MULTIPLE_CHOICE,
    "schema": SCHEMA,
    "language_modeling": LANGUAGE_MODELING,
    TOKENS: MULTIPLE_CHOICE,
}
#: task name, as in `--task` and `[[eval]] task` -> rendering
TASKS = {
    "hellaswag": "hellaswag",
    "lambada": "lambada",
    "arc_easy": "arc",
    "arc_challenge": "arc",
    "arc": "arc",
    "piqa": "piqa",
    "winogrande": "winogrande",
    "openbookqa": "openbookqa",
    "sciq": "sciq",
    "boolq": "boolq",
    "mmlu": "mmlu",
    "multiple_choice": "multiple_choice",
    "schema": "schema",
    "language_modeling": "language_modeling",
}
SCORINGS = ("lm-eval", "nanogpt", "core")
_GENERIC = ("multiple_choice", "schema", "language_modeling")


@dataclass(frozen=True)
class TaskSpec:
    """How the items of an eval set are rendered, encoded and scored.

    name: the task in the results; not in the digest. rendering: a key of RENDERINGS, which also says the fields of an
    item. scoring: lm-eval | nanogpt | core. shots: examples before each item (core only). delimiter: between context
    and continuation. bos: put the tokenizer's beginning-of-text token first; None: as the scoring does (core: always).
    max_items: keep N items. random_baseline: accuracy by chance, a share between 0 and 1; None: from the number of
    choices. labels_digest: `sha256:...` of a file of labels beside the items, where there is one.
    """

    name: str
    rendering: str
    scoring: str = "lm-eval"
    shots: int = 0
    delimiter: str = " "
    bos: bool | None = None
    max_items: int | None = None
    random_baseline: float | None = None
    labels_digest: str = ""

    @property
    def kind(self) -> str:
        """multiple_choice | schema | language_modeling."""
        return RENDERINGS[self.rendering]

    def declared(self) -> dict[str, Any]:
        """What moves a score, for the digest."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return fields


def default_scoring(rendering: str) -> str:
    """core for MosaicML / CORE items, nanogpt for tokenised items, else lm-eval."""
    return "core" if rendering in _GENERIC else "nanogpt" if rendering == TOKENS else "lm-eval"


def task_spec(task: str, *, scoring: str | None = None, **fields: Any) -> TaskSpec:
    """The description of a task by its name (a key of TASKS, or `tokens`) with the defaults filled in.

    fields: those of TaskSpec; None leaves the default. Raises ValueError, with a sentence, for what does not fit.
    """
    rendering = TOKENS if task == TOKENS else TASKS.get(task)
    if rendering is None:
        raise ValueError(f"task {task!r} is not known; use one of {', '.join(TASKS)}")
    given = {name: value for name, value in fields.items() if value is not None}
    spec = TaskSpec(task, rendering, scoring or default_scoring(rendering), **given)
    if (problem := problem_of(spec)) is not None:
        raise ValueError(problem)
    return spec


def problem_of(spec: TaskSpec) -> str | None:
    """Why this description cannot be measured, as a sentence with a remedy; None where it can."""
    if spec.rendering not in RENDERINGS:
        return f"rendering {spec.rendering!r} is not known; use one of {', '.join(RENDERINGS)}"
    if spec.scoring not in SCORINGS:
        return f"scoring {spec.scoring!r} is not known; use one of {', '.join(SCORINGS)}"
    if spec.rendering == TOKENS and spec.scoring != "nanogpt":
        return f"tokenised items have no text for scoring {spec.scoring!r}; use scoring 'nanogpt', or the .jsonl file"
    if spec.rendering == TOKENS and spec.bos:
        return "tokenised items have no place for a beginning-of-text token; leave `bos` out, or use the .jsonl file"
    if spec.shots < 0:
        return f"shots is {spec.shots}; it must be at least 0"
    if spec.shots and spec.scoring == "lm-eval":
        return (
            f"shots = {spec.shots} with scoring 'lm-eval': its examples come from a training split that the file does "
            "not hold; use scoring 'core', which takes them from the same file, or shots = 0"
        )
    if spec.shots and spec.scoring == "nanogpt":
        return f"shots = {spec.shots} with scoring 'nanogpt', which has none; use scoring 'core', or shots = 0"
    if spec.max_items is not None and spec.max_items < 1:
        return f"max_items is {spec.max_items}; it must be at least 1"
    if spec.random_baseline is not None and not 0 <= spec.random_baseline < 1:
        return f"random_baseline is {spec.random_baseline}; it must be a share of at least 0 and below 1"
    return None
